"""A feature and its value as a sentence for an analyst."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

Sentence = Callable[[str, str, float], str]  # of entity, half-life and value


def span(seconds: float) -> str:
    """A duration in words.

    >>> span(90.0), span(7200.0), span(172800.0)
    ('2 minutes', '2 hours', '2 days')
    """
    for length, unit in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")):
        if seconds >= length:
            count = round(seconds / length)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "less than a minute"


def _z(entity: str, _: str, value: float) -> str:
    side = "above" if value >= 0 else "below"
    return f"Amount is {abs(value):.1f} deviations {side} this {entity}'s norm"


def _times(entity: str, _: str, value: float) -> str:
    return f"Amount is {value:.3g} times what this {entity} usually sees"


SENTENCES: dict[str, Sentence] = {
    "z": _z,
    "ratio": _times,
    "outliers": lambda entity, period, value: (
        f"This {entity} had about {value:.1f} unusually high amounts lately (half-life {period})"
    ),
    "count": lambda entity, period, value: (
        f"This {entity} had about {value:.1f} events lately (half-life {period})"
    ),
    "tempo": lambda entity, _, value: f"This {entity} is {value:.1f} times as busy as usual",
    "since_first": lambda entity, _, value: f"This {entity} was first seen {span(value)} ago",
    "since_last": lambda entity, _, value: f"The last event of this {entity} was {span(value)} ago",
    "fraud_run": lambda entity, _, value: (
        f"The latest {value:.0f} labelled events of this {entity} are all fraud"
        if value >= 1
        else f"The latest labelled event of this {entity} is genuine"
    ),
    "recent_frauds": lambda entity, _, value: (
        f"Of the latest five labelled events of this {entity}, {value:.0f} are fraud"
    ),
    "fraud_rate": lambda entity, period, value: (
        f"About {value:.0%} of this {entity}'s confirmed events were fraud (half-life {period})"
    ),
    "frauds": lambda entity, period, value: (
        f"This {entity} had about {value:.1f} confirmed frauds lately (half-life {period})"
    ),
    "since_first_fraud": lambda entity, _, value: (
        f"The earliest fraud among the latest labelled events of this {entity} was {span(value)} ago"
    ),
    "since_last_fraud": lambda entity, _, value: (
        f"The last confirmed fraud of this {entity} was {span(value)} ago"
    ),
    "since_genuine": lambda entity, _, value: (
        f"The latest payment of this {entity} known to be genuine was {span(value)} ago"
    ),
    "fraud_age": lambda entity, _, value: (
        f"The confirmed frauds of this {entity} are {span(value)} old on average"
    ),
    "run_age": lambda entity, _, value: (
        f"All labelled events of this {entity} since {span(value)} ago are fraud"
    ),
    "cards": lambda entity, _, value: f"The last events of this {entity} came from {value:.0f} card(s)",
    "merchant_visits": lambda entity, _, value: (
        f"The merchant is among the last events of this {entity}"
        if value
        else f"The merchant is new among the last events of this {entity}"
    ),
    "device_visits": lambda entity, _, value: (
        f"The device is among the last events of this {entity}"
        if value
        else f"The device is new among the last events of this {entity}"
    ),
    "country_change": lambda entity, _, value: (
        f"The country {'differs from' if value else 'is that of'} the last event of this {entity}"
    ),
    "distance": lambda entity, _, value: f"Place is {value:.0f} km from the last event of this {entity}",
    "speed": lambda entity, _, value: f"Speed is {value:.0f} km/h since the last event of this {entity}",
}

WHOLE: dict[str, Callable[[float], str]] = {
    "amount": lambda value: f"Amount is {value:,.2f}",
    "hour": lambda value: f"Time of day is {int(value):02d}:{int(value % 1 * 60):02d} UTC",
    "weekday": lambda value: f"Day is a {DAYS[int(value) % 7]}",
}


@functools.lru_cache(maxsize=4096)
def _parts(name: str) -> tuple[str, str, str]:
    entity, _, rest = name.partition(".")
    statistic, _, period = rest.partition(".")
    return entity, statistic, period


def feature_reason(name: str, x: Mapping[str, float]) -> str:
    """What an analyst reads for a feature.

    >>> feature_reason("card.z.30d", {"card.z.30d": 4.23})
    "Amount is 4.2 deviations above this card's norm"
    """
    if "=" in name:
        field, _, bucket = name.partition("=")
        return f"The {field} of this payment (group {bucket})"
    entity, statistic, period = _parts(name)
    value = x.get(name)
    if value is None:
        what = statistic.replace("_", " ") or entity
        return f"Nothing is known of {what}{f' of this {entity}' if statistic else ''}"
    if name in WHOLE:
        return WHOLE[name](value)
    if sentence := SENTENCES.get(statistic):
        return sentence(entity, period, value)
    return f"{name} is {value:.4g}"
