"""Items to Kafka: transactions keyed by card, labels by transaction, each once and durable."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias

from confluent_kafka import KafkaError, KafkaException, Producer

from producers.publish.followers import KafkaFollowers, PublishError
from producers.publish.pace import (
    Follow,
    Followers,
    Item,
    Pace,
    PaceClock,
    Rate,
    SpeedUp,
    Tell,
    at_rate,
    at_speed,
    in_step,
    time_of,
)
from stream.messages import Transaction, encode

PUBLISHING: Final[dict[str, Any]] = {
    "enable.idempotence": True,
    "acks": "all",
    # The Java clients' partitioner: whoever else keys by card_id finds the same partition.
    "partitioner": "murmur2_random",
    "linger.ms": 5,
    "compression.type": "lz4",
    "queue.buffering.max.messages": 200_000,
    "delivery.timeout.ms": 60_000,
}
"""What a producer needs beside its address. Delivery reports must stay on: `publish` counts by them."""

_SERVE_EVERY: Final = 1_000
_TELL_EVERY: Final = 1.0
_ROUND_TRIP: Final = 10.0
_STALL: Final = 5.0


class PublishTopics(NamedTuple):
    """Full names."""

    transactions: str = "transactions"
    labels: str = "labels"


class PublishProgress(NamedTuple):
    """What has gone out.

    Attributes:
        size: bytes of the values.
        seconds: since the start.
        event_time: of the latest item.
    """

    transactions: int
    labels: int
    size: int
    seconds: float
    event_time: datetime | None


_TOPICS: Final = PublishTopics()
Progress: TypeAlias = Callable[[PublishProgress], None]


def publish(
    items: Iterable[Item],
    *,
    producer: Producer,
    pace: Pace,
    topics: PublishTopics = _TOPICS,
    progress: Progress | None = None,
    followers: Followers | None = None,
    tell: Tell = print,
    waiting: PaceClock | None = None,
) -> PublishProgress:
    """Publish all items at a pace; returns when every one is durable.

    Args:
        items: in order of time, as `simulate` and `read_dataset` give them.
        producer: made with `PUBLISHING` in its configuration.
        pace: how fast.
        topics: where to.
        progress: is told about once a second how far it is.
        followers: how far the consumers are, for the pace `Follow`.
        tell: a line for people, when Kafka or the consumers do not follow.
        waiting: the clock.

    Raises:
        PublishError: Kafka did not take a message.
        ValueError: `Follow` without followers.
    """
    waiting = waiting or PaceClock(time.monotonic, time.sleep)
    sink = KafkaSink(producer, topics, waiting=waiting, tell=tell, progress=progress)
    if isinstance(followers, KafkaFollowers):
        followers.count_on(sink.delivered)
    try:
        match pace:
            case Rate():
                at_rate(items, pace, sink=sink, waiting=waiting)
            case SpeedUp():
                at_speed(items, pace, sink=sink, waiting=waiting)
            case Follow():
                if followers is None:
                    raise ValueError("the pace Follow needs followers")
                in_step(items, pace, sink=sink, followers=followers, waiting=waiting, tell=tell)
            case _:
                for item in items:
                    sink.send(item)
    finally:
        # Also when stopped in the middle: what was handed over is on its way.
        producer.flush(_ROUND_TRIP)
    sink.flush()
    return sink.published()


class KafkaSink:
    """A `Sink` on a confluent-kafka producer.

    Attributes:
        delivered: of each topic and partition, the offset after the last delivered message.
    """

    def __init__(
        self,
        producer: Producer,
        topics: PublishTopics,
        *,
        waiting: PaceClock,
        tell: Tell,
        progress: Progress | None,
    ) -> None:
        self.delivered: dict[str, dict[int, int]] = defaultdict(dict)
        self._producer = producer
        self._topics = topics
        self._waiting = waiting
        self._progress = progress
        self._tell = tell
        self._start = self._told = waiting.now()
        self._transactions = self._labels = self._size = self._unserved = 0
        self._latest: datetime | None = None
        self._failed: str | None = None

    def send(self, item: Item) -> None:
        """Hand one over.

        Raises:
            PublishError: an earlier one was not taken.
        """
        value = encode(item)
        if isinstance(item, Transaction):
            self._transactions += 1
            self._produce(self._topics.transactions, item.card_id, value)
        else:
            self._labels += 1
            self._produce(self._topics.labels, item.transaction_id, value)
        self._size += len(value)
        self._latest = time_of(item)
        self._unserved += 1
        if self._unserved >= _SERVE_EVERY or self._waiting.now() - self._told >= _TELL_EVERY:
            self._serve()

    def flush(self) -> None:
        """Return when all is durable.

        Raises:
            PublishError: something was not taken.
        """
        while left := self._producer.flush(_STALL):
            self._check()
            self._tell(f"waiting for Kafka: {left:,} messages are not taken yet")
        self._check()

    def published(self) -> PublishProgress:
        """What has gone out."""
        seconds = self._waiting.now() - self._start
        return PublishProgress(self._transactions, self._labels, self._size, seconds, self._latest)

    def _serve(self) -> None:
        self._unserved = 0
        self._producer.poll(0)
        self._check()
        if self._waiting.now() - self._told >= _TELL_EVERY:
            self._report_progress()

    def _report_progress(self) -> None:
        self._told = self._waiting.now()
        if self._progress is not None:
            self._progress(self.published())

    def _check(self) -> None:
        if self._failed is not None:
            raise PublishError(self._failed)

    def _produce(self, topic: str, key: str, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(topic, value=value, key=key.encode(), on_delivery=self._delivered)
            except BufferError:
                # The queue is full: give the brokers a moment.
                self._producer.poll(0.05)
                self._check()
            except KafkaException as error:
                raise PublishError(f"{topic}: {error.args[0].str()}") from error
            else:
                return

    def _delivered(self, error: KafkaError | None, message: Any) -> None:
        topic = message.topic()
        if error is not None:
            self._failed = self._failed or f"{topic}: {error.str()}"
            return
        # Delivery is in the order of offsets within a partition.
        self.delivered[topic][message.partition()] = message.offset() + 1
