"""Messages leave through an idempotent producer, and `send` returns when the brokers hold all of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from stream.adapters.kafka.client import MAX_MESSAGE, confluent
from stream.adapters.kafka.errors import failure
from stream.config.settings import Settings
from stream.ports import DependencyDown, Message


class KafkaOutbox:
    """The `Outbox` on Kafka. For one thread.

    A send that fails is taken back whole: the producer is thrown away with all it still held, and the caller
    sends everything again. Copies may come of it, with the same bytes; nothing is lost.

    Args:
        settings: addresses and credentials.
        timeout: seconds until an attempt counts as failed, > 0.
    """

    def __init__(self, settings: Settings, *, timeout: float = 10.0) -> None:
        self._settings = settings
        self._timeout = timeout
        self._failed: list[tuple[str, KafkaError]] = []
        self._producer: Producer | None = None

    def send(self, messages: Iterable[Message]) -> None:
        """Hand all messages over and wait until every one is durable.

        Raises:
            DependencyDown, DependencyRefused: some are not.
        """
        producer = self._producer or self._create()
        self._failed.clear()
        try:
            for message in messages:
                self._produce(producer, message)
            left = producer.flush(self._timeout)
        except KafkaException as error:
            self._discard()
            raise failure(confluent(self._settings), error) from error
        if self._failed:
            topic, why = self._failed[0]
            self._discard()
            raise failure(confluent(self._settings), why, about=topic)
        if left:
            self._discard()
            raise DependencyDown(
                f"Kafka ({self._settings.kafka_bootstrap}): {left} messages not taken within "
                f"{self._timeout:g} s"
            )

    def close(self) -> None:
        """Let the connection go."""
        self._discard()

    def _create(self) -> Producer:
        self._producer = Producer(
            confluent(
                self._settings,
                enable_idempotence=True,
                acks="all",
                linger_ms=0,
                compression_type="lz4",
                partitioner="murmur2_random",
                delivery_report_only_error=True,
                queue_buffering_max_messages=200_000,
                message_max_bytes=MAX_MESSAGE,
                topic_metadata_refresh_interval_ms=10_000,  # partitions that are added are used soon
                delivery_timeout_ms=int(self._timeout * 1000),
            )
        )
        return self._producer

    def _produce(self, producer: Producer, message: Message) -> None:
        while True:
            try:
                producer.produce(
                    message.topic,
                    value=message.value,
                    key=message.key,
                    headers=list(message.headers) or None,
                    on_delivery=self._report,
                )
            except BufferError:  # the queue is full: wait for room
                producer.poll(0.05)
            else:
                return

    def _report(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._failed.append((str(message.topic()), error))

    def _discard(self) -> None:
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(0.1)
            self._producer = None
