"""What the batch stream promises, on a real Kafka: nothing skipped, nothing acknowledged too early."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from stream.runtime import app
from stream.runtime.app import (
    BatchTopic,
    Record,
    Retry,
    SkippedRecordsError,
    TopicPartition,
    create_batch_app,
)
from tests.integration.runtime.batches import (
    Running,
    Topic,
    Worker,
    at_work,
    await_that,
    live_traffic,
    values,
)
from tests.support.patience import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.support.services import KafkaUnderTest, MakeTopics, Unique

pytestmark = pytest.mark.guarantee


# A quiet run


def test_quiet_run_hands_over_every_record_once_and_in_order(topic: Callable[[int], Topic]) -> None:
    events = topic(8)
    events.write(20_000)
    handled: list[Record] = []
    sizes: list[int] = []
    committed_when_told: list[list[int]] = []

    def handle(records: list[Record]) -> None:
        handled.extend(records)
        sizes.append(len(records))

    def on_revoked(held: frozenset[TopicPartition]) -> None:
        assert len(held) == 8
        committed_when_told.append(events.committed())

    with at_work(events, handle, on_revoked=on_revoked) as running:
        await_that(lambda: len(handled) >= 20_000, "all records handled")
        events.write(200)
        await_that(lambda: len(handled) >= 20_200, "what was written later handled")
        assert running.crash is None
    assert sorted(values(handled)) == list(range(20_200))
    for partition in range(8):
        offsets = [record.offset for record in handled if record.partition == partition]
        assert offsets == list(range(2525))
    assert max(sizes) <= 500
    assert events.committed() == events.ends()
    assert committed_when_told == [events.ends()]  # on_revoked comes after the commit


def test_record_carries_what_was_written(topic: Callable[[int], Topic]) -> None:
    events = topic(1)
    producer = Producer({"bootstrap.servers": events.bootstrap})
    headers: list[tuple[str, str | bytes | None]] = [("origin", b"a"), ("origin", b"b")]
    producer.produce(events.name, b"value", b"key", headers=headers, timestamp=1_700_000_000_123)
    producer.produce(events.name, None, None)
    producer.flush(10)
    handled: list[Record] = []
    with at_work(events, handled.extend):
        await_that(lambda: len(handled) == 2, "both records handled")
    first, tombstone = handled
    assert first == Record(
        events.name, 0, 0, 1_700_000_000_123, b"key", b"value", (("origin", b"a"), ("origin", b"b"))
    )
    assert (tombstone.key, tombstone.value, tombstone.headers) == (None, None, ())


def test_topics_of_one_app_and_apps_of_one_process_do_not_mix(
    kafka: KafkaUnderTest, make_topics: MakeTopics, unique: Unique
) -> None:
    topics = [Topic(kafka.bootstrap, unique(name), 2) for name in ("left", "right")]
    make_topics({each.name: 2 for each in topics})
    handled: dict[tuple[str, str], list[Record]] = {}
    apps = []
    for group in ("one", "two"):
        plans = []
        for each in topics:
            records = handled[group, each.name] = []
            plans.append(BatchTopic(each.name, records.extend, name=each.name))
        apps.append(Running(create_batch_app(app_id=unique(group), bootstrap=kafka.bootstrap, topics=plans)))
    try:
        for count, each in zip((300, 500), topics, strict=True):
            each.write(count)
        await_that(lambda: sum(map(len, handled.values())) >= 1600, "all records handled by both apps")
    finally:
        for app in apps:
            app.stop()
    for (_, name), records in handled.items():
        assert {record.topic for record in records} == {name}
        assert sorted(values(records)) == list(range(300 if name == topics[0].name else 500))


# Failures and stops


def test_failing_handler_stops_the_worker_and_acknowledges_nothing_of_its_batch(
    topic: Callable[[int], Topic], start_worker: Callable[..., Worker]
) -> None:
    events = topic(1)
    events.write(1000)
    worker = start_worker(events, fail_on=500, max_records=200)
    assert worker.exit_code() == 1
    assert worker.handled()[-1] == (0, 499, 499)
    assert events.committed() == [400]  # the batches before it
    again = start_worker(events, max_records=200)
    await_that(events.is_committed, "the rest committed")
    assert again.stop() == 0
    assert {value for _, _, value in again.handled()} == set(range(1000))


def test_sigterm_finishes_and_commits_the_batch_in_hand(
    topic: Callable[[int], Topic], start_worker: Callable[..., Worker]
) -> None:
    events = topic(4)
    events.write(4000)
    worker = start_worker(events, max_records=100, seconds_a_batch=0.1)
    await_that(lambda: len(worker.handled()) >= 500, "some batches handled")
    assert worker.stop() == 0
    handled = Counter(partition for partition, _, _ in worker.handled())
    assert 500 <= sum(handled.values()) < 4000
    assert [max(at, 0) for at in events.committed()] == [handled[number] for number in range(4)]
    again = start_worker(events)
    await_that(events.is_committed, "the rest committed")
    assert again.stop() == 0
    assert sorted(value for _, _, value in again.handled()) == list(range(4000))  # none lost, none twice


def test_takeover_from_a_killed_worker_under_live_traffic_loses_nothing(
    topic: Callable[[int], Topic], start_worker: Callable[..., Worker]
) -> None:
    events = topic(8)
    with live_traffic(events):
        survivor = start_worker(events, "survivor")
        victim = start_worker(events, "victim")
        await_that(
            lambda: survivor.assignments()[-1:] == victim.assignments()[-1:] == [4], "both hold partitions"
        )
        before = len(victim.handled())
        await_that(lambda: len(victim.handled()) > before + 1000, "the victim is at work")
        victim.stop(signal.SIGKILL)
        await_that(lambda: survivor.assignments()[-1] == 8, "the survivor has all partitions")
        at_takeover = len(survivor.handled())
        await_that(lambda: len(survivor.handled()) > at_takeover + 2000, "traffic handled after the takeover")
    await_that(events.is_committed, "everything committed")
    assert survivor.stop() == 0
    handled = Counter(value for _, _, value in survivor.handled() + victim.handled())
    assert set(handled) == set(range(events.written))
    # Handled twice is at most what the victim had done since its last commit, a second before.
    assert sum(handled.values()) - len(handled) < 6000


def test_join_and_leave_under_live_traffic_lose_nothing_and_repeat_little(
    topic: Callable[[int], Topic], start_worker: Callable[..., Worker]
) -> None:
    events = topic(8)
    with live_traffic(events):
        first = start_worker(events, "first")
        await_that(lambda: len(first.handled()) > 1000, "the first is at work")
        second = start_worker(events, "second")
        await_that(lambda: len(second.handled()) > 1000, "the second has joined")
        assert second.stop() == 0
        await_that(lambda: first.assignments()[-1] == 8, "the first has all partitions again")
        before = len(first.handled())
        await_that(lambda: len(first.handled()) > before + 1000, "the first goes on")
    await_that(events.is_committed, "everything committed")
    assert first.stop() == 0
    handled = Counter(value for _, _, value in first.handled() + second.handled())
    assert set(handled) == set(range(events.written))
    assert sum(handled.values()) - len(handled) <= 500


def test_batch_that_outlasts_its_partitions_is_not_acknowledged(topic: Callable[[int], Topic]) -> None:
    events = topic(2)
    events.write(100)
    slow: list[Record] = []
    other: list[Record] = []
    may_go_on = threading.Event()

    def handle_slowly(records: list[Record]) -> None:
        slow.extend(records)
        may_go_on.wait(PATIENCE)

    with at_work(events, handle_slowly, max_records=10) as first:
        await_that(lambda: bool(slow), "a batch in hand")
        with at_work(events, other.extend) as second:
            # the partitions are waited for half a session, 3 s, then they go
            await_that(lambda: len(other) == 50, "the partition that went over handled")
            moved = other[0].partition
            await_that(lambda: events.committed()[moved] == 50, "the partition that went over committed")
            assert events.committed()[1 - moved] == -1001  # still in the slow one's hand
            may_go_on.set()
            await_that(events.is_committed, "everything committed")
            assert first.crash is None
            assert second.crash is None
    assert set(values(slow + other)) == set(range(100))


def test_failing_on_revoked_stops_the_worker(topic: Callable[[int], Topic]) -> None:
    events = topic(1)
    events.write(10)
    handled: list[Record] = []

    def on_revoked(_: frozenset[TopicPartition]) -> None:
        raise ValueError("cannot let go")

    with at_work(events, handled.extend, on_revoked=on_revoked) as running:
        await_that(lambda: len(handled) == 10, "all records handled")
    assert isinstance(running.crash, ValueError)
    assert events.committed() == [10]


# Waiting and going back


def test_retry_gives_the_same_batch_again_and_acknowledges_nothing_meanwhile(
    topic: Callable[[int], Topic], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    events = topic(1)
    events.write(300)
    tries: list[list[int]] = []
    done: list[int] = []
    is_up = threading.Event()

    def handle(records: list[Record]) -> None:
        tries.append(values(records))
        if not is_up.is_set():
            raise Retry("the store does not answer")
        done.extend(values(records))

    with at_work(events, handle, max_records=100) as running:
        await_that(lambda: len(tries) >= 4, "the batch tried again and again")  # over a commit's interval
        assert events.committed() == [-1001]
        assert running.crash is None
        is_up.set()
        await_that(lambda: len(done) == 300, "all records handled")
    assert all(attempt == tries[0] for attempt in tries[:4])
    said = [record.getMessage() for record in caplog.records if "goes on after" in record.getMessage()]
    assert len(said) == 1, "an end of waiting is told once"
    assert done == list(range(300))
    assert events.committed() == [300]


def test_stop_while_a_batch_waits_is_prompt_and_acknowledges_nothing(
    topic: Callable[[int], Topic], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "RETRY_FIRST", 3600.0)  # who waited for the next try would not be seen to end
    events = topic(1)
    events.write(10)
    tries: list[int] = []

    def handle(records: list[Record]) -> None:
        tries.append(len(records))
        raise Retry("the store does not answer")

    with at_work(events, handle):
        await_that(lambda: len(tries) == 1, "the batch tried")
    assert tries == [10]
    assert events.committed() == [-1001]


def test_handler_that_asks_for_a_stop_ends_its_worker_in_good_order(
    topic: Callable[[int], Topic], start_worker: Callable[..., Worker]
) -> None:
    """As SIGTERM would: exit code 0, what was done before is committed, nothing of its own batch is."""
    events = topic(1)
    events.write(40)
    worker = start_worker(events, max_records=10, stop_on=25)
    assert worker.exit_code() == 0
    handled = [value for _, _, value in worker.handled()]
    assert handled == list(range(len(handled)))
    assert len(handled) <= 25
    assert [max(at, 0) for at in events.committed()] == [len(handled)]


def test_on_assigned_moves_a_partition_back_before_its_first_batch(topic: Callable[[int], Topic]) -> None:
    events = topic(2)
    events.write(2000)
    first: list[Record] = []
    with at_work(events, first.extend):
        await_that(lambda: len(first) == 2000, "all records handled")
    assert events.committed() == [1000, 1000]
    events.write(20)
    second: list[Record] = []
    asked: list[int] = []

    def on_assigned(held: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        assert held == {TopicPartition(events.name, 0), TopicPartition(events.name, 1)}
        assert not second
        asked.append(len(held))
        if len(asked) == 1:
            raise Retry("the store does not answer yet")
        return {TopicPartition(events.name, 1): 400}

    with at_work(events, second.extend, on_assigned=on_assigned):
        await_that(lambda: len(second) == 620, "what was asked for handled")
        await_that(events.is_committed, "the new end committed")
    assert [record.offset for record in second if record.partition == 0] == list(range(1000, 1010))
    assert [record.offset for record in second if record.partition == 1] == list(range(400, 1010))
    assert asked == [2, 2]


def test_on_assigned_cannot_skip_records(topic: Callable[[int], Topic]) -> None:
    events = topic(1)
    events.write(100)
    handled: list[Record] = []
    ahead = {TopicPartition(events.name, 0): 50}
    with at_work(events, handled.extend, on_assigned=lambda _: ahead) as running:
        await_that(lambda: running.crash is not None, "a crash")
        assert isinstance(running.crash, SkippedRecordsError)
    assert handled == []
    assert events.committed() == [-1001]
