"""How a worker leaves is said, and nothing better than it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from faust.types import TP

from stream.runtime import shutdown_log as leaving
from stream.runtime.positions import Positions

if TYPE_CHECKING:
    from collections.abc import Mapping


def said(caplog: pytest.LogCaptureFixture, left_over: int, silent: str | None) -> tuple[str, str]:
    with caplog.at_level("INFO"):
        leaving.leaves("riverwatch-score", left_over, silent, session=10.0)
    [record] = caplog.records
    return record.levelname, record.getMessage()


def test_a_worker_that_leaves_nothing_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert said(caplog, 0, None) == (
        "INFO",
        "riverwatch-score leaves: all that it took is done and acknowledged",
    )


def test_a_worker_that_leaves_something_warns_of_it(caplog: pytest.LogCaptureFixture) -> None:
    level, line = said(caplog, 12, None)
    assert level == "WARNING"
    assert "12 records that it took are not acknowledged and will be handled again" in line


def test_a_worker_that_cannot_say_goodbye_says_what_follows(caplog: pytest.LogCaptureFixture) -> None:
    level, line = said(caplog, 12, "kafka:9092")
    assert level == "WARNING"
    for part in ("kafka:9092", "12 records", "nothing is lost", "10 s after Kafka last heard of it"):
        assert part in line


@pytest.mark.parametrize(
    ("taken", "stands", "left"),
    [
        ({}, {}, 0),
        ({0: 120}, {0: 120}, 0),
        ({0: 120}, {0: 100}, 20),
        ({0: 120, 1: 7}, {0: 100, 1: 3}, 24),
        ({0: 120, 1: 7}, {0: 120, 1: 9}, 0),
    ],
)
def test_only_what_kafka_confirmed_counts_as_acknowledged(
    taken: Mapping[int, int], stands: Mapping[int, int], left: int
) -> None:
    positions = Positions({})
    positions.taken = {TP("cards", number): end for number, end in taken.items()}
    positions.committed = {TP("cards", number): end for number, end in stands.items()}
    assert positions.left_over() == left
