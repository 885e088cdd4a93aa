"""Reads topics to their end with a Kafka client, and nothing else of the system that is judged."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

PATIENCE = 60.0  # seconds without a word from the broker
_BATCH = 2000


class Record(NamedTuple):
    """One record as Kafka holds it."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    def header(self, name: str) -> bytes | None:
        """The last header of a name."""
        return next((value for key, value in reversed(self.headers) if key == name), None)


class TopicError(Exception):
    """A topic cannot be read; the message says which and why."""


def _consumer(bootstrap: str, group: str) -> Any:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "log_level": 3,
        }
    )


def read(bootstrap: str, topic: str) -> Iterator[Record]:
    """Every committed record of a topic up to where its end is met, in offset order within each partition.

    Raises:
        TopicError: there is no such topic, or the broker is silent for PATIENCE seconds.
    """
    consumer = _consumer(bootstrap, "second-judge")  # partitions are assigned, so no group is joined
    try:
        found = consumer.list_topics(topic, timeout=PATIENCE).topics[topic]
        if found.error is not None or not found.partitions:
            raise TopicError(f"{bootstrap} has no topic {topic}")
        unread = set(found.partitions)
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in unread])
        heard = time.monotonic()
        while unread:
            for message in consumer.consume(_BATCH, timeout=0.1):
                error = message.error()
                if error is None:
                    yield _record(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(message.partition())
                else:
                    continue
                heard = time.monotonic()  # asked after the caller had its turn: its time is not the broker's
            if time.monotonic() - heard > PATIENCE:
                raise TopicError(f"{bootstrap} is silent about {topic}, partitions {sorted(unread)}")
    except KafkaException as error:
        raise TopicError(f"{topic} at {bootstrap}: {error}") from error
    finally:
        consumer.close()


def _record(message: Any) -> Record:
    return Record(
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        tuple((name, value or b"") for name, value in message.headers() or ()),
    )


def begins(bootstrap: str, topic: str) -> dict[int, int]:
    """Of each partition the first offset that the log still has, be there a committed record or not.

    Raises:
        TopicError: the broker is silent, or has no such topic.
    """
    consumer = _consumer(bootstrap, "second-judge")
    try:
        partitions = consumer.list_topics(topic, timeout=PATIENCE).topics[topic].partitions
        return {
            number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=PATIENCE)[0]
            for number in partitions
        }
    except KafkaException as error:
        raise TopicError(f"{topic} at {bootstrap}: {error}") from error
    finally:
        consumer.close()


def committed(bootstrap: str, group: str, topic: str) -> dict[int, int]:
    """Of each partition the offset up to which a group has acknowledged it; 0 where it has not yet."""
    consumer = _consumer(bootstrap, group)
    try:
        partitions: Iterable[int] = consumer.list_topics(topic, timeout=PATIENCE).topics[topic].partitions
        places = [TopicPartition(topic, number) for number in partitions]
        return {each.partition: max(each.offset, 0) for each in consumer.committed(places, timeout=PATIENCE)}
    except KafkaException as error:
        raise TopicError(f"{group} on {topic} at {bootstrap}: {error}") from error
    finally:
        consumer.close()
