"""Reading a topic from the side: no group, no commits, nobody disturbed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.errors import failure
from stream.adapters.kafka.message import record_of
from stream.adapters.kafka.scan import batches_to_end, reading_consumer, unreadable
from stream.config.settings import Settings
from stream.ports import DependencyDown
from stream.records import Record


class TopicReader:
    """Reads one topic, all its partitions.

    Args:
        settings: addresses and credentials.
        topic: its full name.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self._topic = topic
        self._place = settings.kafka_bootstrap
        self._client = confluent(settings)
        self._consumer = reading_consumer(self._client)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the connection go."""
        self._consumer.close()

    def bounds(self) -> dict[int, tuple[int, int]]:
        """Of each partition the first offset and the one after the last that is read: open transactions wait.

        Raises:
            DependencyDown: Kafka does not answer, or has no such topic.
        """
        try:
            found = self._consumer.list_topics(self._topic, timeout=10).topics[self._topic]
            if found.error is not None:
                if found.error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    raise failure(self._client, found.error, about=f"topic {self._topic}")
                raise DependencyDown(f"Kafka ({self._place}) has no topic {self._topic}: `riverwatch topics`")
            return {
                number: self._consumer.get_watermark_offsets(TopicPartition(self._topic, number), timeout=10)
                for number in sorted(found.partitions)
            }
        except KafkaException as error:
            raise failure(self._client, error, about=f"topic {self._topic}") from error

    def since(self, timestamp_ms: int) -> dict[int, int]:
        """Of each partition the first offset whose record is not older; the end where there is none.

        Raises:
            DependencyDown: Kafka does not answer, or cannot say (the embedded one).
        """
        bounds = self.bounds()
        asked = [TopicPartition(self._topic, number, timestamp_ms) for number in bounds]
        try:
            found = self._consumer.offsets_for_times(asked, timeout=10)
        except KafkaException as error:
            raise failure(self._client, error, about=f"topic {self._topic}") from error
        return {
            place.partition: place.offset if place.offset >= 0 else bounds[place.partition][1]
            for place in found
        }

    def start(self, at: Mapping[int, int]) -> None:
        """Go to these offsets."""
        self._consumer.assign([TopicPartition(self._topic, number, offset) for number, offset in at.items()])

    def poll(self, timeout: float, most: int = 500) -> list[Record]:
        """What has come, at most so many; empty after `timeout` seconds without anything.

        Raises:
            DependencyDown: Kafka says so.
        """
        messages = self._consumer.consume(1, timeout)
        if messages and most > 1:
            messages += self._consumer.consume(most - 1, 0.0)
        records = []
        for message in messages:
            if (error := message.error()) is not None:
                if error.fatal() or error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    raise failure(self._client, error, about=f"topic {self._topic}")
                continue
            records.append(record_of(self._topic, message))
        return records

    def until_end(self, *, from_offsets: Mapping[int, int] | None = None) -> Iterator[Record]:
        """Everything from the given offsets (or the first) to where each partition's end is first met.

        Raises:
            DependencyDown: Kafka does not answer.
        """
        starts = from_offsets or {}
        # The client begins anew at an offset behind the end: stay within the bounds, leave out what is below.
        at = {
            number: min(max(low, starts.get(number, low)), high)
            for number, (low, high) in self.bounds().items()
        }
        self.start(at)
        try:
            for batch in batches_to_end(self._consumer, self._topic, set(at)):
                yield from (record for record in batch if record.offset >= starts.get(record.partition, 0))
        except KafkaException as error:
            raise unreadable(self._client, self._topic, error) from error


def follow(settings: Settings, topic: str, *, stop: Callable[[], bool]) -> Iterator[list[Record]]:
    """What comes to a topic from now on, until `stop` says so."""
    with TopicReader(settings, topic) as reader:
        reader.start({number: high for number, (_, high) in reader.bounds().items()})
        while not stop():
            yield reader.poll(0.2)
