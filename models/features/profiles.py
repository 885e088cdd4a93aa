"""Profiles of entities: the arithmetic, and nothing else.

A profile is what is known of one entity (a card, a merchant, a device) before an event: constant memory, O(1)
an update, and only additions, multiplications, comparisons, square roots and powers of two, which IEEE 754
fixes to the bit. So the Redis script and this module give the same profiles, on any machine.

Their sums decay as `models.features.decay` says.
"""

from __future__ import annotations

from math import sqrt
from typing import Final, NamedTuple
from zlib import crc32

from librt.vecs import extend, vec
from mypy_extensions import i64  # an int to Python; compiled, it is a number of the machine

from models.features.decay import Weight, block_weights, shifted
from models.features.label_memory import (
    LABEL_WIDTH,
    add_to_sums,
    counted,
    label_sum,
    remembered,
    without_forgotten,
)
from models.features.recent_events import CARD, DEVICE, MERCHANT, digest_at

MIN_COUNT: Final = 3.0  # fewer decayed events than this, and a mean is no norm to clip against
CLIP: Final = 3.0  # deviations: what is beyond is clipped to it, so one outlier does not become the norm
OUTLIER: Final = 2.0  # deviations above the mean from which an amount counts as an outlier
FLOOR: Final = (
    0.1  # least deviation of a log-amount: a card that always pays the same is not infinitely surprised
)
WIDTH: Final = 6  # numbers kept for each half-life: exponent, and behind it
COUNT: Final = 1
AMOUNTS: Final = 2
LOGS: Final = 3
SQUARES: Final = 4
OUTLIERS: Final = 5
DIGESTS: Final = 3  # digests kept of a recent event


class Event(NamedTuple):
    """What an event adds to every entity it updates.

    Attributes:
        time: event time, seconds since 1970.
        amount: major units, > 0.
        log_amount: ln(1 + amount).
        weights: of `time`, one for each half-life.
        recent_event: at most 255 bytes that the last-events list keeps; the store never looks inside.
    """

    time: float
    amount: float
    log_amount: float
    weights: tuple[Weight, ...]
    recent_event: bytes


class Profile(NamedTuple):
    """What is known of an entity from its events.

    Attributes:
        updates: events applied.
        first, last: event times of the earliest and the latest event, seconds.
        sums: WIDTH numbers for each half-life: exponent; then, in units of 2**exponent, the decayed
            count, sum of amounts, sum and sum of squares of the clipped log-amounts, count of outliers.
        recent: the last events, packed, the latest first.
    """

    updates: int
    first: float
    last: float
    sums: tuple[float, ...]
    recent: tuple[bytes, ...]


def empty(half_lives: int) -> Profile:
    """The profile of an entity that was never seen."""
    return Profile(0, 0.0, 0.0, (0.0,) * (WIDTH * half_lives), ())


def mean_and_deviation(count: float, total: float, squares: float) -> tuple[float, float]:
    """Mean and floored standard deviation of a decayed sample; the scale of the three cancels."""
    mean = total / count
    variance = squares / count - mean * mean
    if variance < FLOOR * FLOOR:
        return mean, FLOOR
    return mean, sqrt(variance)


def clipped(value: float, low: float, high: float) -> float:
    """What of a value lies within limits."""
    if value > high:
        return high
    return max(value, low)


class EventState:
    """What is known of an entity from its events, as `Profile`, to be changed in place."""

    __slots__ = ("first", "last", "recent", "sums", "updates")

    def __init__(self, profile: Profile) -> None:
        self.updates = profile.updates
        self.first = profile.first
        self.last = profile.last
        self.recent = list(profile.recent)
        self.sums = vec[float](profile.sums)

    def add(self, event: Event, max_recent: int) -> None:
        """Take an event in, as `apply_event` does."""
        time, amount, log_amount, event_weights, recent_event = event
        is_first = self.updates == 0
        sums = self.sums
        place: i64 = 0
        begin: i64 = 0
        while begin < len(sums):
            exponent, mantissa = event_weights[place]
            if is_first:
                sums[begin] = exponent
            _add_event(sums, begin, exponent, mantissa, amount, log_amount)
            place += 1
            begin += WIDTH
        if is_first:
            self.first = self.last = time
        elif time > self.last:
            self.last = time
        elif time < self.first:
            self.first = time
        self.recent.insert(0, recent_event)
        while len(self.recent) > max_recent:
            self.recent.pop()
        self.updates += 1

    def profile(self) -> Profile:
        """What is known now."""
        return Profile(self.updates, self.first, self.last, tuple(self.sums), tuple(self.recent))


