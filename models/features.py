"""From a payment and what is known of its entities to the model's input. Pure; no clock, no store."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable
from math import ldexp
from typing import NamedTuple

from models.feature_spec import DAY, HOUR, EntitySpec, FeatureSpec, Statistic, half_life_name
from models.notes import CARD, DEVICE, HEAD, NO_DIGEST, Note, digest, merchant_tag, pack_note, parse_note
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
    return Event(time, amount, math.log1p(amount), weights(time, spec.half_lives), note)


def knowledge_of(event_time_seconds: float, is_fraud: bool, spec: FeatureSpec) -> Knowledge:
    """What a label adds to each entity of its transaction; the store sets `corrects`."""
    weighed = weights(event_time_seconds, spec.half_lives)
    return Knowledge(event_time_seconds, weighed, is_fraud, corrects=False)


class _Norm(NamedTuple):
    """The half-life a norm is of, and what its features are called."""

    place: int
    z: str
    ratio: str


class _Labels(NamedTuple):
    """What the features of an entity's labels are called, and which half-lives they are of."""

    run: str
    recent: str
    since_first: str
    since_last: str
    run_age: str
    since_genuine: str
    frauds: tuple[int, str] | None  # of the first half-life of labels
    rate: tuple[int, str] | None  # of the last
    age: tuple[float, str]  # seconds for each halving of the ratio of the two; 0 with one half-life


class _Kind(NamedTuple):
    """How one kind of entity becomes features, worked out once: empty or None is what is not wanted of it."""

    norms: tuple[_Norm, ...]
    outliers: tuple[tuple[int, str], ...]
    counts: tuple[tuple[int, str], ...]
    since: tuple[str, str] | None  # first, last
    tempo: str | None
    labels: _Labels | None
    recent: Callable[[Features, tuple[bytes, ...], Payment, float], None] | None


class _Plan(NamedTuple):
    entities: tuple[tuple[str, tuple[str, ...], int], ...]
    kinds: dict[str, _Kind]
    span: float  # the longest half-life in units of the shortest


def _kind(entity: EntitySpec, spec: FeatureSpec) -> _Kind:
    kind, wanted = entity.kind, frozenset(entity.statistics)

    def places(statistic: Statistic, half_lives: tuple[float, ...]) -> list[tuple[int, str]]:
        if statistic not in wanted:
            return []
        return [(spec.half_lives.index(half_life), half_life_name(half_life)) for half_life in half_lives]

    def named(statistic: Statistic, name: str, half_lives: tuple[float, ...]) -> tuple[tuple[int, str], ...]:
        return tuple((place, f"{kind}.{name}.{of}") for place, of in places(statistic, half_lives))

    return _Kind(
        norms=tuple(
            _Norm(place, f"{kind}.z.{of}", f"{kind}.ratio.{of}")
            for place, of in places("norm", spec.norm_half_lives)
        ),
        outliers=named("norm", "outliers", spec.outlier_half_lives),
        counts=named("activity", "count", spec.count_half_lives),
        since=(f"{kind}.since_first", f"{kind}.since_last") if "activity" in wanted else None,
        tempo=f"{kind}.tempo" if "tempo" in wanted else None,
        labels=_labels_of(kind, spec) if "labels" in wanted else None,
        recent=_recent(kind, wanted) if wanted & {"novelty", "cards", "travel"} else None,
    )


def _labels_of(kind: str, spec: FeatureSpec) -> _Labels:
    half_lives = spec.label_half_lives
    ends = [(spec.half_lives.index(each), half_life_name(each)) for each in half_lives]
    age = 1.0 / (1.0 / half_lives[0] - 1.0 / half_lives[-1]) if len(half_lives) > 1 else 0.0
    return _Labels(
        run=f"{kind}.fraud_run",
        recent=f"{kind}.recent_frauds",
        since_first=f"{kind}.since_first_fraud",
        since_last=f"{kind}.since_last_fraud",
        run_age=f"{kind}.run_age",
        since_genuine=f"{kind}.since_genuine",
        frauds=(ends[0][0], f"{kind}.frauds.{ends[0][1]}") if ends else None,
        rate=(ends[-1][0], f"{kind}.fraud_rate.{ends[-1][1]}") if ends else None,
        age=(age, f"{kind}.fraud_age"),
    )


@functools.lru_cache(maxsize=16)
def _plan(spec: FeatureSpec) -> _Plan:
    return _Plan(
        tuple((entity.kind, entity.fields, entity.keep) for entity in spec.entities),
        {entity.kind: _kind(entity, spec) for entity in spec.entities},
        spec.half_lives[-1] / spec.half_lives[0],
    )


