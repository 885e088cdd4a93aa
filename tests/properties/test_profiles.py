"""The arithmetic of profiles against what it means: sums over all events, each with its own weight."""

from __future__ import annotations

import math
import random
from typing import NamedTuple

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.features.decay import SPAN, UNIT, at_moment, block_weights, weights
from models.features.label_memory import FRAUDS, GENUINES, LABEL_WIDTH, label_sum
from models.features.profiles import (
    CLIP,
    FLOOR,
    MIN_COUNT,
    OUTLIER,
    WIDTH,
    Event,
    LabelProfile,
    LabelState,
    Profile,
    apply_event,
    apply_label,
    empty,
    label_delta,
    mean_and_deviation,
    no_labels,
)

HALF_LIVES = (60.0, 7777.0, 86_400.0 * 30)
START = 1.7e9

times = st.lists(st.floats(0.0, 3e6), min_size=1, max_size=60).map(
    lambda offsets: [START + each for each in offsets]
)
happenings = st.lists(
    st.tuples(st.floats(0.0, 3e4), st.floats(0.01, 1e9)), min_size=1, max_size=60
)  # seconds after the one before, amount


def event(time: float, amount: float, recent_event: bytes = b"") -> Event:
    return Event(time, amount, math.log1p(amount), weights(time, HALF_LIVES), recent_event)


def profile_of(events: list[Event], max_recent: int = 0) -> Profile:
    profile = empty(len(HALF_LIVES))
    for each in events:
        profile = apply_event(profile, each, max_recent)
    return profile


def decayed(profile: Profile, half_life: int, number: int, now: float) -> float:
    at = half_life * WIDTH
    return at_moment(profile.sums[at + number], profile.sums[at], weights(now, HALF_LIVES)[half_life])


class Naive(NamedTuple):
    """The statistics of one half-life, as every event's own weight at the last moment gives them."""

    events: float
    amount: float
    logs: float
    squares: float
    outliers: float


def naive(events: list[Event], half_life: float) -> Naive:
    kept: list[tuple[float, float, float, float]] = []  # time, amount, clipped log-amount, outlier
    for each in events:
        value, outlier = each.log_amount, 0.0
        weighed = [(2.0 ** (-(each.time - time) / half_life), log) for time, _, log, _ in kept]
        count = sum(weight for weight, _ in weighed)
        assume(abs(count - MIN_COUNT) > 1e-6)  # rounding decides on the edge, and may
        if count >= MIN_COUNT:
            mean = sum(weight * log for weight, log in weighed) / count
            variance = sum(weight * (log - mean) ** 2 for weight, log in weighed) / count
            deviation = max(math.sqrt(variance), FLOOR)
            assume(abs(value - mean - OUTLIER * deviation) > 1e-6)
            outlier = float(value > mean + OUTLIER * deviation)
            value = max(min(value, mean + CLIP * deviation), mean - CLIP * deviation)
        kept.append((each.time, each.amount, value, outlier))
    weighed_all = [
        (2.0 ** (-(events[-1].time - time) / half_life), amount, log, outlier)
        for time, amount, log, outlier in kept
    ]
    return Naive(
        sum(weight for weight, _, _, _ in weighed_all),
        sum(weight * amount for weight, amount, _, _ in weighed_all),
        sum(weight * log for weight, _, log, _ in weighed_all),
        sum(weight * log * log for weight, _, log, _ in weighed_all),
        sum(weight * outlier for weight, _, _, outlier in weighed_all),
    )


@given(happenings)
def test_every_sum_is_the_sum_over_all_events_of_what_each_weighs_now(
    happened: list[tuple[float, float]],
) -> None:
    now = START
    events = []
    for step, amount in happened:
        now += step
        events.append(event(now, amount))
    profile = profile_of(events)
    for place, half_life in enumerate(HALF_LIVES):
        expected = naive(events, half_life)
        for number, value in enumerate(expected, start=1):
            assert decayed(profile, place, number, now) == pytest.approx(value, rel=1e-6, abs=1e-6)


@given(times, st.randoms(use_true_random=False))
def test_counts_and_amounts_do_not_depend_on_the_order_of_arrival(
    at: list[float], chance: random.Random
) -> None:
    events = [event(time, 1.0 + place) for place, time in enumerate(at)]
    late = list(events)
    chance.shuffle(late)
    in_order, shuffled = profile_of(sorted(events)), profile_of(late)
    now = max(at)
    for place, half_life in enumerate(HALF_LIVES):
        count = sum(2.0 ** (-(now - time) / half_life) for time in at)
        assert decayed(in_order, place, 1, now) == pytest.approx(count, rel=1e-9)
        assert decayed(shuffled, place, 1, now) == pytest.approx(count, rel=1e-9)
        amount = decayed(in_order, place, 2, now)
        assert decayed(shuffled, place, 2, now) == pytest.approx(amount, rel=1e-9)
    assert (shuffled.updates, shuffled.first, shuffled.last) == (len(at), min(at), now)


@given(happenings, st.integers(-1000, 1000))
def test_the_same_stream_at_another_time_gives_the_same_bits(
    happened: list[tuple[float, float]], half_lives: int
) -> None:
    """With a power of two for a half-life and whole seconds, times and weights are exact."""
    half_life = (64.0,)

    def run(start: float) -> Profile:
        profile, now = empty(1), start
        for step, amount in happened:
            now += math.floor(step)
            profile = apply_event(
                profile, Event(now, amount, math.log1p(amount), weights(now, half_life), b""), 0
            )
        return profile

    here, there = run(2.0**30), run(2.0**30 + 64.0 * half_lives)
    assert there.sums[0] - here.sums[0] == half_lives
    assert there.sums[1:] == here.sums[1:]


