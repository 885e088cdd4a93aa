"""Runs join without gaps, and only what joins is acknowledged."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from aiokafka.structs import ConsumerRecord
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from stream.records import Passed
from stream.runtime.app import BatchTopic, SkippedRecordsError, create_batch_app
from stream.runtime.consumer import BatchConsumer
from stream.runtime.positions import Positions, Run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CARDS = TP("cards", 0)


def run_of(begin: int, offsets: list[int], generation: int = 3) -> Run:
    records = [
        ConsumerRecord("cards", 0, offset, 0, 0, None, b"", None, -1, 0, ())  # type: ignore[call-arg, unused-ignore]
        for offset in offsets
    ]
    return Run(generation, CARDS, begin, records)


@given(offsets=st.sets(st.integers(10, 60), min_size=1), sizes=st.lists(st.integers(1, 20), min_size=60))
def test_parts_of_a_run_join_and_hold_what_it_held(offsets: set[int], sizes: list[int]) -> None:
    whole = run_of(7, sorted(offsets))
    parts: list[Run] = []
    rest: Run | None = whole
    for size in sizes:
        if rest is None:
            break
        part, rest = rest.split(size)
        assert 1 <= len(part.records) <= size
        parts.append(part)
    assert rest is None
    assert [record for part in parts for record in part.records] == whole.records
    assert parts[0].begin == whole.begin
    assert parts[-1].end == whole.end == max(offsets) + 1
    assert all(before.end == after.begin for before, after in pairwise(parts))


@pytest.fixture
def consumer(tmp_path: Path) -> Iterator[BatchConsumer]:
    """A consumer that was never started: it holds one partition, handled up to offset 100."""
    asyncio.set_event_loop(loop := asyncio.new_event_loop())
    app = create_batch_app(
        app_id="unit",
        bootstrap="127.0.0.1:1",
        topics=[BatchTopic("cards", lambda _: None, name="score")],
        data_dir=tmp_path / "faust",
    )
    made = app.consumer
    made.current = 3
    made.positions = Positions({CARDS: 100})
    yield made
    loop.close()
    made._thread.thread_loop.close()
    asyncio.set_event_loop(None)


def pending(consumer: BatchConsumer) -> dict[TP, int | None]:
    return {tp: consumer._new_offset(tp) for tp in consumer._filter_tps_with_pending_acks()}


def test_acknowledged_end_is_committed_once(consumer: BatchConsumer) -> None:
    consumer.acknowledge([run_of(100, [100, 101]), run_of(102, [105])])
    assert pending(consumer) == {CARDS: 106}
    assert pending(consumer) == {}


@pytest.mark.parametrize("begin", [101, 99])
def test_run_that_does_not_join_is_not_acknowledged(consumer: BatchConsumer, begin: int) -> None:
    with pytest.raises(SkippedRecordsError, match=r"cards\[0\].*offset 100 has to be handled next"):
        consumer.acknowledge([run_of(begin, [120])])
    assert pending(consumer) == {}


def test_run_of_a_generation_that_is_gone_is_ignored(consumer: BatchConsumer) -> None:
    consumer.acknowledge([run_of(100, [100], generation=1)])
    assert pending(consumer) == {}


def test_no_run_is_handed_on_once_partitions_are_being_let_go(consumer: BatchConsumer) -> None:
    run = run_of(100, [100])
    assert consumer.may_hand(run)
    consumer.letting_go.set()
    assert not consumer.may_hand(run)
    assert not consumer.took(run)


def test_two_agents_on_one_topic_are_refused() -> None:
    plans = [BatchTopic("cards", lambda _: None, name=name) for name in ("one", "two")]
    with pytest.raises(ValueError, match="each topic"):
        create_batch_app(app_id="unit", bootstrap="127.0.0.1:1", topics=plans)


def test_offsets_without_a_record_are_counted_once_however_often_they_are_passed() -> None:
    positions = Positions({CARDS: 0})
    positions.acknowledge(run_of(0, [0, 1, 4]))  # markers at 2 and 3
    assert positions.passed[CARDS] == Passed(2, 5)
    again = Positions({CARDS: 1}, {CARDS: positions.passed[CARDS]})
    again.acknowledge(run_of(1, [1, 4]))
    assert again.passed[CARDS] == Passed(2, 5)
    half = Positions({CARDS: 1}, {CARDS: positions.passed[CARDS]})
    half.acknowledge(run_of(1, [1, 4, 8]))  # and at 5, 6, 7
    assert half.passed[CARDS] == Passed(5, 9)


def test_records_that_were_lost_are_not_counted_as_offsets_without_one() -> None:
    positions = Positions({CARDS: 30})
    run = run_of(30, [70, 71, 73])._replace(lost=40)
    head, tail = run.split(1)
    assert tail is not None
    positions.acknowledge(head)
    positions.acknowledge(tail)
    assert positions.passed[CARDS] == Passed(1, 74)
