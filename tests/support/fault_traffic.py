"""Traffic in which every step of every worker has something to do, and the settings that see to it."""

from __future__ import annotations

from stream.messages import Label, Transaction
from tests.support.builders import label, payment
from tests.support.installation import Installation

CHANGED = {
    "maturity": "2d",
    "label_wait": "1d",
    "negative_sampling_rate": 0.3,
    "batch_size": 50,
    "snapshot_interval": "20ms",
}
_APART = 20.0  # minutes
_FOLLOWED = (("score", "transactions"), ("learn", "scores"), ("learn", "labels"))


def traffic(start: int, end: int) -> list[Transaction | Label]:
    """Payments, labels of earlier and of later ones, and labels of none."""
    items: list[Transaction | Label] = []
    for number in range(start, end):
        amount = 100 + number * 7919 % 9000
        card, merchant = f"c{number % 37}", f"m{number % 11}"
        items.append(payment(number, minutes=_APART * number, card=card, merchant=merchant, amount=amount))
        if number % 2 == 0 and number >= 40:
            items.append(_reported(number - 40))
        if number % 7 == 0:
            items.append(_reported(number + 60, days=0.1))
        if number % 10 == 0:
            items.append(_reported(number, name=f"nobody{number}", days=-1.0))
    return items


def caught_up(system: Installation, most: int = 0) -> bool:
    """Whether the workers have acknowledged all but so many messages of each topic."""
    return all(system.behind(role, topic) <= most for role, topic in _FOLLOWED)


def _reported(number: int, *, name: str | None = None, days: float = 1.0) -> Label:
    minutes, fraud = _APART * number, number % 5 == 0
    return label(name or number, fraud=fraud, minutes=minutes, days=days, source="analyst")
