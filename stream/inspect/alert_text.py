"""An alert as lines of text for people."""

from __future__ import annotations

from datetime import UTC

import click

from models.features.currencies import EXPONENTS, major_units
from stream.messages import Alert

REASONS = 3


def line(alert: Alert) -> str:
    """An alert for people: one line, and its strongest reasons below."""
    time = alert.event_time.astimezone(UTC)
    colour = {"decline": "red", "review": "yellow"}.get(alert.action)
    head = (
        f"{time:%Y-%m-%d %H:%M:%S}  {click.style(f'{alert.action:<7}', fg=colour, bold=True)}  "
        f"{alert.score:6.1%}  {money(alert.amount_minor, alert.currency):>14}  "
        f"card {alert.card_id}  merchant {alert.merchant_id}  ({alert.model_version})"
    )
    reasons = [reason.text for reason in alert.reasons if reason.contribution > 0][:REASONS]
    return "\n".join([head, *(f"    {text}" for text in reasons)])


def money(minor: int, currency: str) -> str:
    """An amount in major units.

    >>> money(123456, "EUR"), money(500, "JPY")
    ('1,234.56 EUR', '500 JPY')
    """
    digits = EXPONENTS.get(currency, 2)
    return f"{major_units(minor, currency):,.{digits}f} {currency}"
