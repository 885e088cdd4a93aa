"""The guards of the batch stream, on a real Kafka: what is lost on the way stops it or is read again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from stream.runtime.app import (
    Record,
    SkippedRecordsError,
)
from stream.runtime.consumer import BatchConsumer
from stream.runtime.fetch_thread import FetchThread
from stream.runtime.positions import Run
from tests.integration.runtime.batches import Topic, at_work, await_that, values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


pytestmark = pytest.mark.guarantee


def test_lost_run_stops_the_worker_before_anything_behind_it_is_acknowledged(
    topic: Callable[[int], Topic], monkeypatch: pytest.MonkeyPatch
) -> None:
    events = topic(1)
    events.write(100)
    lost: list[Run] = []
    take = BatchConsumer.took

    def lose_the_second(self: BatchConsumer, run: Run) -> bool:
        if run.begin == 100 and not lost:
            lost.append(run)
            return False
        return take(self, run)

    monkeypatch.setattr(BatchConsumer, "took", lose_the_second)
    with at_work(events, lambda _: None) as running:
        await_that(events.is_committed, "the first run committed")
        events.write(50)
        await_that(lambda: bool(lost), "a run lost")
        events.write(50)
        await_that(lambda: running.crash is not None, "a crash")
        assert isinstance(running.crash, SkippedRecordsError)
        assert "offset 100 has to be handled next" in str(running.crash)
    assert events.committed() == [100]


def test_records_of_another_generation_are_dropped_and_read_again(
    topic: Callable[[int], Topic], monkeypatch: pytest.MonkeyPatch
) -> None:
    events = topic(2)
    events.write(1000)
    fetch = FetchThread._fetch
    planted: list[int] = []

    async def stale_once(self: FetchThread, *args: Any) -> tuple[int, Mapping[Any, list[Any]]]:
        generation, fetched = await fetch(self, *args)
        if fetched and not planted:
            planted.append(sum(map(len, fetched.values())))
            generation -= 1
        return generation, fetched

    monkeypatch.setattr(FetchThread, "_fetch", stale_once)
    handled: list[Record] = []
    with at_work(events, handled.extend) as running:
        await_that(lambda: len(handled) >= 1000, "all records handled")  # nothing new comes to reveal a gap
        assert [running.consumer.stale_dropped] == planted
    assert sorted(values(handled)) == list(range(1000))
    assert events.committed() == events.ends()


def test_records_missing_from_a_fetch_are_read_again(
    topic: Callable[[int], Topic], monkeypatch: pytest.MonkeyPatch
) -> None:
    events = topic(1)
    events.write(1000)
    fetch = FetchThread._fetch
    missing: list[int] = []

    async def lose_some(self: FetchThread, *args: Any) -> tuple[int, Mapping[Any, list[Any]]]:
        generation, fetched = await fetch(self, *args)
        if fetched and not missing:
            fetched = {where: records[7:] for where, records in fetched.items()}
            missing.append(7)
        return generation, fetched

    monkeypatch.setattr(FetchThread, "_fetch", lose_some)
    handled: list[Record] = []
    with at_work(events, handled.extend) as running:
        await_that(lambda: len(handled) >= 1000, "all records handled")
        assert running.consumer.gaps_believed == 0
    assert missing
    assert values(handled) == list(range(1000))


def test_gaps_left_by_transactions_are_passed_and_acknowledged(topic: Callable[[int], Topic]) -> None:
    events = topic(1)
    handled: list[Record] = []
    producer = Producer({"bootstrap.servers": events.bootstrap, "transactional.id": events.name})
    producer.init_transactions(20)
    with at_work(events, handled.extend) as running:
        for number in range(5):  # each transaction ends with a marker: an offset without a record
            producer.begin_transaction()
            producer.produce(events.name, str(number).encode())
            producer.commit_transaction(20)
            await_that(lambda count=number + 1: len(handled) >= count, "the transaction handled")  # type: ignore[misc]  # a default binds it
        await_that(lambda: events.committed() == [9], "the last record's end committed")
        assert running.consumer.gaps_believed == 4
        assert running.crash is None
    assert values(handled) == [0, 1, 2, 3, 4]