def _aligned(sums: vec[float], begin: i64, exponent: float, mantissa: float) -> float:
    """Let the unit of sums be at least 2**exponent; what `mantissa * 2**exponent` is in their unit."""
    shift = sums[begin] - exponent
    if shift > 0.0:
        return shifted(mantissa, -shift)
    if shift < 0.0:
        sums[begin] = exponent
        at = begin + 1
        while at < begin + WIDTH:
            sums[at] = shifted(sums[at], shift)
            at += 1
    return mantissa


def _add_event(
    sums: vec[float], begin: i64, exponent: float, mantissa: float, amount: float, log_amount: float
) -> None:
    """Take an event in under one half-life: its sums begin with their exponent, see `Profile.sums`."""
    weight = _aligned(sums, begin, exponent, mantissa)
    value, count = log_amount, sums[begin + COUNT]
    # A norm must rest on enough events, counted at this moment (a late event does not look back).
    if count / mantissa >= MIN_COUNT:
        mean, deviation = mean_and_deviation(count, sums[begin + LOGS], sums[begin + SQUARES])
        if value > mean + OUTLIER * deviation:
            sums[begin + OUTLIERS] += weight
        value = clipped(value, mean - CLIP * deviation, mean + CLIP * deviation)
    weighted = weight * value
    sums[begin + COUNT] = count + weight
    sums[begin + AMOUNTS] += weight * amount
    sums[begin + LOGS] += weighted
    sums[begin + SQUARES] += weighted * value


def apply_event(profile: Profile, event: Event, max_recent: int) -> Profile:
    """The profile after an event.

    Args:
        profile: before it.
        event: late ones (before `profile.last`) weigh what their own time gives them.
        max_recent: how many recent events are kept, >= 0.
    """
    known = EventState(profile)
    known.add(event, max_recent)
    return known.profile()


class LabelDelta(NamedTuple):
    """What a label adds to every entity of its transaction.

    Attributes:
        time: event time of the transaction, seconds since 1970.
        digest: of the transaction's id, even: see `transaction_digest`.
        weights: of `time`, one for each half-life: see `block_weights`.
        is_fraud: what is known now.
        corrects: the opposite was known before and is taken back.
    """

    time: float
    digest: int
    weights: tuple[Weight, ...]
    is_fraud: bool
    corrects: bool


class LabelProfile(NamedTuple):
    """What is known of an entity from confirmed labels.

    All but `updates` is a function of the set of labelled transactions, each with its latest label: not of
    the order in which labels came, nor of what was believed between.

    Attributes:
        updates: labels applied, corrections included: how far in their log this stands.
        frauds, genuine: transactions known to be so.
        times: event times of the LATEST labelled transactions of the entity, the latest first, of one time by
            falling digest; older ones are forgotten here, whatever they are.
        codes: of each the digest, plus 1 where it is fraud.
        weeks: three numbers for each week with known frauds, the latest first: its number since 1970, how
            many, and the sum of whole seconds from its beginning to each. Forgotten here are weeks that are
            WEEKS or more before that of the latest labelled transaction.
        sums: LABEL_WIDTH numbers for each half-life: the block of the latest transaction; then what frauds
            and genuine of that block weigh, and those of the block before. Older ones are forgotten here.
    """

    updates: int
    frauds: int
    genuine: int
    times: tuple[float, ...]
    codes: tuple[int, ...]
    weeks: tuple[float, ...]
    sums: tuple[float, ...]

    @property
    def latest(self) -> tuple[bool, ...]:
        """Whether each of the latest is fraud, the latest first."""
        return tuple([code % 2 == 1 for code in self.codes])


def transaction_digest(transaction_id: str) -> int:
    """What tells transactions of an entity at the same time apart: the CRC-32 of the id, its lowest bit 0."""
    return crc32(transaction_id.encode()) // 2 * 2


