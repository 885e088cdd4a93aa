"""Reading a topic from the side: no group, no commits, nobody disturbed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaException, TopicPartition

from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.message import record_of
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
        self._consumer = Consumer(
            confluent(
                settings,
                group_id="riverwatch-reader",  # asked for by the client; never joined, never committed
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_wait_max_ms=100,
                enable_partition_eof=False,
            )
        )

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the connection go."""
        self._consumer.close()

    def bounds(self) -> dict[int, tuple[int, int]]:
        """Of each partition the first offset and the one after the last.

        Raises:
            DependencyDown: Kafka does not answer, or has no such topic.
        """
        try:
            found = self._consumer.list_topics(self._topic, timeout=10).topics[self._topic]
            if found.error is not None:
                raise DependencyDown(f"Kafka ({self._place}) has no topic {self._topic}: `riverwatch topics`")
            return {
                number: self._consumer.get_watermark_offsets(TopicPartition(self._topic, number), timeout=10)
                for number in sorted(found.partitions)
            }
        except KafkaException as error:
            raise DependencyDown(f"Kafka ({self._place}): {error.args[0].str()}") from error

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
            raise DependencyDown(f"Kafka ({self._place}): {error.args[0].str()}") from error
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
                if error.fatal():
                    raise DependencyDown(f"Kafka ({self._place}): {error.str()}")
                continue
            records.append(record_of(self._topic, message))
        return records

    def until_end(self, *, from_offsets: Mapping[int, int] | None = None) -> Iterator[Record]:
        """Everything from the given offsets (or the first) to where the topic ends now.

        Raises:
            DependencyDown: Kafka does not answer.
        """
        bounds = self.bounds()
        wanted = {
            number: (max(low, (from_offsets or {}).get(number, low)), high)
            for number, (low, high) in bounds.items()
        }
        at = {number: low for number, (low, high) in wanted.items() if low < high}
        if not at:
            return
        self.start(at)
        silent = 0
        while at:
            records = self.poll(0.5)
            silent = 0 if records else silent + 1
            for record in records:
                end = wanted[record.partition][1]
                if record.partition in at and record.offset < end:
                    at[record.partition] = record.offset + 1
                    yield record
            # Compaction and transactions leave offsets without a record: the position passes over them.
            done = [number for number, offset in at.items() if offset >= wanted[number][1]]
            if silent:
                done += [n for n in at if n not in done and self._position(n) >= wanted[n][1]]
            for number in done:
                del at[number]
            if silent > 40:  # noqa: PLR2004 - 20 seconds
                raise DependencyDown(f"Kafka ({self._place}): {self._topic} has not answered for 20 s")

    def _position(self, partition: int) -> int:
        [place] = self._consumer.position([TopicPartition(self._topic, partition)])
        return int(place.offset)


def follow(settings: Settings, topic: str, *, stop: Callable[[], bool]) -> Iterator[list[Record]]:
    """What comes to a topic from now on, until `stop` says so."""
    with TopicReader(settings, topic) as reader:
        reader.start({number: high for number, (_, high) in reader.bounds().items()})
        while not stop():
            yield reader.poll(0.2)
