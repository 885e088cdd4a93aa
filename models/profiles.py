"""Profiles of entities: the arithmetic, and nothing else.

A profile is what is known of one entity (a card, a merchant, a device) before an event: constant memory, O(1)
an update, and only additions, multiplications, comparisons, square roots and powers of two, which IEEE 754
fixes to the bit. So the Redis script and this module give the same profiles, on any machine.

Sums decay by forward decay (Cormode, Shkapenyuk, Srivastava and Xu, "Forward Decay", ICDE 2009): an event at
time t weighs 2**(t / half_life), and a reader divides by the weight of its own moment. The weight is kept as
`mantissa * 2**exponent`: the caller computes the mantissa, the store aligns exponents by exact powers of two,
and nothing overflows however long the stream.
"""

from __future__ import annotations

from math import floor, ldexp, sqrt
from typing import Final, NamedTuple

MIN_COUNT: Final = 3.0  # fewer decayed events than this, and a mean is no norm to clip against
CLIP: Final = 3.0  # deviations: what is beyond is clipped to it, so one outlier does not become the norm
OUTLIER: Final = 2.0  # deviations above the mean from which an amount counts as an outlier
FLOOR: Final = (
    0.1  # least deviation of a log-amount: a card that always pays the same is not infinitely surprised
)
WIDTH: Final = 6  # numbers kept for each half-life: exponent, count, amount, log, log squared, outliers
LABEL_WIDTH: Final = 3  # and for labels: exponent, frauds, genuine
HISTORY: Final = 5  # labels remembered one by one
NORMAL: Final = -1022.0  # the smallest power of two by which a product rounds as `ldexp` does


Weight = tuple[float, float]
"""2**(t / half_life) as (exponent, mantissa): `mantissa * 2**exponent`, 1 <= mantissa < 2, exponent whole."""


def weights(time: float, half_lives: tuple[float, ...]) -> tuple[Weight, ...]:
    """The weight of an event under each half-life.

    Args:
        time: event time, seconds since 1970.
        half_lives: seconds, > 0.

    >>> weights(5.0, (2.0,))
    ((2.0, 1.4142135623730951),)
    """
    result: list[Weight] = []
    for half_life in half_lives:
        age: float = time / half_life
        exponent = float(floor(age))
        result.append((exponent, 2.0 ** (age - exponent)))
    return tuple(result)


class Event(NamedTuple):
    """What an event adds to every entity it touches.

    Attributes:
        time: event time, seconds since 1970.
        amount: major units, > 0.
        log_amount: ln(1 + amount).
        weights: of `time`, one for each half-life.
        note: at most 255 bytes that the last-events list keeps; the store never looks inside.
    """

    time: float
    amount: float
    log_amount: float
    weights: tuple[Weight, ...]
    note: bytes


