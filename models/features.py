"""From a payment and what is known of its entities to the model's input. Pure; no clock, no store."""

from __future__ import annotations

import functools
import math
import zlib
from math import ldexp
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
MINOR_UNITS = {currency: 10.0**digits for currency, digits in MINOR_DIGITS.items()}
MINUTE = 60.0
EARTH_KM = 6371.0
FAINT = 1e-9  # a decayed count below this says nothing


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
    return payment.amount_minor / MINOR_UNITS.get(payment.currency, 100.0)


def event_of(payment: Payment, spec: FeatureSpec) -> Event:
    """What a payment adds to each of its entities."""
    time = payment.event_time.timestamp()
    amount = amount_of(payment)
    note = pack_note(payment, time)
    return Event(time, amount, math.log1p(amount), _weights(time, spec.half_lives), note)


def knowledge_of(event_time_seconds: float, is_fraud: bool, spec: FeatureSpec) -> Knowledge:
    """What a label adds to each entity of its transaction; the store sets `corrects`."""
    weighed = weights(event_time_seconds, spec.half_lives)
    return Knowledge(event_time_seconds, weighed, is_fraud, corrects=False)


class _Kind(NamedTuple):
    """How one kind of entity becomes features: names, and which half-life they are of, worked out once."""

    name: str
    statistics: frozenset[str]
    counts: tuple[tuple[int, str], ...]
    norms: tuple[tuple[int, str, str], ...]  # z and ratio
    outliers: tuple[tuple[int, str], ...]
    frauds: tuple[int, str] | None  # of the first half-life of labels
    fraud_rate: tuple[int, str] | None  # of the last
    span: float  # the longest half-life in units of the shortest
    age: float  # of the frauds: seconds for each halving of the ratio of the two
    since_first: str
    since_last: str
    tempo: str
    fraud_run: str
    recent_frauds: str
    since_first_fraud: str
    since_last_fraud: str
    since_genuine: str
    run_age: str
    fraud_age: str


class _Plan(NamedTuple):
    entities: tuple[tuple[str, tuple[str, ...], int], ...]
    kinds: dict[str, _Kind]


def _kind(entity: EntitySpec, spec: FeatureSpec) -> _Kind:
    kind = entity.kind

    def places(half_lives: tuple[float, ...]) -> list[tuple[int, str]]:
        return [(spec.half_lives.index(half_life), half_life_name(half_life)) for half_life in half_lives]

    of_labels = places(spec.label_half_lives)
    age = 0.0
    if len(of_labels) > 1:
        age = 1.0 / (1.0 / spec.label_half_lives[0] - 1.0 / spec.label_half_lives[-1])
    return _Kind(
        name=kind,
        statistics=frozenset(entity.statistics),
        counts=tuple((i, f"{kind}.count.{name}") for i, name in places(spec.count_half_lives)),
        norms=tuple(
            (i, f"{kind}.z.{name}", f"{kind}.ratio.{name}") for i, name in places(spec.norm_half_lives)
        ),
        outliers=tuple((i, f"{kind}.outliers.{name}") for i, name in places(spec.outlier_half_lives)),
        frauds=(of_labels[0][0], f"{kind}.frauds.{of_labels[0][1]}") if of_labels else None,
        fraud_rate=(of_labels[-1][0], f"{kind}.fraud_rate.{of_labels[-1][1]}") if of_labels else None,
        span=spec.half_lives[-1] / spec.half_lives[0],
        age=age,
        since_first=f"{kind}.since_first",
        since_last=f"{kind}.since_last",
        tempo=f"{kind}.tempo",
        fraud_run=f"{kind}.fraud_run",
        recent_frauds=f"{kind}.recent_frauds",
        since_first_fraud=f"{kind}.since_first_fraud",
        since_last_fraud=f"{kind}.since_last_fraud",
        since_genuine=f"{kind}.since_genuine",
        run_age=f"{kind}.run_age",
        fraud_age=f"{kind}.fraud_age",
    )


# An event asks twice: for its own update and for its features.
_weights = functools.lru_cache(maxsize=8192)(weights)


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
    now = _weights(time, spec.half_lives)
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
            decays = _decays(profile.sums, WIDTH, now)
            if "norm" in wanted:
                _norm(x, kind, profile.sums, decays, log_amount)
            if "activity" in wanted:
                _activity(x, kind, profile, decays, time)
            if "tempo" in wanted:
                # Events of late against what the longest half-life makes usual: 1 is as usual.
                usual = profile.sums[1 - WIDTH] * decays[-1] / kind.span
                x[kind.tempo] = (profile.sums[1] * decays[0] + 1.0) / (usual + 1.0)
            if profile.recent:
                _recent(x, kind, profile.recent, payment, time)
        if labels.updates and "labels" in wanted:
            _labels(x, kind, labels, now, time)
    for name, value in (
        ("country", payment.country),
        ("category", payment.category),
        ("channel", payment.channel),
    ):
        if value:
            x[f"{name}={zlib.crc32(value.encode()) % spec.categories}"] = 1.0
    return x


