"""Which entities an event touches and which of their statistics become features."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

HOUR = 3_600.0
DAY = 86_400.0

Statistic = Literal["norm", "activity", "labels", "cards", "novelty", "travel"]


class SpecError(ValueError):
    """A feature spec that cannot be used; the message names the key."""


class EntitySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of entity.

    Attributes:
        kind: its name in stores, features and reasons.
        fields: of the payment; several make a pair (`card_id`, `merchant_id`).
        keep: notes of its last events kept, 0 to 50.
        statistics: what becomes features of it:
            `norm`: the amount against the entity's own mean and deviation, its earlier outliers;
            `activity`: counts, tempo, age, time since the last event;
            `labels`: its confirmed frauds;
            `cards`: how many cards its last events came from;
            `novelty`: whether merchant and device were among its last events;
            `travel`: distance, speed and change of country since its last event.
    """

    kind: str
    fields: tuple[str, ...]
    keep: int = 0
    statistics: tuple[Statistic, ...] = ("norm", "activity", "labels")


class FeatureSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, cache_hash=True):
    """What the features are made of.

    Attributes:
        half_lives: of all profiles, seconds, > 0, rising.
        norm_half_lives: those whose amount statistics become features (a subset).
        label_half_lives: those whose label statistics become features (a subset).
        entities: the kinds of entities, in the order in which they are read.
        crosses: pairs of features whose bins the model also sees together.
        bins: bins of a numeric feature, 2 to 64.
        categories: buckets a categorical input is hashed into, 1 to 1024.
    """

    half_lives: tuple[float, ...] = (HOUR, DAY, 7 * DAY, 30 * DAY)
    norm_half_lives: tuple[float, ...] = (7 * DAY, 30 * DAY)
    label_half_lives: tuple[float, ...] = (7 * DAY, 30 * DAY)
    entities: tuple[EntitySpec, ...] = (
        EntitySpec("card", ("card_id",), 10, ("norm", "activity", "labels", "novelty", "travel")),
        EntitySpec("merchant", ("merchant_id",), 0, ("norm", "activity", "labels")),
        EntitySpec("device", ("device_id",), 10, ("activity", "labels", "cards")),
    )
    crosses: tuple[tuple[str, str], ...] = (
        ("merchant.fraud_run", "amount"),
        ("merchant.fraud_run", "merchant.since_first_fraud"),
        ("merchant.fraud_run", "merchant.since_last_fraud"),
        ("card.outliers.7d", "card.z.30d"),
        ("card.outliers.30d", "card.z.30d"),
        ("card.z.30d", "amount"),
    )
    bins: int = 20
    categories: int = 64

    def __post_init__(self) -> None:
        """Check what types cannot say."""
        for key, wrong in _faults(self):
            raise SpecError(f"{key}: {wrong}")


KEY_FIELDS = ("card_id", "merchant_id", "device_id", "ip", "country", "category", "channel", "currency")
MAX_KEEP = 50
MIN_BINS = 2
MAX_BINS = 64
MAX_CATEGORIES = 1024


def _faults(spec: FeatureSpec) -> Iterator[tuple[str, str]]:
    """Each key that is wrong, and how."""
    half_lives = spec.half_lives
    if not half_lives or min(half_lives) <= 0 or list(half_lives) != sorted({*half_lives}):
        yield "half_lives", f"needs rising values above 0 (seconds), got {half_lives}"
    for key in ("norm_half_lives", "label_half_lives"):
        if unknown := sorted({*getattr(spec, key)} - {*half_lives}):
            yield key, f"{unknown} not among half_lives {half_lives}"
    kinds = [entity.kind for entity in spec.entities]
    if len({*kinds}) != len(kinds):
        yield "entities", f"a kind stands twice in {kinds}"
    for entity in spec.entities:
        key = f"entities.{entity.kind}"
        if unknown := sorted({*entity.fields} - {*KEY_FIELDS}):
            yield f"{key}.fields", f"unknown {unknown}; known are {KEY_FIELDS}"
        if not entity.kind or not entity.fields:
            yield key, "needs a kind and at least one field"
        if not 0 <= entity.keep <= MAX_KEEP:
            yield f"{key}.keep", f"0 to {MAX_KEEP}, got {entity.keep}"
    if not MIN_BINS <= spec.bins <= MAX_BINS:
        yield "bins", f"{MIN_BINS} to {MAX_BINS}, got {spec.bins}"
    if not 1 <= spec.categories <= MAX_CATEGORIES:
        yield "categories", f"1 to {MAX_CATEGORIES}, got {spec.categories}"


DEFAULT_SPEC = FeatureSpec()


def load_spec(path: Path) -> FeatureSpec:
    """Read a spec from a TOML file; what it leaves out is as in `DEFAULT_SPEC`.

    Raises:
        SpecError: the file is no TOML, or a key is unknown or has a wrong value; names file and key.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), FeatureSpec)
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
