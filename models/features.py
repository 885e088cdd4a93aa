"""From a payment and what is known of its entities to the model's input. Pure; no clock, no store."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from models.feature_spec import DAY, HOUR, EntitySpec, FeatureSpec, Statistic, half_life_name
from models.notes import CARD, DEVICE, HEAD, NO_DIGEST, Note, digest, merchant_tag, pack_note, parse_note
from models.payment import Payment
from models.profiles import (
    MIN_COUNT,
    Event,
    Events,
    Knowledge,
    Known,
    Labels,
    LabelSums,
    Reading,
    Sums,
    Weight,
    mean_and_deviation,
    shifted,
    weights,
)

__all__ = ["Note", "Payment", "entities_of", "event_of", "features_of", "knowledge_of", "parse_note"]

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int to Python; compiled, it is a number of the machine

Features = dict[str, float]

# ISO 4217: minor units of a major unit, as powers of ten, where it is not two.
MINOR_DIGITS = {
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0),  # noqa: SIM905 - a table reads better as words
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}
MINOR_UNITS = {currency: 10.0**digits for currency, digits in MINOR_DIGITS.items()}
MINUTE: Final = 60.0
EARTH_KM: Final = 6371.0
FAINT: Final = 1e-9  # a decayed count below this says nothing


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


@dataclass
class _Norm:
    """The half-life a norm is of, and what its features are called."""

    place: int
    z: str
    ratio: str


@dataclass
class _Labels:
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


@dataclass
class _Kind:
    """How one kind of entity becomes features, worked out once: empty or None is what is not wanted of it."""

    norms: tuple[_Norm, ...]
    outliers: tuple[tuple[int, str], ...]
    counts: tuple[tuple[int, str], ...]
    since: tuple[str, str] | None  # first, last
    tempo: str | None
    labels: _Labels | None
    recent: Callable[[Features, tuple[bytes, ...], Payment, float], None] | None


@dataclass
class _Plan:
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
    payment: Payment,
    event: Event,
    kinds: tuple[str, ...],
    readings: tuple[Reading | Known, ...],
    spec: FeatureSpec,
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
    now = _Now(event.weights)
    plan = _plan(spec)
    x: Features = {
        "amount": event.amount,
        "hour": time % DAY / HOUR,
        "weekday": (time // DAY + 3.0) % 7.0,  # 1 January 1970 was a Thursday
    }
    place: i64 = 0
    for name in kinds:
        reading = readings[place]
        place += 1
        known = reading if isinstance(reading, Known) else Known(reading)
        kind, events, labels = plan.kinds[name], known.events, known.labels
        if events.updates:
            _events(x, kind, events, event, now, plan.span)
            if kind.recent is not None and events.recent:
                kind.recent(x, events.recent, payment, time)
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


def _events(x: Features, kind: _Kind, known: Events, event: Event, now: _Now, span: float) -> None:
    """Of an entity that had events before."""
    sums = known.sums
    decays = now.decays(sums)
    for place, called in kind.outliers:
        x[called] = sums[place].outliers * decays[place]
    for norm in kind.norms:
        of_norm = sums[norm.place]
        if of_norm.count * decays[norm.place] >= MIN_COUNT:
            mean, deviation = mean_and_deviation(of_norm.count, of_norm.logs, of_norm.squares)
            above = event.log_amount - mean
            x[norm.z] = above / deviation
            x[norm.ratio] = math.exp(above)
    for place, called in kind.counts:
        x[called] = sums[place].count * decays[place]
    since, time = kind.since, event.time
    if since is not None:
        x[since[0]] = _since(time, known.first)
        x[since[1]] = _since(time, known.last)
    if kind.tempo is not None:
        # Events of late against what the longest half-life makes usual: 1 is as usual.
        x[kind.tempo] = (sums[0].count * decays[0] + 1.0) / (sums[-1].count * decays[-1] / span + 1.0)


class _Now:
    """This moment under each half-life."""

    def __init__(self, now: tuple[Weight, ...]) -> None:
        self.weights = now

    def decays(self, sums: list[Sums]) -> list[float]:
        """What turns the sums of each half-life into their values now (as `at_moment`)."""
        result: list[float] = []
        place: i64 = 0
        for each in sums:
            exponent, mantissa = self.weights[place]
            place += 1
            result.append(_decay(each.scale, exponent, mantissa))
        return result

    def decay(self, place: int, sums: list[LabelSums]) -> float:
        """The same of labels, under one half-life."""
        exponent, mantissa = self.weights[place]
        return _decay(sums[place].scale, exponent, mantissa)


def _decay(scale: float, exponent: float, mantissa: float) -> float:
    shift, inverse = scale - exponent, 1.0 / mantissa
    return shifted(inverse, shift) if shift < 0.0 else inverse


def _since(time: float, moment: float) -> float:
    """Seconds since a moment, none where it is yet to come."""
    return time - moment if time > moment else 0.0


def _frauds(x: Features, told: _Labels, labels: Labels, now: _Now, time: float) -> None:
    """Of an entity of which a fraud was confirmed once."""
    x[told.recent] = math.fsum(labels.history)
    x[told.since_first] = _since(time, labels.first_fraud)
    x[told.since_last] = _since(time, labels.last_fraud)
    if labels.run:
        # What began between these two moments: outside of a run the one would tell only how labels come.
        x[told.run_age] = _since(time, labels.run_since)
        if labels.last_genuine:
            x[told.since_genuine] = _since(time, labels.last_genuine)
    if told.frauds is None or told.rate is None:
        return
    sums = labels.sums
    place, called = told.frauds
    recent = sums[place].frauds * now.decay(place, sums)
    x[called] = recent
    place, called = told.rate
    decay = now.decay(place, sums)
    lasting = sums[place].frauds * decay
    x[called] = lasting / (lasting + sums[place].genuine * decay + 1.0)
    age, called = told.age
    if age and recent > FAINT and lasting > FAINT:
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
                known = [note[DEVICE:HEAD] for note in recent]
                unknown = known.count(NO_DIGEST)
                if unknown < len(known):
                    x[device_visits] = float(known.count(device))
        if has_cards:
            x[cards] = float(len({note[CARD:DEVICE] for note in recent}))
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
