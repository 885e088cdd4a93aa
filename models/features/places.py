"""Where each feature of a specification stands in a row: worked out once, looked up for every payment."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

from models.features.spec import EntitySpec, FeatureSpec, Statistic, half_life_name
from models.features.vector import Layout

CATEGORICAL: Final = ("country", "category", "channel")


@dataclass
class NormPlaces:
    """The half-life a norm is of, and where its features stand."""

    half_life: int
    z: int
    ratio: int


@dataclass
class LabelPlaces:
    """Where the features of an entity's labels stand, and which half-lives they are of."""

    run: int
    recent: int
    since_first: int
    since_last: int
    run_age: int
    since_genuine: int
    frauds: tuple[int, int] | None  # of the first half-life of labels
    rate: tuple[int, int] | None  # of the last
    age: tuple[float, int] | None  # seconds for each halving of the ratio of the two; None with one half-life


@dataclass
class RecentPlaces:
    """Where the features that the last events give stand; None is what is not wanted."""

    visits: tuple[int, int] | None  # of the merchant, of the device
    cards: int | None
    travel: tuple[int, int, int] | None  # change of country, distance, speed


@dataclass
class KindPlaces:
    """Where the features of one kind of entity stand in a row: empty or None is what is not wanted of it.

    Pairs are of a half-life's place and a feature's.
    """

    norms: tuple[NormPlaces, ...]
    outliers: tuple[tuple[int, int], ...]
    counts: tuple[tuple[int, int], ...]
    since: tuple[int, int] | None  # first, last
    tempo: int | None
    labels: LabelPlaces | None
    recent: RecentPlaces | None


@dataclass
class Plan:
    """What a specification asks for: entities as (kind, fields, keep), and where each feature stands."""

    entities: tuple[tuple[str, tuple[str, ...], int], ...]
    kinds: dict[str, KindPlaces]
    layout: Layout
    span: float  # the longest half-life in units of the shortest


def _kind(entity: EntitySpec, spec: FeatureSpec, names: list[str]) -> KindPlaces:
    wanted = frozenset(entity.statistics)

    def place(name: str) -> int:
        names.append(f"{entity.kind}.{name}")
        return len(names) - 1

    def places(statistic: Statistic, name: str, half_lives: tuple[float, ...]) -> tuple[tuple[int, int], ...]:
        if statistic not in wanted:
            return ()
        return tuple(
            (spec.half_lives.index(each), place(f"{name}.{half_life_name(each)}")) for each in half_lives
        )

    # In the order in which models see them.
    outliers = places("norm", "outliers", spec.outlier_half_lives)
    norms = []
    for half_life in spec.norm_half_lives if "norm" in wanted else ():
        called = half_life_name(half_life)
        norms.append(
            NormPlaces(spec.half_lives.index(half_life), place(f"z.{called}"), place(f"ratio.{called}"))
        )
    counts = places("activity", "count", spec.count_half_lives)
    since = (place("since_first"), place("since_last")) if "activity" in wanted else None
    tempo = place("tempo") if "tempo" in wanted else None
    recent = None
    if wanted & {"novelty", "cards", "travel"}:
        recent = RecentPlaces(
            (place("merchant_visits"), place("device_visits")) if "novelty" in wanted else None,
            place("cards") if "cards" in wanted else None,
            (place("country_change"), place("distance"), place("speed")) if "travel" in wanted else None,
        )
    labels = None
    if "labels" in wanted:
        run, latest = place("fraud_run"), place("recent_frauds")
        sinces = (
            place("since_first_fraud"),
            place("since_last_fraud"),
            place("run_age"),
            place("since_genuine"),
        )
        half_lives = spec.label_half_lives
        frauds = next(iter(places("labels", "frauds", half_lives[:1])), None)
        rate = next(iter(places("labels", "fraud_rate", half_lives[-1:])), None)
        age = None
        if len(half_lives) > 1:
            age = 1.0 / (1.0 / half_lives[0] - 1.0 / half_lives[-1]), place("fraud_age")
        labels = LabelPlaces(run, latest, *sinces, frauds, rate, age)
    return KindPlaces(tuple(norms), outliers, counts, since, tempo, labels, recent)


@functools.lru_cache(maxsize=16)
def plan_of(spec: FeatureSpec) -> Plan:
    """The plan of a specification; made once for each."""
    names = ["amount", "hour", "weekday"]
    kinds = {entity.kind: _kind(entity, spec, names) for entity in spec.entities}
    return Plan(
        tuple((entity.kind, entity.fields, entity.max_recent) for entity in spec.entities),
        kinds,
        Layout(tuple(names), CATEGORICAL, spec.categories),
        spec.half_lives[-1] / spec.half_lives[0],
    )
