"""From a payment and what is known of its entities to the model's input. Pure; no clock, no store."""

from __future__ import annotations

import math
import zlib
from typing import Final

from librt.vecs import vec
from mypy_extensions import i64  # an int to Python; compiled, it is a number of the machine

from models.features.currencies import major_units
from models.features.decay import SPAN, Weight, shifted, weights
from models.features.label_memory import (
    FRAUDS,
    GENUINES,
    LABEL_WIDTH,
    WEEK_WIDTH,
    label_sum,
    mean_time,
    week_of,
)
from models.features.payment import Payment
from models.features.places import KindPlaces, LabelPlaces, RecentPlaces, plan_of
from models.features.profiles import (
    COUNT,
    DIGESTS,
    LOGS,
    MIN_COUNT,
    OUTLIERS,
    SQUARES,
    WIDTH,
    EntityState,
    Event,
    EventState,
    LabelDelta,
    LabelState,
    ProfileSnapshot,
    label_delta,
    mean_and_deviation,
)
from models.features.recent_events import (
    DEVICE,
    MERCHANT,
    RecentEvent,
    digest_at,
    pack_recent_event,
    parse_recent_event,
)
from models.features.spec import DAY, HOUR, FeatureSpec
from models.features.vector import Row

__all__ = [
    "Payment",
    "RecentEvent",
    "entities_of",
    "event_of",
    "features_of",
    "label_delta_of",
    "parse_recent_event",
    "row_of",
]

Features = dict[str, float]

MINUTE: Final = 60.0
EARTH_KM: Final = 6371.0
HISTORY: Final = 5  # labels of which the frauds are counted
FAINT: Final = 1e-9  # a decayed count below this says nothing


def entities_of(payment: Payment, spec: FeatureSpec) -> tuple[tuple[str, str, int], ...]:
    """The entities a payment updates, as (kind, key, max_recent); one whose field is missing is left out."""
    found = []
    for kind, fields, max_recent in plan_of(spec).entities:
        if len(fields) == 1:
            key = getattr(payment, fields[0])
            if key:
                found.append((kind, key, max_recent))
        else:
            parts = [getattr(payment, field) for field in fields]
            if all(parts):
                # The lengths keep ("a", "b|c") and ("a|b", "c") apart.
                found.append((kind, "|".join(f"{len(part)}:{part}" for part in parts), max_recent))
    return tuple(found)


def amount_of(payment: Payment) -> float:
    """The amount in major units."""
    return major_units(payment.amount_minor, payment.currency)


def event_of(payment: Payment, spec: FeatureSpec) -> Event:
    """What a payment adds to each of its entities."""
    time = payment.event_time.timestamp()
    amount = amount_of(payment)
    recent_event = pack_recent_event(payment, time)
    return Event(time, amount, math.log1p(amount), weights(time, spec.half_lives), recent_event)


def label_delta_of(transaction_id: str, event_time: float, is_fraud: bool, spec: FeatureSpec) -> LabelDelta:
    """What a label adds to each entity of its transaction; the store sets `corrects`."""
    return label_delta(transaction_id, event_time, is_fraud, spec.half_lives)


def features_of(
    payment: Payment,
    event: Event,
    kinds: tuple[str, ...],
    snapshots: tuple[ProfileSnapshot | EntityState, ...],
    spec: FeatureSpec,
) -> Features:
    """The features of a payment by name, in a fixed order; else as `row_of`."""
    return row_of(payment, event, kinds, snapshots, spec).named()


