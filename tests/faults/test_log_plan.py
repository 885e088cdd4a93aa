"""A short seeded run of what befalls the log itself: real processes, and both judges are content."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.faults.log_faults import LEFT_OPEN
from tests.faults.report import as_markdown
from tests.faults.run import STRETCH, run
from tests.faults.schedule import LOG, LOG_SHORT, schedule

SEED = int(os.environ.get("RIVERWATCH_TEST_SEED", "7"))


def test_short_plan_of_the_log_leaves_out_no_fault_that_only_it_has() -> None:
    assert {*LOG} - {*LOG_SHORT} <= {"broker killed", "crash points"}


@pytest.mark.guarantee
def test_short_run_on_the_log_breaks_no_promise(tmp_path: Path) -> None:
    """The seed: RIVERWATCH_TEST_SEED."""
    found = run(
        tmp_path,
        schedule(SEED, LOG_SHORT),
        seed=SEED,
        events=8_000,
        rate=800.0,
        stretch=STRETCH["log"],
        command="tests/faults/test_log_plan.py",
        say=lambda text: print(text, file=sys.stderr),  # noqa: T201 - shown when it fails
    )
    assert found.broken == [], as_markdown(found)
    assert found.events > found.payments >= 8_000
    assert found.faults["aborted transactions"] == 10
    assert found.recoveries[LEFT_OPEN].times == 1
