"""Reads a topic, whole or a range of it, without joining a group: what every look at the past is fed by."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from stream.adapters.kafka.errors import failure
from stream.adapters.kafka.isolation import isolation_level
from stream.adapters.kafka.message import record_of
from stream.ports import DependencyDown, DependencyRefused
from stream.records import Record

_BATCH = 2000
_WAIT = 0.1  # seconds for a batch to fill
_PASSING = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)  # a leader is being chosen

Progress = Callable[[str, int, int], None]
"""Called now and then with the topic, the messages read of it and how many it seemed to hold."""

Spans = Mapping[int, tuple[int, int]]
"""Of partitions by number: the first offset and the one after the last."""


class TopicUnreadableError(DependencyDown):
    """A topic cannot be read; the message says why and what to do."""


def read_to_end(
    client: Mapping[str, Any], topic: str, *, patience: float = 30.0, progress: Progress | None = None
) -> Iterator[list[Record]]:
    """Every message of a topic, in the order of the offsets of each partition; nothing is committed.

    A partition ends where its end is first met, so a topic that is written to meanwhile ends too.

    Args:
        client: configuration for confluent-kafka, at least `bootstrap.servers`.
        topic: its full name.
        patience: seconds without an answer from the brokers, > 0.
        progress: called after each batch.

    Raises:
        TopicUnreadableError: no such topic, or no answer.
    """
    consumer = reading_consumer(client)
    try:
        partitions = _partitions(consumer, client, topic, patience)
        total = _total(consumer, topic, partitions, patience)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        yield from batches_to_end(
            consumer, topic, set(partitions), patience, _counted(topic, total, progress)
        )
    except KafkaException as error:
        raise unreadable(client, topic, error) from error
    finally:
        consumer.close()


def bounds_of(client: Mapping[str, Any], topic: str, *, patience: float = 10.0) -> dict[int, tuple[int, int]]:
    """Where each partition of a topic begins, and where its end is met now: before an open transaction.

    The end that a broker names is read on from: the embedded one names where its last batch begins.

    Args:
        client: configuration for confluent-kafka.
        topic: its full name.
        patience: seconds without an answer from the brokers, > 0.

    Raises:
        TopicUnreadableError: no such topic, or no answer.
    """
    consumer = reading_consumer(client)
    try:
        named = {}
        for number in _partitions(consumer, client, topic, patience):
            low, high = _marks(consumer, TopicPartition(topic, number), patience) or (0, 0)
            named[number] = (max(low, 0), max(high, 0))
        ends = {number: high for number, (low, high) in named.items() if low < high}
        last = [TopicPartition(topic, number, high - 1) for number, high in ends.items()]
        consumer.assign(last)
        for batch in batches_to_end(consumer, topic, set(ends), patience):
            for record in batch:
                ends[record.partition] = max(ends[record.partition], record.offset + 1)
        found = {number: (low, ends.get(number, high)) for number, (low, high) in named.items()}
    except KafkaException as error:
        raise unreadable(client, topic, error) from error
    else:
        return found
    finally:
        consumer.close()


def read_spans(
    client: Mapping[str, Any],
    topic: str,
    spans: Spans,
    *,
    patience: float = 30.0,
    wanted: Callable[[], Collection[int]] | None = None,
    ended: Callable[[int], None] = lambda _partition: None,
) -> Iterator[list[Record]]:
    """The messages of ranges of a topic, in the order of the offsets of each partition.

    Args:
        client: configuration for confluent-kafka.
        topic: its full name.
        spans: what to read; a partition whose log ends before its span does ends there.
        patience: seconds without an answer from the brokers, > 0.
        wanted: asked before each batch which partitions to go on with; the others wait, and cost no memory.
        ended: called once with each partition, after its last message was given; a batch follows, which may
            be empty.

    Raises:
        TopicUnreadableError: no answer.
    """
    at = {number: start for number, (start, end) in spans.items() if start < end}
    for number in spans.keys() - at.keys():
        ended(number)
    if not at:
        return
    consumer = reading_consumer(client)
    unread = set(at)
    reader = _Reader(consumer, topic, spans, at, unread)
    try:
        consumer.assign([TopicPartition(topic, number, start) for number, start in at.items()])
        told: set[int] = set()
        batches = batches_to_end(consumer, topic, unread, patience, turn=lambda: reader.turn(wanted))
        for batch in batches:
            yield reader.within(batch)
            fresh = at.keys() - unread - told
            for number in fresh:
                ended(number)
            told |= fresh
            if fresh:
                yield []  # whoever waited for this partition alone may go on
    except KafkaException as error:
        raise unreadable(client, topic, error) from error
    finally:
        consumer.close()


class _Reader:
    """Keeps to the spans, and to the order: what a client skips when it is told to wait is read again."""

    def __init__(
        self, consumer: Consumer, topic: str, spans: Spans, at: dict[int, int], unread: set[int]
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._spans = spans
        self._at = at
        self._unread = unread
        self._waiting: set[int] = set()
        self._doubted: dict[int, dict[int, int]] = {}  # gaps: the offset that was expected, and the next

    def turn(self, wanted: Callable[[], Collection[int]] | None) -> None:
        """Let those wait that are not wanted, and the others go on."""
        if wanted is None:
            return
        asked = set(wanted())
        if stop := (self._unread - asked) - self._waiting:
            self._consumer.pause([TopicPartition(self._topic, number) for number in stop])
        if go := self._waiting & asked & self._unread:
            self._consumer.resume([TopicPartition(self._topic, number) for number in go])
        self._waiting = (self._waiting | stop) - go

    def within(self, batch: list[Record]) -> list[Record]:
        """The records that come next and belong to the spans."""
        found = []
        again: dict[int, int] = {}  # where those are that are read again
        for record in batch:
            number, offset = record.partition, record.offset
            next_offset, end = self._at[number], self._spans[number][1]
            if offset < next_offset:
                continue
            doubted = self._doubted.setdefault(number, {})
            if number in again:
                # The other gaps of the batch are looked at again with the first one.
                if offset > again[number]:
                    doubted[again[number]] = offset
                again[number] = offset + 1
                continue
            if offset > next_offset and doubted.pop(next_offset, None) != offset:
                # Compaction and transactions leave gaps; a client that paused may too. Look twice.
                doubted.clear()
                doubted[next_offset] = offset
                again[number] = offset + 1
                self._unread.add(number)  # its end may have been met behind the gap
                self._consumer.seek(TopicPartition(self._topic, number, next_offset))
                continue
            self._at[number] = offset + 1
            if offset < end:
                found.append(record)
            if offset + 1 >= end:
                self._unread.discard(number)
        return found


def reading_consumer(client: Mapping[str, Any]) -> Consumer:
    """A consumer that joins no group, commits nothing, and says where a partition ends."""
    return Consumer(
        {
            **client,
            "group.id": "riverwatch-reader",  # the client wants one; with assigned partitions none is joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": isolation_level(client),
            "fetch.wait.max.ms": 50,  # the end of a topic is told by an empty answer
            "fetch.max.bytes": 16_000_000,
            "queued.max.messages.kbytes": 65_536,
        }
    )


def batches_to_end(
    consumer: Consumer,
    topic: str,
    unread: set[int],
    patience: float = 30.0,
    count: Callable[[int], None] = lambda _: None,
    turn: Callable[[], None] = lambda: None,
) -> Iterator[list[Record]]:
    """What comes from the assigned partitions, until the end of each was met.

    Args:
        consumer: assigned.
        topic: its full name.
        unread: partitions whose end was not met; they are taken out of it.
        patience: seconds without an answer from the brokers, > 0.
        count: called before each batch with its size.
        turn: called before each question to the brokers.

    Raises:
        KafkaException: no answer.
    """
    heard = time.monotonic()
    while unread:
        turn()
        batch, met = [], len(unread)
        messages = consumer.consume(_BATCH, timeout=_WAIT)
        for message in messages:
            error = message.error()
            if error is None:
                heard = time.monotonic()
                batch.append(record_of(topic, message))
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its only name
                heard = time.monotonic()
                unread.discard(message.partition() or 0)
            elif error.fatal() or time.monotonic() - heard > patience:
                raise KafkaException(error)
        if time.monotonic() - heard > patience:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - its only name
        if batch or len(unread) < met:
            count(len(batch))
            yield batch
            heard = time.monotonic()  # the caller's own time is not the brokers' silence


def _partitions(consumer: Consumer, client: Mapping[str, Any], topic: str, patience: float) -> list[int]:
    found = consumer.list_topics(topic, timeout=patience).topics[topic]
    if found.error is not None and found.error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        raise failure(client, found.error, about=f"topic {topic}")
    if found.error is not None or not found.partitions:
        raise TopicUnreadableError(
            f"Kafka at {client.get('bootstrap.servers')} has no topic {topic}: check its name and prefix."
        )
    return sorted(found.partitions)


def _total(consumer: Consumer, topic: str, partitions: list[int], patience: float) -> int:
    total = 0
    for partition in partitions:
        marks = _marks(consumer, TopicPartition(topic, partition), patience)
        total += max(marks[1] - marks[0], 0) if marks else 0
    return total


def _marks(consumer: Consumer, place: TopicPartition, patience: float) -> tuple[int, int] | None:
    """Where a partition begins and ends; a topic just made may have no leader yet: asked again."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return consumer.get_watermark_offsets(place, timeout=patience)
        except KafkaException as error:
            passes = error.args[0].retriable() or error.args[0].code() in _PASSING
            if not passes or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _counted(topic: str, total: int, progress: Progress | None) -> Callable[[int], None]:
    read = 0

    def count(more: int) -> None:
        nonlocal read
        read += more
        if progress is not None:
            progress(topic, read, max(total, read))

    return count


def unreadable(
    client: Mapping[str, Any], topic: str, error: KafkaException
) -> TopicUnreadableError | DependencyRefused:
    """The error of a topic whose brokers do not answer, or refuse."""
    found = failure(client, error, about=f"topic {topic}")
    if isinstance(found, DependencyRefused):
        return found
    return TopicUnreadableError(
        f"Kafka at {client.get('bootstrap.servers')} did not give topic {topic} ({error.args[0]}): is it "
        "running there?"
    )
