from __future__ import annotations

import math
import random
from collections.abc import Iterable
from statistics import median

import pytest

from models.metrics.drift import ERROR, FRAUD_LOSS, INPUT, MEMORY, DriftFound, DriftWatch, Manner, fraud_loss

SINGLE = Manner(1, 0.0, 20)
TENS = Manner(10, 0.0, 20)


def gauss(seed: int, count: int, mean: float, deviation: float = 1.0) -> list[float]:
    chance = random.Random(seed)
    return [chance.gauss(mean, deviation) for _ in range(count)]


def watched(
    values: Iterable[float], watch: DriftWatch | None = None, *, step: float = 60.0
) -> list[DriftFound]:
    watch = watch or DriftWatch("amount_log", TENS)
    found = (watch.update(value, event_time=number * step) for number, value in enumerate(values))
    return [drift for drift in found if drift is not None]


def bursts(seed: int, count: int, *, share: float = 0.01, size: int = 40) -> list[float]:
    """0 or 1, the ones in runs: errors as they come when a card is stolen."""
    chance = random.Random(seed)
    values: list[float] = []
    while len(values) < count:
        values += [1.0] * size if chance.random() < share / size else [0.0]
    return values[:count]


def test_steady_stream_raises_no_signal() -> None:
    for seed in range(5):
        assert watched(gauss(seed, 20_000, mean=3.0)) == []


def test_bursts_are_no_change_to_blocks_that_are_longer_than_they_are() -> None:
    found = dict.fromkeys((SINGLE, ERROR), 0)
    for seed in range(5):
        for manner in found:
            found[manner] += len(watched(bursts(seed, 60_000), DriftWatch("error", manner)))
    assert found[ERROR] == 0
    assert found[SINGLE] > 0  # or the stream would prove nothing


@pytest.mark.parametrize(("before", "after"), [(3.0, 3.8), (3.8, 3.0), (0.0, 2.0)])
def test_shift_is_told_once_with_its_means_and_its_beginning(before: float, after: float) -> None:
    drifts = []
    for seed in range(20):
        (drift,) = watched(gauss(seed, 5000, before) + gauss(100 + seed, 1000, after))
        assert drift.signal == "amount_log"
        assert drift.before == pytest.approx(before, abs=0.15)
        assert 5000 * 60.0 < drift.event_time < 5400 * 60.0
        drifts.append(drift)
    # one estimate rests on a few blocks; over many streams it is right
    assert median(drift.after for drift in drifts) == pytest.approx(after, abs=0.15)
    assert median(drift.since for drift in drifts) == pytest.approx(5000 * 60.0, abs=10 * 60.0)


def test_rising_error_rate_is_found() -> None:
    chance = random.Random(5)
    errors = [float(chance.random() < 0.01) for _ in range(60_000)]
    errors += [float(chance.random() < 0.05) for _ in range(20_000)]
    (drift,) = watched(errors, DriftWatch("error", ERROR))
    assert drift.before == pytest.approx(0.01, abs=0.003)
    assert drift.after > 0.03
    assert drift.since == pytest.approx(60_000 * 60.0, abs=2000 * 60.0)


def test_fall_is_not_told_where_only_a_rise_is() -> None:
    falling = gauss(1, 3000, 4.0) + gauss(2, 3000, 1.0)
    rising = TENS._replace(rising=True)
    assert len(watched(falling)) == 1
    assert watched(falling, DriftWatch("fraud_loss", rising)) == []
    (found,) = watched(falling + gauss(3, 1000, 3.0), DriftWatch("fraud_loss", rising))
    assert (found.before, found.after) == pytest.approx((1.0, 3.0), abs=0.3)  # the fall is its level


def test_values_of_a_signal_that_settles_are_not_looked_at() -> None:
    values = [number / 500.0 for number in range(2000)] + gauss(1, 2000, 4.0)
    assert watched(values, DriftWatch("score", TENS), step=1.0)
    assert watched(values, DriftWatch("score", TENS._replace(settle=2000.0)), step=1.0) == []


def test_block_spans_the_values_and_the_time_that_it_must() -> None:
    short = DriftWatch("x", Manner(10, 3600.0, 20))
    watched(gauss(1, 1000, 0.0), short, step=60.0)
    assert len(short._blocks) == 1000 // 61  # the 61st value is an hour after the first
    long = DriftWatch("x", Manner(10, 3600.0, 20))
    watched(gauss(1, 1000, 0.0), long, step=900.0)
    assert len(long._blocks) == 100


