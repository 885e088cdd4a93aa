"""How far consumer groups are, asked of Kafka without joining them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from producers.publish.pace import Ends, Follower
from stream.config.isolation import isolation_of

_ROUND_TRIP: Final = 10.0
_STANDS_AFTER: Final = 1.0  # seconds; to look costs a fetch


class PublishError(Exception):
    """Kafka did not take a message, or did not answer; says which topic and why."""


class _Next(NamedTuple):
    """The first record of a partition from `start` on, or the end that was met before any: its offset."""

    start: int
    first: int
    is_record: bool


class KafkaFollowers:
    """`Followers` on Kafka: committed offsets. It joins no group, so it disturbs none.

    Args:
        config: address and credentials of a confluent-kafka client.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = dict(config)
        self._admin = AdminClient(self._config)
        self._asking: dict[str, Consumer] = {}
        self._partitions: dict[str, list[int]] = {}
        self._delivered: Mapping[str, Mapping[int, int]] = {}
        self._level = isolation_of(None)
        self._stood: dict[tuple[Follower, int], tuple[int, float]] = {}
        self._next: dict[tuple[str, int], _Next] = {}

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the connections go."""
        self.close()

    def close(self) -> None:
        """Let the connections go."""
        for consumer in self._asking.values():
            consumer.close()
        self._asking.clear()

    def count_on(self, delivered: Mapping[str, Mapping[int, int]]) -> None:
        """Know what was delivered, for brokers whose own word on where a topic ends comes late."""
        self._delivered = delivered

    def ends(self, topic: str) -> Ends:
        """Where a topic ends now, for those who read committed: an open transaction is not waited for.

        Raises:
            PublishError: Kafka does not answer, or has no such topic.
        """
        own = self._delivered.get(topic, {})
        ends = {}
        for partition in self._numbers(topic):
            consumer = self._consumer("riverwatch-ends")
            with _answering(topic):
                _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_ROUND_TRIP)
            ends[partition] = max(end, own.get(partition, 0))
        return ends

    def behind(self, follower: Follower, ends: Ends) -> int:
        """How many messages before these ends a group has not acknowledged yet.

        Where it stands still it is looked whether there is any: a transaction's marker, and what was aborted,
        take offsets that nobody will ever acknowledge.

        Raises:
            PublishError: Kafka does not answer.
        """
        asked = [TopicPartition(follower.topic, partition) for partition, end in ends.items() if end > 0]
        if not asked:
            return 0
        with _answering(follower.topic):
            found = self._consumer(follower.group).committed(asked, timeout=_ROUND_TRIP)
        # Nothing committed yet is a negative offset.
        at = {place.partition: max(place.offset, 0) for place in found}
        return sum(
            ends[number] - offset
            for number, offset in at.items()
            if offset < ends[number]
            and not (
                self._stands(follower, number, offset)
                and not self._holds_any(follower.topic, number, offset, ends[number])
            )
        )

    def _stands(self, follower: Follower, partition: int, offset: int) -> bool:
        """Whether a group has stood at an offset for longer than it needs to commit."""
        now = time.monotonic()
        before, since = self._stood.get((follower, partition), (-1, now))
        if before != offset:
            since = now
            self._stood[follower, partition] = (offset, since)
        return self._level == "read_committed" and now - since >= _STANDS_AFTER

    def _holds_any(self, topic: str, partition: int, start: int, end: int) -> bool:
        """Whether a range of a partition holds a committed record, or may still come to hold one."""
        known = self._next.get((topic, partition))
        if known is None or known.start != start or (known.first < end and not known.is_record):
            known = self._look(topic, partition, start)
            self._next[topic, partition] = known
        return known.first < end

    def _look(self, topic: str, partition: int, start: int) -> _Next:
        reader = self._consumer("riverwatch-next")
        with _answering(topic):
            reader.assign([TopicPartition(topic, partition, start)])
            message = reader.poll(_ROUND_TRIP)
            reader.unassign()
        if message is None:
            return _Next(start, start, is_record=False)  # no answer: it is asked again
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its only name
            return _Next(start, start, is_record=False)
        return _Next(start, message.offset() or 0, is_record=error is None)

    def _consumer(self, group: str) -> Consumer:
        if group not in self._asking:
            self._asking[group] = Consumer(
                {
                    **self._config,
                    "group.id": group,
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "isolation.level": self._level,
                    "fetch.wait.max.ms": 50,  # the end of a partition is told by an empty answer
                }
            )
        return self._asking[group]

    def _numbers(self, topic: str) -> list[int]:
        if topic not in self._partitions:
            with _answering(topic):
                metadata = self._admin.list_topics(topic, timeout=_ROUND_TRIP)
            self._level = isolation_of(metadata.cluster_id)
            found = metadata.topics[topic]
            if found.error is not None or not found.partitions:
                raise PublishError(f"{topic}: there is no such topic; `riverwatch topics` creates it")
            self._partitions[topic] = sorted(found.partitions)
        return self._partitions[topic]


@contextmanager
def _answering(topic: str) -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise PublishError(f"{topic}: {error.args[0].str()}") from error