def features_of(
    payment: Payment, event: Event, kinds: tuple[str, ...], readings: tuple[Reading, ...], spec: FeatureSpec
) -> Features:
    """The features of a payment, given what was known of its entities before it.

    Args:
        payment: what happened.
        event: the same as `event_of` gives it.
        kinds: of the entities read, as `entities_of` gave them.
        readings: of each, in the same order.
        spec: what to compute.

    Returns:
        Named finite numbers in a fixed order; what cannot be known is missing.
    """
    time = event.time
    now = [(exponent, 1.0 / mantissa) for exponent, mantissa in event.weights]
    _, known, span = _plan(spec)
    x: Features = {
        "amount": event.amount,
        "hour": time % DAY / HOUR,
        "weekday": (time // DAY + 3.0) % 7.0,  # 1 January 1970 was a Thursday
    }
    for name, (profile, labels) in zip(kinds, readings, strict=True):
        kind = known[name]
        if profile.updates:
            _events(x, kind, profile, event, now, span)
            if kind.recent is not None and profile.recent:
                kind.recent(x, profile.recent, payment, time)
        told = kind.labels
        if told is not None and labels.updates:
            x[told.run] = float(labels.run)
            if labels.last_fraud:
                _frauds(x, told, labels, now, time)
    for field, value in (
        ("country", payment.country),
        ("category", payment.category),
        ("channel", payment.channel),
    ):
        if value:
            x[f"{field}={zlib.crc32(value.encode()) % spec.categories}"] = 1.0
    return x


def _events(
    x: Features, kind: _Kind, profile: Profile, event: Event, now: list[tuple[int, float]], span: float
) -> None:
    """Of an entity that had events before."""
    # Unpacked: reading a named tuple field by field takes twice as long, and this is the engine of replays.
    norms, outliers, counts, since, tempo, _, _ = kind
    _, first, last, sums, _ = profile
    decays = _decays(sums[::WIDTH], now)
    for place, called in outliers:
        x[called] = sums[place * WIDTH + 5] * decays[place]
    for place, z, ratio in norms:
        at = place * WIDTH
        count = sums[at + 1]
        if count * decays[place] >= MIN_COUNT:
            mean, deviation = mean_and_deviation(count, sums[at + 3], sums[at + 4])
            x[z] = (event.log_amount - mean) / deviation
            x[ratio] = math.exp(event.log_amount - mean)
    for place, called in counts:
        x[called] = sums[place * WIDTH + 1] * decays[place]
    if since is not None:
        time = event.time
        x[since[0]] = time - first if time > first else 0.0
        x[since[1]] = time - last if time > last else 0.0
    if tempo is not None:
        # Events of late against what the longest half-life makes usual: 1 is as usual.
        x[tempo] = (sums[1] * decays[0] + 1.0) / (sums[1 - WIDTH] * decays[-1] / span + 1.0)


def _decays(scales: tuple[float, ...], now: list[tuple[int, float]]) -> list[float]:
    """What turns the sums of each half-life into their values at this moment (as `at_moment`).

    Args:
        scales: the exponents that the sums are kept at.
        now: exponent and inverse mantissa of the weight of this moment.
    """
    return [
        ldexp(inverse, int(scale) - exponent) if scale < exponent else inverse
        for scale, (exponent, inverse) in zip(scales, now, strict=True)
    ]


def _frauds(
    x: Features, told: _Labels, labels: LabelProfile, now: list[tuple[int, float]], time: float
) -> None:
    """Of an entity of which a fraud was confirmed once."""
    x[told.recent] = sum(labels.history)
    x[told.since_first] = max(time - labels.first_fraud, 0.0)
    x[told.since_last] = max(time - labels.last_fraud, 0.0)
    if labels.run:
        # What began between these two moments: outside of a run the one would tell only how labels come.
        x[told.run_age] = max(time - labels.run_since, 0.0)
        if labels.last_genuine:
            x[told.since_genuine] = max(time - labels.last_genuine, 0.0)
    if told.frauds is None or told.rate is None:
        return
    sums = labels.sums
    decays = _decays(sums[::LABEL_WIDTH], now)
    place, called = told.frauds
    recent = x[called] = sums[place * LABEL_WIDTH + 1] * decays[place]
    place, called = told.rate
    lasting, genuine = (sums[place * LABEL_WIDTH + part] * decays[place] for part in (1, 2))
    x[called] = lasting / (lasting + genuine + 1.0)
    age, called = told.age
    if age and min(recent, lasting) > FAINT:
        # The shorter a memory, the less it holds of old frauds: the ratio of two tells their mean age.
        x[called] = max(math.log2(lasting / recent) * age, 0.0)


def _recent(
    kind: str, wanted: frozenset[str]
) -> Callable[[Features, tuple[bytes, ...], Payment, float], None]:
    """What the notes of an entity's last events give; there is at least one."""
    has_novelty, has_cards, has_travel = (name in wanted for name in ("novelty", "cards", "travel"))
    merchant_visits, device_visits = f"{kind}.merchant_visits", f"{kind}.device_visits"
    cards = f"{kind}.cards"

    def recent_of(x: Features, recent: tuple[bytes, ...], payment: Payment, time: float) -> None:
        if has_novelty:
            tag = merchant_tag(payment.merchant_id)
            end = HEAD + len(tag)
            x[merchant_visits] = float([note[HEAD:end] for note in recent].count(tag))
            if payment.device_id:
                device = digest(payment.device_id).to_bytes(4, "little")
                known = [note[DEVICE] for note in recent if note[DEVICE] != NO_DIGEST]
                if known:
                    x[device_visits] = float(known.count(device))
        if has_cards:
            x[cards] = float(len({note[CARD] for note in recent}))
        if has_travel and (payment.country is not None or payment.latitude is not None):
            _travel(x, kind, recent[0], payment, time)

    return recent_of


def _travel(x: Features, kind: str, note: bytes, payment: Payment, time: float) -> None:
    last = parse_note(note)
    if payment.country and last.country:
        x[f"{kind}.country_change"] = 0.0 if payment.country == last.country else 1.0
    if payment.latitude is None or payment.longitude is None or math.isnan(last.latitude):
        return
    distance = great_circle(payment.latitude, payment.longitude, last.latitude, last.longitude)
    x[f"{kind}.distance"] = distance
    # A minute is the least time between two places: clocks of terminals differ.
    x[f"{kind}.speed"] = distance / (max(abs(time - last.time), MINUTE) / HOUR)


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
