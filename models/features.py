"""From a payment and what is known of its entities to the model's input. Pure; no clock, no store."""

from __future__ import annotations

import functools
import math
import zlib
from typing import NamedTuple

from models.feature_spec import DAY, HOUR, EntitySpec, FeatureSpec, half_life_name
from models.notes import CARD, DEVICE, HEAD, NO_DIGEST, Note, merchant_tag, pack_note, parse_note
from models.payment import Payment
from models.profiles import (
    LABEL_WIDTH,
    MIN_COUNT,
    WIDTH,
    Event,
    Knowledge,
    LabelProfile,
    Profile,
    Reading,
    Weight,
    mean_and_deviation,
    weights,
)

__all__ = ["Note", "Payment", "entities_of", "event_of", "features_of", "knowledge_of", "parse_note"]

Features = dict[str, float]

# ISO 4217: minor units of a major unit, as powers of ten, where it is not two.
MINOR_DIGITS = {
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0),  # noqa: SIM905 - a table reads better as words
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}
MINUTE = 60.0
EARTH_KM = 6371.0


def entities_of(payment: Payment, spec: FeatureSpec) -> tuple[tuple[str, str, int], ...]:
    """The entities a payment touches, as (kind, key, keep); one whose field is missing is left out."""
    found = []
    for kind, fields, keep in _plan(spec).entities:
        if len(fields) == 1:
            key = getattr(payment, fields[0])
            if key:
                found.append((kind, key, keep))
        else:
            parts = [getattr(payment, field) for field in fields]
            if all(parts):
                # The lengths keep ("a", "b|c") and ("a|b", "c") apart.
                found.append((kind, "|".join(f"{len(part)}:{part}" for part in parts), keep))
    return tuple(found)


def amount_of(payment: Payment) -> float:
    """The amount in major units."""
    return payment.amount_minor / 10.0 ** MINOR_DIGITS.get(payment.currency, 2)


def event_of(payment: Payment, spec: FeatureSpec) -> Event:
    """What a payment adds to each of its entities."""
    time = payment.event_time.timestamp()
    amount = amount_of(payment)
    note = pack_note(payment, time)
    return Event(time, amount, math.log1p(amount), weights(time, spec.half_lives), note)


def knowledge_of(event_time_seconds: float, is_fraud: bool, spec: FeatureSpec) -> Knowledge:
    """What a label adds to each entity of its transaction; the store sets `corrects`."""
    weighed = weights(event_time_seconds, spec.half_lives)
    return Knowledge(event_time_seconds, weighed, is_fraud, corrects=False)


class _Kind(NamedTuple):
    """How one kind of entity becomes features: positions and names, worked out once."""

    name: str
    statistics: frozenset[str]
    norms: tuple[tuple[int, int, str, str, str], ...]  # half-life, place in sums, names of z, ratio, outliers
    counts: tuple[tuple[int, int, str], ...]
    tempo: str
    tempo_scale: float
    labels: tuple[tuple[int, int, str, str], ...]  # half-life, place in sums, names of rate and frauds


class _Plan(NamedTuple):
    entities: tuple[tuple[str, tuple[str, ...], int], ...]
    kinds: dict[str, _Kind]


def _kind(entity: EntitySpec, spec: FeatureSpec) -> _Kind:
    kind = entity.kind
    names = [half_life_name(half_life) for half_life in spec.half_lives]
    norms = [spec.half_lives.index(half_life) for half_life in spec.norm_half_lives]
    labels = [spec.half_lives.index(half_life) for half_life in spec.label_half_lives]
    return _Kind(
        kind,
        frozenset(entity.statistics),
        tuple(
            (i, i * WIDTH, f"{kind}.z.{names[i]}", f"{kind}.ratio.{names[i]}", f"{kind}.outliers.{names[i]}")
            for i in norms
        ),
        tuple((i, i * WIDTH, f"{kind}.count.{name}") for i, name in enumerate(names)),
        f"{kind}.tempo",
        spec.half_lives[-1] / spec.half_lives[0],
        tuple(
            (i, i * LABEL_WIDTH, f"{kind}.fraud_rate.{names[i]}", f"{kind}.frauds.{names[i]}") for i in labels
        ),
    )


@functools.lru_cache(maxsize=16)
def _plan(spec: FeatureSpec) -> _Plan:
    return _Plan(
        tuple((entity.kind, entity.fields, entity.keep) for entity in spec.entities),
        {entity.kind: _kind(entity, spec) for entity in spec.entities},
    )