def test_many_values_at_once_are_the_same_as_one_by_one() -> None:
    values = gauss(1, 3000, 0.0) + gauss(2, 1000, 2.0)
    watch = DriftWatch("amount_log", TENS)
    many = []
    for at in range(0, len(values), 10):
        part = values[at : at + 10]
        times = [number * 60.0 for number in range(at, at + 10)]
        many.append(watch.update_many(10, sum(part), since=times[0], event_time=times[-1]))
    (found,) = [each for each in many if each is not None]
    (single,) = watched(values)
    assert (found.signal, found.since, found.event_time) == (single.signal, single.since, single.event_time)
    assert (found.before, found.after) == pytest.approx((single.before, single.after))


def test_further_findings_are_not_told_while_quiet() -> None:
    values = [value for level in range(8) for value in gauss(level, 600, mean=2.0 * level)]
    loud, calm = DriftWatch("x", TENS, quiet=0.0), DriftWatch("x", TENS, quiet=1e9)
    assert len(watched(values, loud)) >= 7
    assert len(watched(values, calm)) == 1
    assert calm.found == loud.found


def test_student_finds_a_change_sooner_than_adwin_from_as_few_values() -> None:
    student = Manner(10, 0.0, 12, rising=True, student=5.0)
    for seed in range(5):
        still, changed = gauss(seed, 400, 1.3, 1.8), gauss(100 + seed, 200, 2.7, 1.8)
        assert watched(still + gauss(200 + seed, 3000, 1.3, 1.8), DriftWatch("fraud_loss", student)) == []
        assert watched(gauss(seed, 400, 2.7) + gauss(seed, 400, 1.3), DriftWatch("fraud_loss", student)) == []
        (found,) = watched(still + changed, DriftWatch("fraud_loss", student))
        assert found.detector == "student"
        assert (found.before, found.after) == pytest.approx((1.3, 2.7), abs=0.6)
        adwin = watched(still + changed, DriftWatch("fraud_loss", TENS._replace(rising=True)))
        assert all(found.event_time < each.event_time for each in adwin)


def test_student_asks_for_more_than_two_levels_of_the_same() -> None:
    """Blocks that do not differ have no spread to measure a step by."""
    assert watched([1.0] * 500, DriftWatch("x", FRAUD_LOSS)) == []


def test_second_change_is_told_from_the_first_ones_level() -> None:
    first, second = watched(gauss(1, 4000, 0.0) + gauss(2, 4000, 2.0) + gauss(3, 1000, 4.0), step=3600.0)
    assert (first.before, first.after) == pytest.approx((0.0, 2.0), abs=0.5)
    assert (second.before, second.after) == pytest.approx((2.0, 4.0), abs=0.5)


def test_reset_forgets_the_level() -> None:
    watch = DriftWatch("score", TENS)
    watched(gauss(1, 3000, 0.0), watch)
    watch.reset()
    assert watched(gauss(2, 3000, 5.0), watch) == []


def test_same_values_give_the_same_signals() -> None:
    values = gauss(1, 2000, 0.0) + gauss(2, 2000, 1.0)
    assert watched(values) == watched(values)


def test_memory_is_bounded() -> None:
    watch = DriftWatch("x", SINGLE)
    watched(gauss(1, 3 * MEMORY, 0.0), watch)
    assert len(watch._blocks) == MEMORY


def test_constant_signal_is_measured_once_it_differs() -> None:
    chance = random.Random(1)
    still, changed = [0.1] * 5000, [float(chance.random() < 0.5) for _ in range(4000)]
    assert watched(still, DriftWatch("input.country=FR", INPUT)) == []
    (found,) = watched(still + changed, DriftWatch("input.country=FR", INPUT))
    assert (found.before, found.after) == pytest.approx((0.1, 0.5), abs=0.05)


def test_slow_change_still_has_a_level_before() -> None:
    chance = random.Random(9)
    values = [float(chance.random() < 0.5 + 0.05 * (number > 40_000)) for number in range(90_000)]
    (drift,) = watched(values, DriftWatch("x", Manner(100, 0.0, 20)), step=0.1)
    assert drift.before == pytest.approx(0.5, abs=0.03)
    assert drift.after > drift.before + 0.02


def test_loss_of_a_fraud_falls_with_its_score_and_is_bounded() -> None:
    scores = [0.0, 1e-9, 0.01, 0.1, 0.5, 1.0]
    losses = [fraud_loss(score) for score in scores]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == losses[2] == pytest.approx(-math.log(0.01))
    assert losses[-1] == 0.0


def test_frauds_that_look_like_any_payment_are_found_after_some_dozens_of_them() -> None:
    for seed in range(5):
        chance = random.Random(seed)
        seen = [fraud_loss(chance.betavariate(1.0, 1.0)) for _ in range(600)]
        unseen = [fraud_loss(chance.betavariate(1.0, 200.0)) for _ in range(150)]
        assert watched(seen, DriftWatch("fraud_loss", FRAUD_LOSS), step=900.0) == []
        (found,) = watched(seen + unseen, DriftWatch("fraud_loss", FRAUD_LOSS), step=900.0)
        assert found.event_time < (600 + 100) * 900.0
