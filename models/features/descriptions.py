"""What every feature of a spec means: its entity, its unit, its half-life.

Which features a spec gives is found by computing them for an entity of which everything is known, so this
list cannot disagree with what models see.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from models.features.compute import Features, entities_of, event_of, features_of, label_delta_of
from models.features.profiles import ProfileSnapshot, apply_event, apply_label, empty, no_labels
from models.features.spec import EntitySpec, FeatureSpec, SpecError

EVENTS = 40  # of the example: enough for every statistic to be known

MEANINGS: dict[str, tuple[str, str]] = {
    "amount": ("the amount", "major units"),
    "hour": ("time of day, UTC", "hours"),
    "weekday": ("day of the week, 0 is Monday", "days"),
    "country": ("the country is in this group", "0 or 1"),
    "category": ("the merchant's category is in this group", "0 or 1"),
    "channel": ("the channel is in this group", "0 or 1"),
    "z": ("the log-amount against its own mean and deviation", "deviations"),
    "ratio": ("the amount against its own mean of log-amounts", "times"),
    "outliers": ("unusually high amounts lately, decayed", "events"),
    "count": ("events lately, decayed", "events"),
    "tempo": ("events of late against what is usual for it", "times"),
    "since_first": ("time since its first event", "seconds"),
    "since_last": ("time since its last event", "seconds"),
    "fraud_run": ("how many of its latest labelled events in a row are fraud, at most 32", "events"),
    "run_age": ("time since the current run of frauds began", "seconds"),
    "recent_frauds": ("frauds among its latest five labelled events", "events"),
    "fraud_rate": ("share of frauds among its confirmed events, decayed", "0 to 1"),
    "fraud_age": ("mean age of its confirmed frauds, weighted to the recent", "seconds"),
    "frauds": ("confirmed frauds lately, decayed", "events"),
    "since_first_fraud": ("time since the earliest fraud among its latest 32 labelled events", "seconds"),
    "since_genuine": ("time since the latest genuine among its latest 32 labelled events", "seconds"),
    "since_last_fraud": ("time since the latest fraud among its latest 32 labelled events", "seconds"),
    "cards": ("different cards among its last events", "cards"),
    "merchant_visits": ("of its last events, those at this merchant", "events"),
    "device_visits": ("of its last events, those from this device", "events"),
    "country_change": ("another country than at its last event", "0 or 1"),
    "distance": ("from the place of its last event", "kilometres"),
    "speed": ("needed from the place of its last event", "kilometres an hour"),
}


class Listed(NamedTuple):
    """A feature of a spec.

    Attributes:
        entity: `event` where it rests on the payment alone.
        half_life: empty where nothing decays.
    """

    name: str
    meaning: str
    entity: str
    unit: str
    half_life: str


class Example(NamedTuple):
    """A payment with every field, of which everything is known."""

    transaction_id: str
    event_time: datetime
    amount_minor: int
    country: str
    latitude: float
    card_id: str = "card"
    merchant_id: str = "merchant"
    currency: str = "EUR"
    device_id: str = "device"
    ip: str = "192.0.2.1"
    category: str = "books"
    channel: str = "ecommerce"
    longitude: float = 4.35
    attributes: Mapping[str, float | str] = {}


def example(number: int) -> Example:
    """The payment of that number; each is six hours after the one before."""
    return Example(
        f"t{number}",
        datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=6 * number),
        1000 + 37 * (number % 5),
        "BE" if number % 2 else "FR",
        50.85 + number % 2,
    )


def snapshots_of(
    spec: FeatureSpec, events: int = EVENTS
) -> tuple[tuple[str, ...], tuple[ProfileSnapshot, ...]]:
    """Kinds of entities, and what is known of each after the example's payments."""
    half_lives = len(spec.half_lives)
    entities = entities_of(example(0), spec)
    known = {kind: ProfileSnapshot(empty(half_lives), no_labels(half_lives)) for kind, _, _ in entities}
    for number in range(events):
        event = event_of(example(number), spec)
        delta = label_delta_of(f"t{number}", event.time, number % 4 == 0 or number > events - 3, spec)
        known = {
            kind: ProfileSnapshot(
                apply_event(known[kind].profile, event, max_recent), apply_label(known[kind].labels, delta)
            )
            for kind, _, max_recent in entities
        }
    return tuple(known), tuple(known.values())


def example_features(spec: FeatureSpec) -> Features:
    """Every feature of a spec, for the example."""
    payment = example(EVENTS)
    return features_of(payment, event_of(payment, spec), *snapshots_of(spec), spec)


def features_listed(spec: FeatureSpec) -> list[Listed]:
    """Every feature that a spec gives, in the order in which models see it."""
    return [_listed(name) for name in example_features(spec)]


def _listed(name: str) -> Listed:
    field, equals, _ = name.partition("=")
    if equals:
        meaning, unit = MEANINGS[field]
        return Listed(f"{field}=N", meaning, "event", unit, "")
    entity, dot, rest = name.partition(".")
    if not dot:
        meaning, unit = MEANINGS[name]
        return Listed(name, meaning, "event", unit, "")
    statistic, _, half_life = rest.partition(".")
    meaning, unit = MEANINGS.get(statistic, (statistic.replace("_", " "), ""))
    return Listed(name, meaning, entity, unit, half_life)


def check_crosses(spec: FeatureSpec) -> None:
    """Refuse a cross of what no entity gives: it would silently never be seen.

    Raises:
        SpecError: names it, and what may have been meant.
    """
    names = [name for name in example_features(spec) if "=" not in name]
    for cross in spec.crosses:
        for name in cross:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f"did you mean {near[0]}?" if near else "`riverwatch features` lists what there is"
                raise SpecError(f"crosses: no feature is named {name}; {hint}")


def statistic_alone(spec: FeatureSpec, entity: EntitySpec, statistic: str | None) -> FeatureSpec:
    """A spec with one entity, and one of its statistics or none: to tell what it costs."""
    wanted = () if statistic is None else (statistic,)
    only = msgspec.structs.replace(entity, statistics=wanted)
    return msgspec.structs.replace(spec, entities=(only,), crosses=())