def label_delta(
    transaction_id: str, time: float, is_fraud: bool, half_lives: tuple[float, ...], *, corrects: bool = False
) -> LabelDelta:
    """What a label adds to each entity of its transaction.

    Args:
        transaction_id: of the transaction.
        time: its event time, seconds since 1970.
        is_fraud: what is known now.
        half_lives: seconds, > 0.
        corrects: the opposite was known before; the store sets it.
    """
    weighed = block_weights(time, half_lives)
    return LabelDelta(time, transaction_digest(transaction_id), weighed, is_fraud, corrects)


def no_labels(half_lives: int) -> LabelProfile:
    """The label profile of an entity of which nothing was ever confirmed."""
    return LabelProfile(0, 0, 0, (), (), (), (0.0,) * (LABEL_WIDTH * half_lives))


class LabelState:
    """What is known of an entity from confirmed labels, as `LabelProfile`, to be changed in place."""

    __slots__ = ("codes", "frauds", "genuine", "sums", "times", "updates", "weeks")

    def __init__(self, profile: LabelProfile) -> None:
        self.updates = profile.updates
        self.frauds = profile.frauds
        self.genuine = profile.genuine
        self.times = vec[float](profile.times)
        self.codes = vec[i64](profile.codes)
        self.weeks = vec[float](profile.weeks)
        self.sums = vec[float](profile.sums)

    def decayed(self, begin: int, which: int) -> float:
        """Decayed frauds or genuine (`which`) of the half-life whose sums begin there: see `label_sum`."""
        return label_sum(self.sums, begin, which)

    def add(self, delta: LabelDelta) -> None:
        """Take a label in, as `apply_label` does."""
        is_first = self.updates == 0
        sums = self.sums
        begin: i64 = 0
        for block, weight in delta.weights:
            if is_first:
                sums[begin] = block
            add_to_sums(sums, begin, block, weight, delta.is_fraud, delta.corrects)
            begin += LABEL_WIDTH
        if delta.is_fraud:
            self.frauds += 1
            self.genuine -= delta.corrects
        else:
            self.genuine += 1
            self.frauds -= delta.corrects
        self.times, self.codes = remembered(self.times, self.codes, delta.time, delta.digest, delta.is_fraud)
        if delta.is_fraud or delta.corrects:
            self.weeks = counted(self.weeks, delta.time, 1.0 if delta.is_fraud else -1.0)
        self.weeks = without_forgotten(self.weeks, self.times[0])
        self.updates += 1

    def profile(self) -> LabelProfile:
        """What is known now."""
        return LabelProfile(
            self.updates,
            self.frauds,
            self.genuine,
            tuple(self.times),
            tuple(self.codes),
            tuple(self.weeks),
            tuple(self.sums),
        )


def apply_label(profile: LabelProfile, delta: LabelDelta) -> LabelProfile:
    """The label profile after a label."""
    known = LabelState(profile)
    known.add(delta)
    return known.profile()


class ProfileSnapshot(NamedTuple):
    """What was known of one entity when an event came: before it, and by confirmed labels."""

    profile: Profile
    labels: LabelProfile


class EntityState:
    """The same as a snapshot, to be changed in place.

    Attributes:
        digests: digests of merchant, device and card of each of the last events, in their order; they lie
            side by side, the events anywhere.
    """

    __slots__ = ("digests", "events", "labels")

    def __init__(self, snapshot: ProfileSnapshot) -> None:
        self.events = EventState(snapshot.profile)
        self.labels = LabelState(snapshot.labels)
        self.digests = vec[i64]()
        for recent_event in self.events.recent:
            self.digests = extend(self.digests, _digests(recent_event))

    def add(self, event: Event, max_recent: int) -> None:
        """Take an event in, as `apply_event` does."""
        self.events.add(event, max_recent)
        recent_events: i64 = len(self.events.recent)
        if recent_events:
            self.digests = extend(_digests(event.recent_event), self.digests[: DIGESTS * (recent_events - 1)])


def _digests(recent_event: bytes) -> vec[i64]:
    return vec[i64](
        [digest_at(recent_event, MERCHANT), digest_at(recent_event, DEVICE), digest_at(recent_event, CARD)]
    )
