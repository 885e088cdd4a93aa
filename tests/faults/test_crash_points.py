"""A worker is killed at every named point between two steps, under traffic, and nothing is wrong."""

from __future__ import annotations

import re
import signal
from itertools import cycle
from pathlib import Path

import pytest

from stream.runtime.crash_points import LEARN, SCORE, CrashPointError, crash_point
from stream.verify.audit import Audit
from tests.support.fault_traffic import CHANGED, caught_up, traffic
from tests.support.installation import Install, Installation

TIMES = {"score": 3, "learn": 2}  # which time is the last


def killed(system: Installation, points: dict[str, str]) -> None:
    """Of each role a worker dies at its point, under traffic, and another one takes its place."""
    armed = {
        role: system.start(role, crash_at=f"{point}:{TIMES[role]}", instance_id=role, **CHANGED)
        for role, point in points.items()
    }
    sent = 0
    while armed:
        assert sent < 20_000, f"not reached: {', '.join(points[role] for role in armed)}"
        system.send(traffic(sent, sent + 150))
        sent += 150
        system.until(
            lambda: any(worker.poll() is not None for worker in armed.values()) or caught_up(system, 60),
            60,
            "the workers do nothing",
        )
        for role, worker in list(armed.items()):
            if worker.poll() is not None:
                assert worker.poll() == -signal.SIGKILL, worker.log.read_text()
                del armed[role]
                system.start(role, instance_id=role, **CHANGED)
    system.send(traffic(sent, sent + 150))


@pytest.mark.guarantee
@pytest.mark.parametrize(("score", "learn"), [*zip(cycle(SCORE), LEARN, strict=False)])
def test_workers_killed_between_any_two_steps_leave_everything_right(
    install: Install, score: str, learn: str
) -> None:
    system = install(**CHANGED)
    killed(system, {"score": score, "learn": learn})
    system.until(lambda: caught_up(system), 60, "the workers are behind")
    report = Audit(system.settings).run()
    assert {promise.verdict for promise in report.promises} == {"holds"}, report


def test_every_named_point_in_the_code_is_one_that_is_tested() -> None:
    stream = Path(__file__).parents[2] / "stream"
    named = {
        name
        for file in stream.rglob("*.py")
        for name in re.findall(r'reached\("([a-z-]+)"\)', file.read_text("utf-8"))
    }
    assert named == {*SCORE, *LEARN}


def test_armed_point_dies_at_the_nth_time_and_no_other_does() -> None:
    died: list[int] = []
    reached = crash_point({"RIVERWATCH_CRASH_AT": "recorded:3"}, SCORE, die=lambda: died.append(1))
    for point in (*SCORE, *SCORE, "looked-up"):
        reached(point)
    assert not died
    reached("recorded")
    assert died == [1]


@pytest.mark.parametrize("wanted", ["nowhere:1", "recorded", "recorded:0", "recorded:x", "learned:1"])
def test_wrong_crash_point_is_refused_and_the_right_ones_are_named(wanted: str) -> None:
    with pytest.raises(CrashPointError, match="looked-up, profiles-applied, scored"):
        crash_point({"RIVERWATCH_CRASH_AT": wanted}, SCORE)
