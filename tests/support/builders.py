"""Messages for tests: each has all that is required of it, and a test says what matters to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from stream.messages import Decision, Label, Transaction

START = datetime(2026, 1, 5, tzinfo=UTC)
"""A Monday."""


def payment(
    name: str | int,
    hours: float = 0.0,
    *,
    days: float = 0.0,
    minutes: float = 0.0,
    start: datetime = START,
    card: str = "c1",
    merchant: str = "m1",
    amount: int = 1000,
    **optional: Any,
) -> Transaction:
    """A payment some time after the start.

    Args:
        name: its id; the number 7 is ``t7``.
        amount: minor units.

    >>> payment(7, days=1, country="FR").event_time.isoformat()
    '2026-01-06T00:00:00+00:00'
    """
    return Transaction(
        transaction_id=_id(name),
        event_time=start + timedelta(days=days, hours=hours, minutes=minutes),
        card_id=card,
        merchant_id=merchant,
        amount_minor=amount,
        currency="EUR",
        **optional,
    )


def label(
    name: str | int,
    hours: float = 0.0,
    *,
    fraud: bool = True,
    days: float = 0.0,
    minutes: float = 0.0,
    start: datetime = START,
    source: str = "bank",
) -> Label:
    """A label that became known some time after the start.

    >>> label(7, fraud=False, hours=2).transaction_id
    't7'
    """
    known = start + timedelta(days=days, hours=hours, minutes=minutes)
    return Label(transaction_id=_id(name), is_fraud=fraud, known_at=known, source=source)


def decision(paid: Transaction, **changed: Any) -> Decision:
    """A decision of a payment: approved, at its own time, with no reason, unless a test says otherwise.

    >>> decision(payment(7), score=0.9, action="review").action
    'review'
    """
    taken = {name: getattr(paid, name) for name in Decision.__struct_fields__ if hasattr(paid, name)}
    made = {"score": 0.1, "action": "approve", "reasons": [], "model_version": "v"}
    return Decision(**(taken | made | {"decided_at": paid.event_time} | changed))


def _id(name: str | int) -> str:
    return f"t{name}" if isinstance(name, int) else name
