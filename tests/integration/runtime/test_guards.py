"""The guards of the batch stream, on a real Kafka: what is lost on the way stops it or is read again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient
from faust.types import TP

from stream.runtime.app import (
    Record,
    SkippedRecordsError,
)
from stream.runtime.consumer import BatchConsumer
from stream.runtime.fetch_thread import Fetch, FetchThread
from stream.runtime.positions import Run
from tests.integration.runtime.batches import Topic, at_work, await_that, values

if TYPE_CHECKING:
    from collections.abc import Callable


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

    async def stale_once(self: FetchThread, *args: Any) -> Fetch:
        generation, fetched, gaps = await fetch(self, *args)
        if fetched and not planted:
            planted.append(sum(map(len, fetched.values())))
            generation -= 1
        return Fetch(generation, fetched, gaps)

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

    async def lose_some(self: FetchThread, *args: Any) -> Fetch:
        generation, fetched, gaps = await fetch(self, *args)
        if fetched and not missing:
            fetched = {where: records[7:] for where, records in fetched.items()}
            missing.append(7)
        return Fetch(generation, fetched, gaps)

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
        assert (running.consumer.gaps_known, running.consumer.gaps_believed) == (4, 0)
        assert running.crash is None
    assert values(handled) == [0, 1, 2, 3, 4]


def test_a_lost_fetch_behind_a_transaction_is_not_taken_for_its_marker(
    topic: Callable[[int], Topic], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no answer of Kafka went over in its place is read again, be there markers around it or not."""
    events = topic(1)
    fetch = FetchThread._fetch
    lost: list[int] = []

    async def lose_a_fetch(self: FetchThread, *args: Any) -> Fetch:
        found = await fetch(self, *args)
        if len(handled) == 10 and found.records and not lost:
            lost.append(sum(map(len, found.records.values())))
            return Fetch(found.generation, {}, {})
        return found

    monkeypatch.setattr(FetchThread, "_fetch", lose_a_fetch)
    handled: list[Record] = []
    producer = Producer({"bootstrap.servers": events.bootstrap, "transactional.id": events.name})
    producer.init_transactions(20)
    with at_work(events, handled.extend) as running:
        for begin in (0, 10, 20):
            producer.begin_transaction()
            for number in range(begin, begin + 10):
                producer.produce(events.name, str(number).encode())
            producer.commit_transaction(20)
            expected = 10 if begin < 20 else 30
            await_that(lambda count=expected: len(handled) >= count, "the transactions handled")  # type: ignore[misc]  # a default binds it
            if begin == 10:
                await_that(lambda: bool(lost), "a fetch lost")
        await_that(lambda: events.committed() == [32], "the last record's end committed")
        assert running.consumer.gaps_believed == 0
    assert values(handled) == list(range(30))


def test_records_that_went_before_they_were_read_are_named(
    topic: Callable[[int], Topic], caplog: pytest.LogCaptureFixture
) -> None:
    """No answer goes over what was deleted: it is a gap of another kind, and is not counted as passed."""
    events = topic(1)
    events.write(100)
    admin = AdminClient({"bootstrap.servers": events.bootstrap})
    for done in admin.delete_records([KafkaPartition(events.name, 0, 70)]).values():
        done.result(20)
    handled: list[Record] = []
    events.commit(0, 30)
    with at_work(events, handled.extend) as running:
        await_that(events.is_committed, "all that is left committed")
        assert (running.consumer.gaps_known, running.consumer.gaps_believed) == (0, 1)
        assert running.consumer.positions.passed[TP(events.name, 0)].number == 0
    assert values(handled) == list(range(70, 100))
    assert f"{events.name}[0] no longer holds the offsets 30 to 69" in caplog.text
