"""What features cost, measured: the functions of the workers on an entity of which everything is known."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from models.features.compute import event_of, features_of
from models.features.descriptions import (
    EVENTS,
    Listed,
    example,
    example_features,
    features_listed,
    snapshots_of,
    statistic_alone,
)
from models.features.profiles import apply_event
from models.features.spec import FeatureSpec

CALLS = 400
ROUNDS = 7
MILLION = 1e6


class Priced(NamedTuple):
    """A feature and its cost: its share of that of the statistic it belongs to, microseconds an event."""

    feature: Listed
    microseconds: float


class Prices(NamedTuple):
    """What a spec costs, microseconds an event.

    Attributes:
        profiles: by kind of entity: updating its profile.
        features: all of them together.
    """

    listed: list[Priced]
    profiles: dict[str, float]
    features: float


def prices(spec: FeatureSpec) -> Prices:
    """Measure what a spec costs on this machine; a second or so."""
    costs: dict[str, float] = {}
    for entity in spec.entities:
        bare = statistic_alone(spec, entity, None)
        nothing = _features(bare)
        for statistic in entity.statistics:
            alone = statistic_alone(spec, entity, statistic)
            names = [name for name in example_features(alone) if name.startswith(f"{entity.kind}.")]
            share = max(_features(alone) - nothing, 0.0) / max(len(names), 1)
            costs |= dict.fromkeys(names, share)
    return Prices(
        [Priced(one, costs.get(one.name, 0.0)) for one in features_listed(spec)],
        {entity.kind: _update(spec, at) for at, entity in enumerate(spec.entities)},
        _features(spec),
    )


def _features(spec: FeatureSpec) -> float:
    payment = example(EVENTS)
    event = event_of(payment, spec)
    kinds, snapshots = snapshots_of(spec)
    return _timed(lambda: features_of(payment, event, kinds, snapshots, spec))


def _update(spec: FeatureSpec, place: int) -> float:
    _, snapshots = snapshots_of(spec)
    event, max_recent, profile = (
        event_of(example(EVENTS), spec),
        spec.entities[place].max_recent,
        snapshots[place].profile,
    )
    return _timed(lambda: apply_event(profile, event, max_recent))


def _timed(call: Callable[[], object]) -> float:
    """Microseconds of a call, the best of some rounds: what is more was something else on the machine."""
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for _ in range(CALLS):
            call()
        best = min(best, time.perf_counter() - begun)
    return best / CALLS * MILLION
