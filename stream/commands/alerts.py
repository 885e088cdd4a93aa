"""riverwatch alerts: what needs action, as it comes."""

from __future__ import annotations

import heapq
import sys
from datetime import UTC

import click

from stream.commands.options import CONNECTION, with_settings
from stream.currencies import EXPONENTS
from stream.messages import Alert, alert_decoder
from stream.settings import Settings

REASONS = 3


@click.command()
@click.option("--follow", is_flag=True, help="Go on with new ones until Ctrl-C.")
@click.option("--last", type=click.IntRange(min=0), default=20, show_default=True, help="How many past ones.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as on the topic.")
@with_settings(*CONNECTION)
def alerts(settings: Settings, follow: bool, last: int, as_json: bool) -> None:
    """Show alerts: decisions to review or decline, with their reasons. Each alert is shown once."""
    from stream.adapters.kafka_reader import TopicReader  # noqa: PLC0415 - `--help` stays instant

    with TopicReader(settings, settings.topic("alerts")) as reader:
        bounds = reader.bounds()
        ends = {number: high for number, (_, high) in bounds.items()}
        starts = {number: max(low, high - last) for number, (low, high) in bounds.items()}
        past = (
            heapq.nlargest(
                last, reader.until_end(from_offsets=starts), key=lambda record: record.timestamp_ms
            )
            if last
            else []
        )
        seen: set[str] = set()
        for record in reversed(past):
            show(record.value or b"", as_json, seen)
        if not follow:
            return
        reader.start(ends)
        try:
            while True:
                for record in reader.poll(0.2):
                    show(record.value or b"", as_json, seen)
        except KeyboardInterrupt:
            return


def show(value: bytes, as_json: bool, seen: set[str]) -> None:
    """Print an alert, unless it was seen."""
    alert = alert_decoder.decode(value)
    if alert.alert_id in seen:
        return
    seen.add(alert.alert_id)
    if as_json:
        sys.stdout.write(value.decode() + "\n")
        sys.stdout.flush()
    else:
        click.echo(line(alert))


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
    return f"{minor / 10**digits:,.{digits}f} {currency}"
