"""What a test run says of the guarantees it proved, and of those it could not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE

HERE = Path(__file__).parent
EXTERNAL = "127.0.0.1:1"


def run(kafka: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=HERE.parents[1],
        env={**os.environ, "RIVERWATCH_TEST_KAFKA": kafka, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.stdout


def test_without_a_real_kafka_guarantees_are_skipped_counted_and_the_reason_said() -> None:
    said = run("embedded", str(HERE / "test_topics.py"))
    assert "riverwatch: Kafka = embedded (Tansu" in said
    assert "guarantee tests: 0 run, 1 SKIPPED (no real Apache Kafka here" in said
    assert "GUARANTEE NOT TESTED: no real Apache Kafka here" in said
    assert "4 passed, 1 skipped" in said


def test_side_by_side_one_worker_has_all_that_needs_a_kafka_and_the_summary_is_of_all_workers() -> None:
    files = (str(HERE / "test_topics.py"), str(HERE / "infra" / "test_running.py"))
    said = run("embedded", *files, "-v", "-n", "2", "--dist", "loadgroup")
    assert len(re.findall(r"PASSED \S*test_running", said)) > 5
    of_kafka = re.findall(r"\[(gw\d)\] .*(?:PASSED|SKIPPED) \S*test_topics\S*@kafka", said)
    assert len(of_kafka) == 3
    assert len(set(of_kafka)) == 1
    assert "riverwatch: Kafka = embedded (Tansu" in said
    assert "guarantee tests: 0 run, 1 SKIPPED (no real Apache Kafka here" in said


@pytest.mark.parametrize("chosen", ["test_no_file", "nothing_at_all"])
def test_the_summary_stands_also_where_no_service_was_asked_for(chosen: str) -> None:
    said = run(EXTERNAL, str(HERE / "infra" / "test_running.py"), "-k", chosen)
    assert "Kafka = not asked for, Redis = not asked for; guarantee tests: 0 run, 0 skipped" in said


def test_a_guarantee_that_fails_counts_as_run() -> None:
    said = run(EXTERNAL, str(HERE / "test_topics.py"), "-k", "nobody_made", "--timeout=60")
    assert f"Kafka = external ({EXTERNAL})" in said
    assert "guarantee tests: 1 run, 0 skipped" in said
