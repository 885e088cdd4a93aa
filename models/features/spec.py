"""Which entities an event updates and which of their statistics become features."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

HOUR = 3_600.0
DAY = 86_400.0

Statistic = Literal["norm", "activity", "tempo", "labels", "cards", "novelty", "travel"]


class SpecError(ValueError):
    """A feature spec that cannot be used; the message names the key."""


class EntitySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of entity.

    Attributes:
        kind: its name in stores, features and reasons.
        fields: of the payment; several make a pair (`card_id`, `merchant_id`).
        max_recent: how many of its last events are kept, 0 to 50.
        statistics: what becomes features of it:
            `norm`: the amount against the entity's own mean and deviation, its earlier outliers;
            `activity`: counts, age, time since the last event;
            `tempo`: events of late against what is usual;
            `labels`: its confirmed frauds;
            `cards`: how many cards its last events came from;
            `novelty`: whether merchant and device were among its last events;
            `travel`: distance, speed and change of country since its last event.
    """

    kind: str
    fields: tuple[str, ...]
    max_recent: int = 0
    statistics: tuple[Statistic, ...] = ("norm", "activity", "tempo", "labels")


class FeatureSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, cache_hash=True):
    """What the features are made of.

    Attributes:
        half_lives: of all profiles, seconds, > 0, rising.
        count_half_lives: those whose counts of events become features (a subset).
        norm_half_lives: those whose norm an amount is compared with (a subset).
        outlier_half_lives: those whose counts of outliers become features (a subset).
        label_half_lives: those whose label statistics become features (a subset): the count of frauds of the
            first, the rate of the last; the ratio of the two tells how old the frauds are.
        entities: the kinds of entities, in the order in which they are read.
        crosses: two or three features whose bins the model also sees together.
        bins: bins of a numeric feature, at most, 2 to 62.
        coarse_bins: of a feature in a cross, at most, 2 to 62.
        categories: buckets a categorical input is hashed into, 1 to 1024.
    """

    half_lives: tuple[float, ...] = (HOUR, DAY, 7 * DAY, 30 * DAY)
    count_half_lives: tuple[float, ...] = (HOUR, DAY)
    norm_half_lives: tuple[float, ...] = (30 * DAY,)
    outlier_half_lives: tuple[float, ...] = (7 * DAY, 30 * DAY)
    label_half_lives: tuple[float, ...] = (7 * DAY, 30 * DAY)
    entities: tuple[EntitySpec, ...] = (
        EntitySpec("card", ("card_id",), 10, ("norm", "activity", "tempo", "labels", "novelty", "travel")),
        EntitySpec("merchant", ("merchant_id",), 0, ("norm", "tempo", "labels")),
        EntitySpec("device", ("device_id",), 10, ("activity", "tempo", "labels", "cards")),
    )
    crosses: tuple[tuple[str, ...], ...] = (
        ("merchant.fraud_run", "merchant.run_age", "card.ratio.30d"),
        ("merchant.run_age", "merchant.since_genuine"),
        ("merchant.since_first_fraud", "merchant.since_last_fraud"),
        ("card.outliers.7d", "card.ratio.30d", "amount"),
        ("card.outliers.30d", "card.ratio.30d"),
    )
    bins: int = 20
    coarse_bins: int = 8
    categories: int = 64

    def __post_init__(self) -> None:
        """Check what types cannot say."""
        for key, wrong in _faults(self):
            raise SpecError(f"{key}: {wrong}")


KEY_FIELDS = ("card_id", "merchant_id", "device_id", "ip", "country", "category", "channel", "currency")
MAX_RECENT = 50
MIN_BINS = 2
MAX_BINS = 62
CROSSED = (2, 3)
MAX_CATEGORIES = 1024


def _faults(spec: FeatureSpec) -> Iterator[tuple[str, str]]:
    """Each key that is wrong, and how."""
    half_lives = spec.half_lives
    if not half_lives or min(half_lives) <= 0 or list(half_lives) != sorted({*half_lives}):
        yield "half_lives", f"needs rising values above 0 (seconds), got {half_lives}"
    for key in ("count_half_lives", "norm_half_lives", "outlier_half_lives", "label_half_lives"):
        if unknown := sorted({*getattr(spec, key)} - {*half_lives}):
            yield key, f"{unknown} not among half_lives {half_lives}"
    for key in ("bins", "coarse_bins"):
        if not MIN_BINS <= getattr(spec, key) <= MAX_BINS:
            yield key, f"{MIN_BINS} to {MAX_BINS}, got {getattr(spec, key)}"
    for cross in spec.crosses:
        if len(cross) not in CROSSED:
            yield "crosses", f"two or three features each, got {cross}"
    if not 1 <= spec.categories <= MAX_CATEGORIES:
        yield "categories", f"1 to {MAX_CATEGORIES}, got {spec.categories}"
    yield from _entity_faults(spec.entities)


def _entity_faults(entities: tuple[EntitySpec, ...]) -> Iterator[tuple[str, str]]:
    kinds = [entity.kind for entity in entities]
    if len({*kinds}) != len(kinds):
        yield "entities", f"a kind stands twice in {kinds}"
    for entity in entities:
        key = f"entities.{entity.kind}"
        if unknown := sorted({*entity.fields} - {*KEY_FIELDS}):
            yield f"{key}.fields", f"unknown {unknown}; known are {KEY_FIELDS}"
        if not entity.kind or not entity.fields:
            yield key, "needs a kind and at least one field"
        if not 0 <= entity.max_recent <= MAX_RECENT:
            yield f"{key}.max_recent", f"0 to {MAX_RECENT}, got {entity.max_recent}"


DEFAULT_SPEC = FeatureSpec()


RENAMED = {"keep": "max_recent"}


def _refuse_old_keys(raw: dict[str, Any]) -> None:
    """Refuse a key of an entity that has another name now.

    Raises:
        SpecError: names both.
    """
    entities = raw.get("entities")
    for entity in entities if isinstance(entities, list) else []:
        for old, new in RENAMED.items():
            if isinstance(entity, dict) and old in entity:
                raise SpecError(
                    f"entities.{entity.get('kind', '')}.{old}: the key is named {new} now: rename it"
                )


def load_spec(path: Path) -> FeatureSpec:
    """Read a spec from a TOML file; what it leaves out is as in `DEFAULT_SPEC`.

    Raises:
        SpecError: the file is no TOML, or a key is unknown or has a wrong value; names file and key.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        _refuse_old_keys(raw)
        return msgspec.convert(raw, FeatureSpec)
    except (msgspec.ValidationError, tomllib.TOMLDecodeError, SpecError) as error:
        raise SpecError(f"{path}: {error}") from error


def half_life_name(seconds: float) -> str:
    """A half-life as it stands in a feature's name.

    >>> half_life_name(3600.0), half_life_name(604800.0)
    ('1h', '7d')
    """
    for unit, length in (("d", DAY), ("h", HOUR), ("m", 60.0)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"