def row_of(
    payment: Payment,
    event: Event,
    kinds: tuple[str, ...],
    snapshots: tuple[ProfileSnapshot | EntityState, ...],
    spec: FeatureSpec,
) -> Row:
    """The features of a payment, given what was known of its entities before it.

    Args:
        payment: what happened.
        event: the same as `event_of` gives it.
        kinds: of the entities read, as `entities_of` gave them.
        snapshots: of each, in the same order.
        spec: what to compute.

    Returns:
        Finite numbers; what cannot be known is missing.
    """
    time = event.time
    now = _Now(event.weights)
    plan = plan_of(spec)
    layout = plan.layout
    values = vec[float]([math.nan] * (len(layout.names) + len(layout.fields)))
    values[0] = event.amount
    values[1] = time % DAY / HOUR
    values[2] = (time // DAY + 3.0) % 7.0  # 1 January 1970 was a Thursday
    place: i64 = 0
    for name in kinds:
        snapshot = snapshots[place]
        place += 1
        known = snapshot if isinstance(snapshot, EntityState) else EntityState(snapshot)
        kind, events, labels = plan.kinds[name], known.events, known.labels
        if events.updates:
            _events(values, kind, events, event, now, plan.span)
            if kind.recent is not None and events.recent:
                _recent(values, kind.recent, known, payment, event)
        wanted = kind.labels
        if wanted is not None and labels.updates:
            # A moment before the latest labelled transaction (a late event) reads what is known as of that.
            late = time < labels.times[0]
            _labels(
                values, wanted, labels, _Now(weights(labels.times[0], spec.half_lives)) if late else now, time
            )
    place = len(layout.names)
    for field in (payment.country, payment.category, payment.channel):
        if field:
            values[place] = float(zlib.crc32(field.encode()) % spec.categories)
        place += 1
    return Row(layout, values)


def _events(x: vec[float], kind: KindPlaces, known: EventState, event: Event, now: _Now, span: float) -> None:
    """Of an entity that had events before."""
    sums = known.sums
    begin: i64
    for half_life, place in kind.outliers:
        begin = half_life * WIDTH
        x[place] = sums[begin + OUTLIERS] * now.decay(half_life, sums[begin])
    for norm in kind.norms:
        begin = norm.half_life * WIDTH
        count = sums[begin + COUNT]
        if count * now.decay(norm.half_life, sums[begin]) >= MIN_COUNT:
            mean, deviation = mean_and_deviation(count, sums[begin + LOGS], sums[begin + SQUARES])
            above = event.log_amount - mean
            x[norm.z] = above / deviation
            x[norm.ratio] = math.exp(above)
    for half_life, place in kind.counts:
        begin = half_life * WIDTH
        x[place] = sums[begin + COUNT] * now.decay(half_life, sums[begin])
    since, time = kind.since, event.time
    if since is not None:
        x[since[0]] = _since(time, known.first)
        x[since[1]] = _since(time, known.last)
    if kind.tempo is not None:
        # Events of late against what the longest half-life makes usual: 1 is as usual.
        begin = len(sums) - WIDTH
        lasting = sums[begin + COUNT] * now.decay(begin // WIDTH, sums[begin])
        x[kind.tempo] = (sums[COUNT] * now.decay(0, sums[0]) + 1.0) / (lasting / span + 1.0)


class _Now:
    """This moment under each half-life."""

    def __init__(self, now: tuple[Weight, ...]) -> None:
        self.exponents = vec[float]([exponent for exponent, _ in now])
        self.inverses = vec[float]([1.0 / mantissa for _, mantissa in now])

    def decay(self, half_life: i64, scale: float) -> float:
        """What turns sums in units of 2**scale into their values now (as `at_moment`)."""
        shift, inverse = scale - self.exponents[half_life], self.inverses[half_life]
        return shifted(inverse, shift) if shift < 0.0 else inverse


def _since(time: float, moment: float) -> float:
    """Seconds since a moment, none where it is yet to come."""
    return time - moment if time > moment else 0.0


def _labels(x: vec[float], wanted: LabelPlaces, labels: LabelState, now: _Now, time: float) -> None:
    """Of an entity that has labels."""
    times, codes = labels.times, labels.codes
    run: i64 = 0
    while run < len(codes) and codes[run] % 2:
        run += 1
    x[wanted.run] = float(run)
    if not labels.frauds:
        return
    _dated_frauds(x, wanted, labels, time)
    if run:
        # What began between these two moments: outside of a run the one would tell only how labels come.
        x[wanted.run_age] = _since(time, times[run - 1])
        if run < len(times):
            x[wanted.since_genuine] = _since(time, times[run])
    _decayed_labels(x, wanted, labels.sums, now)


def _dated_frauds(x: vec[float], wanted: LabelPlaces, labels: LabelState, time: float) -> None:
    """When frauds were: among the latest labelled transactions to the bit, before them by their week."""
    times, codes, weeks = labels.times, labels.codes, labels.weeks
    recent_frauds: i64 = 0
    last: i64 = -1
    first: i64 = -1
    place: i64 = 0
    while place < len(codes):
        if codes[place] % 2:
            if last < 0:
                last = place
            first = place
            if place < HISTORY:
                recent_frauds += 1
        place += 1
    x[wanted.recent] = float(recent_frauds)
    if last >= 0:
        x[wanted.since_last] = _since(time, times[last])
    elif len(weeks):
        x[wanted.since_last] = _since(time, mean_time(weeks, 0))
    if len(weeks) and (first < 0 or weeks[len(weeks) - WEEK_WIDTH] < week_of(times[first])):
        x[wanted.since_first] = _since(time, mean_time(weeks, len(weeks) - WEEK_WIDTH))
    elif first >= 0:
        x[wanted.since_first] = _since(time, times[first])


def _decayed_labels(x: vec[float], wanted: LabelPlaces, sums: vec[float], now: _Now) -> None:
    if wanted.frauds is None or wanted.rate is None:
        return
    half_life, place = wanted.frauds
    begin: i64 = half_life * LABEL_WIDTH
    recent = label_sum(sums, begin, FRAUDS) * now.decay(half_life, sums[begin] * SPAN)
    x[place] = recent
    half_life, place = wanted.rate
    begin = half_life * LABEL_WIDTH
    decay = now.decay(half_life, sums[begin] * SPAN)
    lasting = label_sum(sums, begin, FRAUDS) * decay
    x[place] = lasting / (lasting + label_sum(sums, begin, GENUINES) * decay + 1.0)
    if wanted.age is not None and recent > FAINT and lasting > FAINT:
        # The shorter a memory, the less it holds of old frauds: the ratio of two tells their mean age.
        halving, place = wanted.age
        x[place] = max(math.log2(lasting / recent) * halving, 0.0)


def _recent(x: vec[float], wanted: RecentPlaces, known: EntityState, payment: Payment, event: Event) -> None:
    """What an entity's last events give; there is at least one."""
    digests = known.digests
    if wanted.visits is not None:
        merchants, devices = wanted.visits
        x[merchants] = float(_count(digests, 0, digest_at(event.recent_event, MERCHANT)))
        device = digest_at(event.recent_event, DEVICE)
        if device and _count(digests, 1, 0) < len(digests) // DIGESTS:  # 0: the device is not known
            x[devices] = float(_count(digests, 1, device))
    if wanted.cards is not None:
        x[wanted.cards] = float(_different(digests, 2))
    if wanted.travel is not None and (payment.country is not None or payment.latitude is not None):
        _travel(x, wanted.travel, known.events.recent[0], payment, event.time)


def _count(digests: vec[i64], place: i64, wanted: i64) -> i64:
    """How many recent events have a digest at a place (of DIGESTS)."""
    found: i64 = 0
    while place < len(digests):
        if digests[place] == wanted:
            found += 1
        place += DIGESTS
    return found


def _different(digests: vec[i64], place: i64) -> i64:
    """How many different digests recent events have at a place (of DIGESTS)."""
    found: i64 = 0
    begin = place
    while place < len(digests):
        earlier = begin
        while digests[earlier] != digests[place]:
            earlier += DIGESTS
        if earlier == place:
            found += 1
        place += DIGESTS
    return found


def _travel(
    x: vec[float], wanted: tuple[int, int, int], recent_event: bytes, payment: Payment, time: float
) -> None:
    last = parse_recent_event(recent_event)
    change, far, speed = wanted
    if payment.country and last.country:
        x[change] = 0.0 if payment.country == last.country else 1.0
    if payment.latitude is None or payment.longitude is None or math.isnan(last.latitude):
        return
    distance = great_circle(payment.latitude, payment.longitude, last.latitude, last.longitude)
    x[far] = distance
    # A minute is the least time between two places: clocks of terminals differ.
    x[speed] = distance / (max(abs(time - last.time), MINUTE) / HOUR)


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
