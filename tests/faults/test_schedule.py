"""A short seeded fault run: real processes, real faults, and the judge has nothing to say."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from stream.runtime.crash_points import LEARN, SCORE
from tests.faults.faults import Faults
from tests.faults.report import as_markdown
from tests.faults.run import STRETCH, run
from tests.faults.schedule import CLUSTER, EMPTY, FAILOVER, LOG, LOG_SHORT, LONG, SHORT, schedule
from tests.faults.traffic import Shape, shape_of

SEED = int(os.environ.get("RIVERWATCH_TEST_SEED", "7"))


def test_same_seed_gives_the_same_schedule_and_another_one_another() -> None:
    assert schedule(3, LONG) == schedule(3, LONG)
    assert schedule(3, LONG) != schedule(4, LONG)
    assert len(schedule(3, LONG)) == sum(LONG.values())


def test_long_schedule_holds_what_the_figures_ask_for() -> None:
    """At least 40 `kill -9` of workers, 10 of Redis, 6 of the broker; every crash point, every fault."""
    steps = schedule(1, LONG)
    named = [step.name for step in steps]
    workers = sum("killed" in name and ("worker" in name or "learner" in name) for name in named)
    assert workers + 4 * named.count("crash points") >= 40
    assert named.count("redis killed") >= 10
    assert named.count("broker killed") >= 6
    points = [step.points for step in steps if step.name == "crash points"]
    assert {score for score, _ in points} == set(SCORE)
    assert {learn for _, learn in points} == set(LEARN)
    assert all(
        callable(getattr(Faults, name.replace(" ", "_")))
        for name in {*LONG, *SHORT, *FAILOVER, *CLUSTER, *EMPTY, *LOG, *LOG_SHORT}
    )


def test_same_seed_gives_the_same_traffic() -> None:
    shape = shape_of(5, 2000)
    again = Shape(5, 2000, shape.start)
    assert [shape.payment(number) for number in range(500)] == [
        again.payment(number) for number in range(500)
    ]
    labels = [label for number in range(2000) for label in shape.labels(number)]
    assert labels == [label for number in range(2000) for label in again.labels(number)]
    names = [label.transaction_id for label in labels]
    assert len(names) > len(set(names)), "some come twice"
    assert any(name.startswith("nobody") for name in names)
    assert {label.is_fraud for label in labels} == {True, False}


@pytest.mark.guarantee
def test_short_fault_run_breaks_no_promise(tmp_path: Path) -> None:
    """On a Kafka and a Redis of its own, which are killed too. The seed: RIVERWATCH_TEST_SEED."""
    found = run(
        tmp_path,
        schedule(SEED, SHORT),
        seed=SEED,
        events=12_000,
        rate=1000.0,
        stretch=STRETCH["short"],
        command="tests/faults/test_schedule.py",
        say=lambda text: print(text, file=sys.stderr),  # noqa: T201 - shown when it fails
    )
    assert found.broken == [], as_markdown(found)
    assert found.events >= 12_000
    assert found.faults["kill -9 of the broker"] == found.faults["kill -9 of Redis"] == 1
    assert found.faults["kill -9 of a score worker"] >= 3
    assert found.faults["kill -9 of a learn worker"] >= 3
