"""How far consumer groups are, asked of Kafka without joining them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from producers.publish.pace import Ends, Follower

_ROUND_TRIP: Final = 10.0


class PublishError(Exception):
    """Kafka did not take a message, or did not answer; says which topic and why."""


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
        """Where a topic ends now.

        Raises:
            PublishError: Kafka does not answer, or has no such topic.
        """
        consumer = self._consumer("riverwatch-ends")
        own = self._delivered.get(topic, {})
        ends = {}
        for partition in self._numbers(topic):
            with _answering(topic):
                _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_ROUND_TRIP)
            ends[partition] = max(end, own.get(partition, 0))
        return ends

    def behind(self, follower: Follower, ends: Ends) -> int:
        """How many messages before these ends a group has not acknowledged yet.

        Raises:
            PublishError: Kafka does not answer.
        """
        asked = [TopicPartition(follower.topic, partition) for partition, end in ends.items() if end > 0]
        if not asked:
            return 0
        with _answering(follower.topic):
            found = self._consumer(follower.group).committed(asked, timeout=_ROUND_TRIP)
        # Nothing committed yet is a negative offset.
        return sum(max(ends[place.partition] - max(place.offset, 0), 0) for place in found)

    def _consumer(self, group: str) -> Consumer:
        if group not in self._asking:
            self._asking[group] = Consumer({**self._config, "group.id": group, "enable.auto.commit": False})
        return self._asking[group]

    def _numbers(self, topic: str) -> list[int]:
        if topic not in self._partitions:
            with _answering(topic):
                found = self._admin.list_topics(topic, timeout=_ROUND_TRIP).topics[topic]
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