def features_of(
    payment: Payment, kinds: tuple[str, ...], readings: tuple[Reading, ...], spec: FeatureSpec
) -> Features:
    """The features of a payment, given what was known of its entities before it.

    Args:
        payment: the event.
        kinds: of the entities read, as `entities_of` gave them.
        readings: of each, in the same order.
        spec: what to compute.

    Returns:
        Named finite numbers in a fixed order; what cannot be known is missing.
    """
    time = payment.event_time.timestamp()
    amount = amount_of(payment)
    log_amount = math.log1p(amount)
    now = weights(time, spec.half_lives)
    x: Features = {
        "amount": amount,
        "hour": time % DAY / HOUR,
        "weekday": (time // DAY + 3.0) % 7.0,  # 1 January 1970 was a Thursday
    }
    known = _plan(spec).kinds
    for name, (profile, labels) in zip(kinds, readings, strict=True):
        kind = known[name]
        wanted = kind.statistics
        if profile.updates:
            if "norm" in wanted:
                _norm(x, kind, profile, now, log_amount)
            if "activity" in wanted:
                _activity(x, kind, profile, now, time)
            if profile.recent:
                if "novelty" in wanted:
                    _novelty(x, kind, profile.recent, payment)
                if "cards" in wanted:
                    x[f"{name}.cards"] = float(len({note[CARD] for note in profile.recent}))
                if "travel" in wanted:
                    _travel(x, kind, parse_note(profile.recent[0]), payment, time)
        if labels.updates and "labels" in wanted:
            _labels(x, kind, labels, now, time)
    for name in ("country", "category", "channel"):
        value = getattr(payment, name)
        if value:
            x[f"{name}={zlib.crc32(value.encode()) % spec.categories}"] = 1.0
    return x


def _norm(x: Features, kind: _Kind, profile: Profile, now: tuple[Weight, ...], log_amount: float) -> None:
    sums = profile.sums
    for i, at, z_name, ratio_name, outliers_name in kind.norms:
        exponent, mantissa = now[i]
        decay = math.ldexp(1.0 / mantissa, min(int(sums[at]) - exponent, 0))
        raw_count = sums[at + 1]
        x[outliers_name] = sums[at + 5] * decay
        if raw_count * decay >= MIN_COUNT:
            mean, deviation = mean_and_deviation(raw_count, sums[at + 3], sums[at + 4])
            x[z_name] = (log_amount - mean) / deviation
            x[ratio_name] = math.exp(min(log_amount - mean, 50.0))


def _activity(x: Features, kind: _Kind, profile: Profile, now: tuple[Weight, ...], time: float) -> None:
    sums = profile.sums
    name = kind.name
    count = 0.0
    short = -1.0
    for i, at, count_name in kind.counts:
        exponent, mantissa = now[i]
        count = math.ldexp(sums[at + 1] / mantissa, min(int(sums[at]) - exponent, 0))
        x[count_name] = count
        if short < 0.0:
            short = count
    # The tempo now against the entity's usual one: 1 is as usual.
    x[kind.tempo] = (short + 1.0) * kind.tempo_scale / (count + kind.tempo_scale)
    x[f"{name}.since_first"] = max(time - profile.first, 0.0)
    x[f"{name}.since_last"] = max(time - profile.last, 0.0)


def _labels(x: Features, kind: _Kind, labels: LabelProfile, now: tuple[Weight, ...], time: float) -> None:
    name = kind.name
    x[f"{name}.fraud_run"] = float(labels.run)
    x[f"{name}.recent_frauds"] = sum(labels.history)
    sums = labels.sums
    for i, at, rate_name, frauds_name in kind.labels:
        exponent, mantissa = now[i]
        decay = math.ldexp(1.0 / mantissa, min(int(sums[at]) - exponent, 0))
        frauds = sums[at + 1] * decay
        x[frauds_name] = frauds
        x[rate_name] = frauds / (frauds + sums[at + 2] * decay + 1.0)
    if labels.last_fraud:
        x[f"{name}.since_first_fraud"] = max(time - labels.first_fraud, 0.0)
        x[f"{name}.since_last_fraud"] = max(time - labels.last_fraud, 0.0)


def _novelty(x: Features, kind: _Kind, recent: tuple[bytes, ...], payment: Payment) -> None:
    tag = merchant_tag(payment.merchant_id)
    x[f"{kind.name}.merchant_visits"] = float(sum(note.startswith(tag, HEAD) for note in recent))
    if payment.device_id:
        device = (zlib.crc32(payment.device_id.encode()) or 1).to_bytes(4, "little")
        known = [note[DEVICE] for note in recent if note[DEVICE] != NO_DIGEST]
        if known:
            x[f"{kind.name}.device_visits"] = float(known.count(device))


def _travel(x: Features, kind: _Kind, last: Note, payment: Payment, time: float) -> None:
    if payment.country and last.country:
        x[f"{kind.name}.country_change"] = 0.0 if payment.country == last.country else 1.0
    if payment.latitude is None or payment.longitude is None or math.isnan(last.latitude):
        return
    distance = great_circle(payment.latitude, payment.longitude, last.latitude, last.longitude)
    x[f"{kind.name}.distance"] = distance
    # A minute is the least time between two places: clocks of terminals differ.
    x[f"{kind.name}.speed"] = distance / (max(abs(time - last.time), MINUTE) / HOUR)


def great_circle(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """Kilometres between two places given in degrees (haversine).

    >>> round(great_circle(0.0, 0.0, 0.0, 90.0))
    10008
    """
    a, b = math.radians(latitude), math.radians(other_latitude)
    half = (
        math.sin((b - a) / 2) ** 2
        + math.cos(a) * math.cos(b) * math.sin(math.radians(other_longitude - longitude) / 2) ** 2
    )
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(half)))
