"""Unreported is assumed genuine at the horizon; early labels are requeued; pending too long: dead letter."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from stream.adapters.memory.store import MemoryOutbox, MemoryStore
from stream.adapters.redis.due_queues import MemoryDueQueue
from stream.learning import ASSUMED_GENUINE, is_sampled, pending_entry
from stream.maturity import Maturity
from stream.messages import Label, encode, label_decoder
from stream.ports import DependencyDown, LabelUpdate
from stream.records import Record

NOW = datetime(2024, 5, 1, tzinfo=UTC)
HOUR = 3600.0
HORIZON = 30 * HOUR
WAIT = 7 * HOUR


class Desk:
    def __init__(self, negative_sampling_rate: float = 1.0) -> None:
        self.queue = MemoryDueQueue()
        self.store = MemoryStore(1)
        self.outbox = MemoryOutbox()
        self.negative_sampling_rate = negative_sampling_rate
        self.offset = 0
        self.maturity = self.start()

    def start(self) -> Maturity:
        return Maturity(
            queue=self.queue,
            labels=self.store,
            outbox=self.outbox,
            clock=lambda: NOW,
            horizon=HORIZON,
            label_wait=WAIT,
            negative_sampling_rate=self.negative_sampling_rate,
            labels_topic="labels",
            dead_letters="dead-letters",
        )

    def decided(self, name: str, hour: float, partition: int = 0) -> Record:
        self.offset += 1
        time = (NOW + timedelta(hours=hour)).isoformat()
        value = f'{{"transaction_id":"{name}","event_time":"{time}","score":0.5}}'.encode()
        return Record("scores", partition, self.offset, 0, b"c", value)

    def wait(self, name: str, hour: float, offset: int = 7) -> bytes:
        """Puts an early label among the pending labels."""
        known_at = NOW + timedelta(hours=hour)
        raw = encode(Label(transaction_id=name, is_fraud=True, known_at=known_at, source="analyst"))
        entry = pending_entry(Record("labels", 0, offset, 0, None, raw))
        update = LabelUpdate(offset, name, True, known_at.timestamp(), None, (), entry)
        self.store.apply_labels([update], learned=0)
        return raw

    def assumed(self) -> list[tuple[str, float]]:
        """The assumed labels that were emitted: transaction, and hours after the start when it counts."""
        found = [label_decoder.decode(value) for value in self.outbox.values("labels") if value]
        assert all(label.source == ASSUMED_GENUINE and not label.is_fraud for label in found)
        return [(label.transaction_id, (label.known_at - NOW).total_seconds() / HOUR) for label in found]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_assumed_label_counts_once_decisions_have_come_to_the_horizon(desk: Desk) -> None:
    desk.maturity.process([desk.decided("a", 0.0), desk.decided("b", 1.0)])
    desk.maturity.process([desk.decided("c", 29.999)])
    assert desk.assumed() == []
    counts = desk.maturity.process([desk.decided("d", 30.0)])
    assert desk.assumed() == [("a", 30.0)]
    assert counts.matured == 1
    desk.maturity.process([desk.decided("e", 31.5)])
    assert desk.assumed() == [("a", 30.0), ("b", 31.0)]


def test_partitions_mature_by_their_own_time(desk: Desk) -> None:
    desk.maturity.process([desk.decided("a", 0.0, partition=0), desk.decided("b", 0.0, partition=1)])
    desk.maturity.process([desk.decided("c", 40.0, partition=1)])
    assert desk.assumed() == [("b", 30.0)]


def test_only_the_chosen_share_matures() -> None:
    desk = Desk(negative_sampling_rate=0.3)
    names = [f"t{number}" for number in range(100)]
    desk.maturity.process([desk.decided(name, 0.0) for name in names])
    desk.maturity.process([desk.decided("later", 31.0)])
    assert {name for name, _ in desk.assumed()} == {name for name in names if is_sampled(name, 0.3)}


def test_a_late_event_matures_as_if_it_had_been_in_order(desk: Desk) -> None:
    desk.maturity.process([desk.decided("new", 31.0)])
    desk.maturity.process([desk.decided("late", 0.0)])
    desk.maturity.process([desk.decided("newer", 31.0)])
    assert ("late", 30.0) in desk.assumed()


def test_a_decision_that_comes_twice_matures_once(desk: Desk) -> None:
    twice = desk.decided("a", 0.0)
    desk.maturity.process([twice, twice])
    desk.maturity.process([twice])
    desk.maturity.process([desk.decided("b", 30.0)])
    assert desk.assumed() == [("a", 30.0)]


def test_a_restart_goes_on_where_the_queue_stands(desk: Desk) -> None:
    desk.maturity.process([desk.decided("a", 0.0)])
    desk.maturity = desk.start()
    desk.maturity.process([desk.decided("b", 30.0)])
    assert desk.assumed() == [("a", 30.0)]


def test_assumed_label_that_could_not_be_sent_is_sent_at_the_next_try(desk: Desk) -> None:
    desk.maturity.process([desk.decided("a", 0.0), desk.decided("b", 0.5)])
    batch = [desk.decided("c", 31.0)]
    desk.outbox.fail_next(durable=1)
    with pytest.raises(DependencyDown):
        desk.maturity.process(batch)
    desk.maturity.process(batch)
    assert {name for name, _ in desk.assumed()} == {"a", "b"}
    assert desk.queue.due(0, NOW.timestamp() + 31 * HOUR, 10) == []


# ---- early labels


def test_a_waiting_label_is_called_in_as_it_came_and_leaves(desk: Desk) -> None:
    raw = desk.wait("a", 1.0)
    counts = desk.maturity.process([desk.decided("a", 0.0)])
    assert counts.requeued == 1
    [message] = desk.outbox.sent
    assert (message.topic, message.key, message.value) == ("labels", b"a", raw)
    assert desk.store.pending(["a"]) == [None]


def test_a_label_leaves_only_when_it_is_in_the_log_again(desk: Desk) -> None:
    desk.wait("a", 1.0)
    batch = [desk.decided("a", 0.0)]
    desk.outbox.fail_next()
    with pytest.raises(DependencyDown):
        desk.maturity.process(batch)
    assert desk.store.pending(["a"]) != [None]
    desk.maturity.process(batch)
    assert len(desk.outbox.sent) == 1


def test_a_label_whose_decision_never_comes_is_a_dead_letter_with_its_origin(desk: Desk) -> None:
    raw = desk.wait("ghost", 1.0, offset=42)
    assert desk.maturity.process([desk.decided("a", 8.0)]).expired == 0
    assert desk.maturity.process([desk.decided("b", 8.001)]).expired == 1
    [letter] = [message for message in desk.outbox.sent if message.topic == "dead-letters"]
    headers = dict(letter.headers)
    assert (letter.key, letter.value) == (b"ghost", raw)
    assert (headers["reason"], headers["topic"], headers["partition"], headers["offset"]) == (
        b"unknown_transaction",
        b"labels",
        b"0",
        b"42",
    )
    assert headers["waited"] == b"42"
    assert desk.store.pending(["ghost"]) == [None]


def test_an_expired_label_leaves_only_when_its_dead_letter_is_durable(desk: Desk) -> None:
    desk.wait("ghost", 0.0)
    batch = [desk.decided("a", 10.0)]
    desk.outbox.fail_next()
    with pytest.raises(DependencyDown):
        desk.maturity.process(batch)
    assert desk.store.pending(["ghost"]) != [None]
    desk.maturity.process(batch)
    assert len(desk.outbox.values("dead-letters")) == 1


def test_a_label_waits_by_the_slowest_partition_of_what_came(desk: Desk) -> None:
    desk.wait("ghost", 0.0)
    batch: Sequence[Record] = [desk.decided("a", 100.0, partition=0), desk.decided("b", 6.0, partition=1)]
    assert desk.maturity.process(batch).expired == 0


def test_a_label_whose_decision_stands_in_the_same_batch_is_called_in_and_not_expired(desk: Desk) -> None:
    desk.wait("a", 0.0)
    counts = desk.maturity.process([desk.decided("a", 0.0), desk.decided("b", 100.0)])
    assert (counts.requeued, counts.expired) == (1, 0)


def test_nothing_comes_of_nothing(desk: Desk) -> None:
    empty = Record("scores", 0, 1, 0, b"c", None)
    assert desk.maturity.process([]) == (0, 0, 0, 0)
    assert desk.maturity.process([empty]) == (0, 0, 0, 0)