def _decays(sums: tuple[float, ...], width: int, now: tuple[Weight, ...]) -> list[float]:
    """What turns the sums of each half-life into their values at this moment (as `at_moment`)."""
    decays = []
    at = 0
    for exponent, mantissa in now:
        shift = int(sums[at]) - exponent
        decays.append(ldexp(1.0 / mantissa, shift) if shift < 0 else 1.0 / mantissa)
        at += width
    return decays


def _norm(x: Features, kind: _Kind, sums: tuple[float, ...], decays: list[float], log_amount: float) -> None:
    for i, name in kind.outliers:
        x[name] = sums[i * WIDTH + 5] * decays[i]
    for i, z_name, ratio_name in kind.norms:
        at = i * WIDTH
        count = sums[at + 1]
        if count * decays[i] >= MIN_COUNT:
            mean, deviation = mean_and_deviation(count, sums[at + 3], sums[at + 4])
            x[z_name] = (log_amount - mean) / deviation
            x[ratio_name] = math.exp(log_amount - mean)


def _activity(x: Features, kind: _Kind, profile: Profile, decays: list[float], time: float) -> None:
    sums = profile.sums
    for i, name in kind.counts:
        x[name] = sums[i * WIDTH + 1] * decays[i]
    x[kind.since_first] = max(time - profile.first, 0.0)
    x[kind.since_last] = max(time - profile.last, 0.0)


def _labels(x: Features, kind: _Kind, labels: LabelProfile, now: tuple[Weight, ...], time: float) -> None:
    x[kind.fraud_run] = float(labels.run)
    if not labels.last_fraud:
        return  # no fraud was ever confirmed
    x[kind.recent_frauds] = sum(labels.history)
    x[kind.since_first_fraud] = max(time - labels.first_fraud, 0.0)
    x[kind.since_last_fraud] = max(time - labels.last_fraud, 0.0)
    if labels.run:
        # What began between these two moments: outside of a run the one would tell only how labels come.
        x[kind.run_age] = max(time - labels.run_since, 0.0)
        if labels.last_genuine:
            x[kind.since_genuine] = max(time - labels.last_genuine, 0.0)
    if kind.frauds is None or kind.fraud_rate is None:
        return
    sums = labels.sums
    decays = _decays(sums, LABEL_WIDTH, now)
    place, frauds_name = kind.frauds
    recent = x[frauds_name] = sums[place * LABEL_WIDTH + 1] * decays[place]
    place, rate_name = kind.fraud_rate
    lasting, genuine = (sums[place * LABEL_WIDTH + part] * decays[place] for part in (1, 2))
    x[rate_name] = lasting / (lasting + genuine + 1.0)
    if kind.age and min(recent, lasting) > FAINT:
        # The shorter a memory, the less it holds of old frauds: the ratio of two tells their mean age.
        x[kind.fraud_age] = max(math.log2(lasting / recent) * kind.age, 0.0)


def _recent(x: Features, kind: _Kind, recent: tuple[bytes, ...], payment: Payment, time: float) -> None:
    if "novelty" in kind.statistics:
        _novelty(x, kind, recent, payment)
    if "cards" in kind.statistics:
        x[f"{kind.name}.cards"] = float(len({note[CARD] for note in recent}))
    if "travel" in kind.statistics:
        _travel(x, kind, recent[0], payment, time)


def _novelty(x: Features, kind: _Kind, recent: tuple[bytes, ...], payment: Payment) -> None:
    tag = merchant_tag(payment.merchant_id)
    x[f"{kind.name}.merchant_visits"] = float(len([1 for note in recent if note.startswith(tag, HEAD)]))
    if payment.device_id:
        device = (zlib.crc32(payment.device_id.encode()) or 1).to_bytes(4, "little")
        known = [note[DEVICE] for note in recent if note[DEVICE] != NO_DIGEST]
        if known:
            x[f"{kind.name}.device_visits"] = float(known.count(device))


def _travel(x: Features, kind: _Kind, note: bytes, payment: Payment, time: float) -> None:
    if payment.country is None and payment.latitude is None:
        return
    last = parse_note(note)
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
