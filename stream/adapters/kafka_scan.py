"""Reads a whole topic, from its beginning to its end as it is met, without joining a group."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from stream.records import Record

_BATCH = 2000
_WAIT = 0.1  # seconds for a batch to fill

Progress = Callable[[str, int, int], None]
"""Called now and then with the topic, the messages read of it and how many it seemed to hold."""


class TopicUnreadableError(Exception):
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
    consumer = Consumer(
        {
            **client,
            "group.id": "riverwatch-reader",  # the client wants one; with assigned partitions none is joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_uncommitted",  # nobody here writes in transactions
            "fetch.wait.max.ms": 50,  # the end of a topic is told by an empty answer
            "fetch.max.bytes": 16_000_000,
            "queued.max.messages.kbytes": 65_536,
        }
    )
    try:
        partitions = _partitions(consumer, client, topic, patience)
        total = _total(consumer, topic, partitions, patience)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        yield from _batches(consumer, topic, set(partitions), patience, _counted(topic, total, progress))
    except KafkaException as error:
        raise TopicUnreadableError(_silent(client, topic, str(error.args[0]))) from error
    finally:
        consumer.close()


def _batches(
    consumer: Consumer, topic: str, unread: set[int], patience: float, count: Callable[[int], None]
) -> Iterator[list[Record]]:
    heard = time.monotonic()
    while unread:
        batch = []
        messages = consumer.consume(_BATCH, timeout=_WAIT)
        for message in messages:
            error = message.error()
            if error is None:
                heard = time.monotonic()
                batch.append(
                    Record(
                        topic,
                        message.partition() or 0,
                        message.offset() or 0,
                        message.timestamp()[1],
                        _bytes(message.key()),
                        _bytes(message.value()),
                        tuple(message.headers() or ()),  # type: ignore[arg-type] # written as pairs of str and bytes
                    )
                )
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its only name
                heard = time.monotonic()
                unread.discard(message.partition() or 0)
            elif error.fatal() or time.monotonic() - heard > patience:
                raise KafkaException(error)
        if time.monotonic() - heard > patience:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - its only name
        if batch:
            count(len(batch))
            yield batch
            heard = time.monotonic()  # the caller's own time is not the brokers' silence


def _partitions(consumer: Consumer, client: Mapping[str, Any], topic: str, patience: float) -> list[int]:
    found = consumer.list_topics(topic, timeout=patience).topics[topic]
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
            if not error.args[0].retriable() or time.monotonic() > deadline:
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


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _silent(client: Mapping[str, Any], topic: str, why: str) -> str:
    return (
        f"Kafka at {client.get('bootstrap.servers')} did not give topic {topic} ({why}): is it running there?"
    )
