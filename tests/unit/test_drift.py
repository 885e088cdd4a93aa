from __future__ import annotations

import random
from collections.abc import Iterable
from statistics import median

import pytest

from models.drift import MEMORY, DriftFound, Watch


def gauss(seed: int, count: int, mean: float, deviation: float = 1.0) -> list[float]:
    chance = random.Random(seed)
    return [chance.gauss(mean, deviation) for _ in range(count)]


def watched(values: Iterable[float], watch: Watch | None = None, *, step: float = 60.0) -> list[DriftFound]:
    watch = watch or Watch("amount_log")
    found = (watch.update(value, event_time=number * step) for number, value in enumerate(values))
    return [drift for drift in found if drift is not None]


def test_steady_stream_raises_no_signal() -> None:
    for seed in range(5):
        assert watched(gauss(seed, 20_000, mean=3.0)) == []


@pytest.mark.parametrize(("before", "after"), [(3.0, 3.8), (3.8, 3.0), (0.0, 2.0)])
def test_shift_is_told_once_with_its_means_and_its_beginning(before: float, after: float) -> None:
    drifts = []
    for seed in range(20):
        (drift,) = watched(gauss(seed, 5000, before) + gauss(100 + seed, 1000, after))
        assert drift.signal == "amount_log"
        assert drift.before == pytest.approx(before, abs=0.15)
        assert 5000 * 60.0 < drift.event_time < 5400 * 60.0
        drifts.append(drift)
    # one estimate rests on a few dozen values; over many streams it is right
    assert median(drift.after for drift in drifts) == pytest.approx(after, abs=0.15)
    assert median(drift.since for drift in drifts) == pytest.approx(5000 * 60.0, abs=5 * 60.0)


def test_rising_error_rate_is_found() -> None:
    chance = random.Random(5)
    errors = [float(chance.random() < 0.01) for _ in range(20_000)]
    errors += [float(chance.random() < 0.05) for _ in range(5000)]
    (drift,) = watched(errors)
    assert drift.before == pytest.approx(0.01, abs=0.003)
    assert drift.after > 0.03
    assert drift.since == pytest.approx(20_000 * 60.0, abs=500 * 60.0)


def test_further_findings_are_not_told_while_quiet() -> None:
    values = [value for level in range(8) for value in gauss(level, 600, mean=2.0 * level)]
    loud, calm = Watch("x", quiet=0.0), Watch("x", quiet=1e9)
    assert len(watched(values, loud)) >= 7
    assert len(watched(values, calm)) == 1
    assert calm.found == loud.found


def test_second_change_is_told_from_the_first_ones_level() -> None:
    first, second = watched(gauss(1, 4000, 0.0) + gauss(2, 4000, 2.0) + gauss(3, 1000, 4.0), step=3600.0)
    assert (first.before, first.after) == pytest.approx((0.0, 2.0), abs=0.3)
    assert (second.before, second.after) == pytest.approx((2.0, 4.0), abs=0.3)


def test_reset_forgets_the_level() -> None:
    watch = Watch("score")
    watched(gauss(1, 3000, 0.0), watch)
    watch.reset()
    assert watched(gauss(2, 3000, 5.0), watch) == []


def test_same_values_give_the_same_signals() -> None:
    values = gauss(1, 2000, 0.0) + gauss(2, 2000, 1.0)
    assert watched(values) == watched(values)


def test_memory_is_bounded() -> None:
    watch = Watch("x")
    watched(gauss(1, 3 * MEMORY, 0.0), watch)
    assert len(watch._values) == len(watch._times) == MEMORY


def test_change_slower_than_the_memory_still_has_a_level_before() -> None:
    chance = random.Random(9)
    values = [float(chance.random() < 0.5 + 0.05 * (number > 10_000)) for number in range(30_000)]
    (drift,) = watched(values, step=1.0)
    assert drift.before == pytest.approx(0.5, abs=0.03)
    assert drift.after > drift.before + 0.02