@given(happenings, st.floats(1.0, 1e15))
def test_one_outlier_moves_the_norm_no_further_than_the_clip(
    happened: list[tuple[float, float]], amount: float
) -> None:
    now = START
    events = []
    for step, before in happened:
        now += step
        events.append(event(now, before))
    profile = profile_of(events)
    after = apply_event(profile, event(now, amount), 0)
    for place in range(len(HALF_LIVES)):
        _, count, _, logs, squares, _ = profile.sums[place * WIDTH : place * WIDTH + WIDTH]
        if decayed(profile, place, 1, now) < MIN_COUNT * (1 + 1e-9):
            continue
        mean, deviation = mean_and_deviation(count, logs, squares)
        count, _, logs = after.sums[place * WIDTH + 1 : place * WIDTH + 4]
        # At least MIN_COUNT of old weight stands against one new event at no more than CLIP deviations.
        assert abs(logs / count - mean) <= CLIP * deviation / (MIN_COUNT + 1) * (1 + 1e-6) + 1e-9


@given(st.lists(st.binary(max_size=255), max_size=12), st.integers(0, 6))
def test_the_last_events_are_kept_the_latest_first(recent_events: list[bytes], max_recent: int) -> None:
    profile = profile_of([event(START, 1.0, recent_event) for recent_event in recent_events], max_recent)
    assert profile.recent == tuple(reversed(recent_events))[:max_recent]


@given(st.lists(st.floats(-1e11, 1e12), min_size=1, max_size=20))
def test_no_time_is_too_early_or_too_late(at: list[float]) -> None:
    profile = profile_of([event(time, 10.0) for time in at])
    assert all(map(math.isfinite, profile.sums))
    assert min(profile.sums[1::WIDTH]) >= 1.0  # the latest event weighs one at least
    assert max(profile.sums[1::WIDTH]) <= 2.0 * len(at)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=40),
    st.lists(st.floats(0.0, 3e6), min_size=6, max_size=6),
)
def test_labels_sum_to_what_is_known_of_each_transaction_now(
    said: list[tuple[int, bool]], offsets: list[float]
) -> None:
    profile = no_labels(len(HALF_LIVES))
    known: dict[int, bool] = {}
    applied = 0
    for transaction, fraud in said:
        if known.get(transaction) == fraud:
            continue  # a repeat informs nobody
        time, corrects = START + offsets[transaction], transaction in known
        delta = label_delta(f"t{transaction}", time, fraud, HALF_LIVES, corrects=corrects)
        profile = apply_label(profile, delta)
        known[transaction] = fraud
        applied += 1
    frauds = [START + offsets[transaction] for transaction, fraud in known.items() if fraud]
    genuine = [START + offsets[transaction] for transaction, fraud in known.items() if not fraud]
    assert (profile.frauds, profile.genuine, profile.updates) == (len(frauds), len(genuine), applied)
    assert sorted(zip(profile.times, profile.latest, strict=True)) == sorted(
        (START + offsets[transaction], fraud) for transaction, fraud in known.items()
    )
    assert list(profile.times) == sorted(profile.times, reverse=True)
    for place, half_life in enumerate(HALF_LIVES):
        now = START + 3e6
        for number, those in ((FRAUDS, frauds), (GENUINES, genuine)):
            # What a block before the last two weighed is forgotten; a weight is a whole number of 1 / UNIT.
            block = max(frauds + genuine, default=0.0) // (half_life * SPAN) - 1
            weighed = [
                2.0 ** (-(now - time) / half_life) for time in those if time // (half_life * SPAN) >= block
            ]
            found = _labels(profile, place, number, now)
            assert found == pytest.approx(sum(weighed), rel=0.51 / UNIT, abs=1e-12)
            everything = sum(2.0 ** (-(now - time) / half_life) for time in those)
            assert found == pytest.approx(everything, rel=0.51 / UNIT, abs=2.0**-SPAN * len(those))


def _labels(profile: LabelProfile, half_life: int, number: int, now: float) -> float:
    sums, begin = LabelState(profile).sums, half_life * LABEL_WIDTH
    return at_moment(label_sum(sums, begin, number), sums[begin] * SPAN, weights(now, HALF_LIVES)[half_life])


@given(st.floats(-1e11, 1e12), st.floats(0.5, 1e9))
def test_a_weight_in_its_block_is_the_weight_to_a_whole_number(time: float, half_life: float) -> None:
    [(exponent, mantissa)], [(block, weight)] = weights(time, (half_life,)), block_weights(time, (half_life,))
    assert 0.0 <= exponent - block * SPAN < SPAN
    assert weight == int(weight)
    assert weight / UNIT == pytest.approx(mantissa * 2.0 ** (exponent - block * SPAN), rel=0.51 / UNIT)


@given(st.floats(-1e12, 1e12), st.floats(0.5, 1e9))
def test_a_weight_is_the_power_of_two_of_its_time(time: float, half_life: float) -> None:
    [(exponent, mantissa)] = weights(time, (half_life,))
    assert 1.0 <= mantissa <= 2.0
    assert exponent + math.log2(mantissa) == pytest.approx(time / half_life, rel=1e-12, abs=1e-9)