class Profile(NamedTuple):
    """What is known of an entity from its events.

    Attributes:
        updates: events applied.
        first, last: event times of the earliest and the latest event, seconds.
        sums: WIDTH numbers for each half-life: exponent; then, in units of 2**exponent, the decayed
            count, sum of amounts, sum and sum of squares of the clipped log-amounts, count of outliers.
        recent: the notes of the last events, the latest first.
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


def shifted(value: float, shift: float) -> float:
    """`value * 2**shift` of a whole number: exact, unless it is too small for a float."""
    return ldexp(value, int(shift))


def updated(profile: Profile, event: Event, keep: int) -> Profile:
    """The profile after an event.

    Args:
        profile: before it.
        event: late ones (before `profile.last`) weigh what their own time gives them.
        keep: how many notes are kept, >= 0.
    """
    # Places instead of names, and no call that can be spared: this is the engine of replays.
    updates, first, last, sums, recent = profile
    time, amount, log_amount, event_weights, note = event
    new: list[float] = []
    at = 0
    for present in event_weights:
        exponent, mantissa = present
        scale, count, total = sums[at], sums[at + 1], sums[at + 2]
        logs, squares, outliers = sums[at + 3], sums[at + 4], sums[at + 5]
        at += WIDTH
        weight = mantissa
        if updates == 0:
            scale = exponent
        elif scale < exponent:
            shift = scale - exponent
            if shift >= NORMAL:
                factor = ldexp(1.0, int(shift))
                count, total, logs = count * factor, total * factor, logs * factor
                squares, outliers = squares * factor, outliers * factor
            else:
                count, total, logs = shifted(count, shift), shifted(total, shift), shifted(logs, shift)
                squares, outliers = shifted(squares, shift), shifted(outliers, shift)
            scale = exponent
        elif scale > exponent:
            weight = shifted(mantissa, exponent - scale)
        value = log_amount
        # A norm must rest on enough events, counted at this moment (a late event does not look back).
        if count / mantissa >= MIN_COUNT:
            mean, deviation = mean_and_deviation(count, logs, squares)
            if value > mean + OUTLIER * deviation:
                outliers += weight
            value = clipped(value, mean - CLIP * deviation, mean + CLIP * deviation)
        weighted = weight * value
        new.append(scale)
        new.append(count + weight)
        new.append(total + weight * amount)
        new.append(logs + weighted)
        new.append(squares + weighted * value)
        new.append(outliers)
    if updates == 0:
        first = last = time
    elif time > last:
        last = time
    elif time < first:
        first = time
    return Profile(updates + 1, first, last, tuple(new), (note, *recent)[:keep] if keep else ())


class Knowledge(NamedTuple):
    """What a label adds to every entity of its transaction.

    Attributes:
        time: event time of the transaction, seconds since 1970.
        weights: of `time`, one for each half-life.
        is_fraud: what is known now.
        corrects: the opposite was known before and is taken back.
    """

    time: float
    weights: tuple[Weight, ...]
    is_fraud: bool
    corrects: bool


class LabelProfile(NamedTuple):
    """What is known of an entity from confirmed labels.

    Attributes:
        updates: labels applied.
        frauds, genuine: transactions known to be so.
        first_fraud, last_fraud: event times of the earliest and latest known fraud, seconds; 0 without one.
        last_genuine: event time of the latest known genuine transaction, seconds; 0 without one.
        history: the last HISTORY labels, the latest first, 1.0 for fraud.
        run: how many frauds in a row the latest labels are.
        run_since: event time of the earliest fraud of that run, seconds; 0 without one.
        sums: LABEL_WIDTH numbers for each half-life: exponent; then decayed frauds and genuine.
    """

    updates: int
    frauds: int
    genuine: int
    first_fraud: float
    last_fraud: float
    last_genuine: float
    history: tuple[float, ...]
    run: int
    run_since: float
    sums: tuple[float, ...]


def no_labels(half_lives: int) -> LabelProfile:
    """The label profile of an entity of which nothing was ever confirmed."""
    return LabelProfile(0, 0, 0, 0.0, 0.0, 0.0, (), 0, 0.0, (0.0,) * (LABEL_WIDTH * half_lives))


def informed(profile: LabelProfile, knowledge: Knowledge) -> LabelProfile:
    """The label profile after a label. First and last times keep what was once believed of them."""
    updates, frauds, genuine, first, last, last_genuine, history, run, run_since, sums = profile
    time, label_weights, is_fraud, corrects = knowledge
    new: list[float] = []
    at = 0
    for present in label_weights:
        exponent, weight = present
        scale, fraud_sum, genuine_sum = sums[at], sums[at + 1], sums[at + 2]
        at += LABEL_WIDTH
        if updates == 0:
            scale = exponent
        elif scale < exponent:
            fraud_sum = shifted(fraud_sum, scale - exponent)
            genuine_sum = shifted(genuine_sum, scale - exponent)
            scale = exponent
        elif scale > exponent:
            weight = shifted(weight, exponent - scale)
        # What is taken back: a difference of sums can fall below zero by rounding, never by meaning.
        if is_fraud:
            fraud_sum += weight
            if corrects:
                genuine_sum = max(genuine_sum - weight, 0.0)
        else:
            genuine_sum += weight
            if corrects:
                fraud_sum = max(fraud_sum - weight, 0.0)
        new.append(scale)
        new.append(fraud_sum)
        new.append(genuine_sum)
    if is_fraud:
        frauds += 1
        genuine -= corrects
        first = time if first == 0.0 else min(first, time)
        last = max(last, time)
        run_since = min(run_since, time) if run else time
        run += 1
    else:
        genuine += 1
        frauds -= corrects
        last_genuine = max(last_genuine, time)
        run, run_since = 0, 0.0
    recent = (float(is_fraud), *history)[:HISTORY]
    return LabelProfile(
        updates + 1, frauds, genuine, first, last, last_genuine, recent, run, run_since, tuple(new)
    )


class Reading(NamedTuple):
    """What was known of one entity when an event came: before it, and by confirmed labels."""

    profile: Profile
    labels: LabelProfile


def at_moment(value: float, scale: float, now: Weight) -> float:
    """A decayed sum as it stands at a moment: `value * 2**scale / 2**(t / half_life)`.

    A moment before the sum's own (a late event) reads the sum as it stands: it does not look back.

    >>> at_moment(8.0, 3.0, (4.0, 1.0))
    4.0
    """
    exponent, mantissa = now
    return shifted(value / mantissa, min(scale - exponent, 0.0))
