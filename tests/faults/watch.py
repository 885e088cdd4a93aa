"""Follows the decisions beside the workers: what was decided, how often, when, and whether always the same.

Its account is its own: it shares nothing with `riverwatch verify` but the topic.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Iterable

from confluent_kafka import Consumer, TopicPartition

from stream.adapters.kafka.client import confluent
from stream.config.settings import Settings

_START = b'{"transaction_id":"t'
_BITS = 2**64 - 1


class Watch:
    """Reads `scores` to its end and on, in a thread of its own.

    Attributes:
        decided: payments of the traffic with at least one decision.
        duplicates: further messages of a decision.
        differing: payments that were decided twice, differently.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._contents = array("Q")
        self._arrived = [array("d") for _ in range(settings.partitions)]
        self._sent = [array("d") for _ in range(settings.partitions)]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.decided = self.duplicates = self.messages = 0
        self.differing: set[int] = set()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._ended.set()
        self._thread.join()

    def missing(self, payments: int) -> list[int]:
        """Payments without a decision."""
        known = len(self._contents)
        return [number for number in range(payments) if number >= known or not self._contents[number]]

    def first_since(self, partition: int, when: float) -> float | None:
        """When a decision that was sent after `when` (seconds since 1970) first arrived on a partition."""
        arrived, sent = self._arrived[partition], self._sent[partition]
        at = len(arrived)
        found = None
        while at and arrived[at - 1] > when:
            at -= 1
            if sent[at] > when:
                found = arrived[at]
        return found

    def any_since(self, when: float) -> float | None:
        """The same over all partitions, by arrival alone."""
        firsts = []
        for arrived in self._arrived:
            at = len(arrived)
            while at and arrived[at - 1] > when:
                at -= 1
            if at < len(arrived):
                firsts.append(arrived[at])
        return min(firsts, default=None)

    def all_since(self, partitions: Iterable[int], when: float) -> float | None:
        """When the last of these partitions had its first; None while one has none."""
        found = [self.first_since(partition, when) for partition in partitions]
        return None if None in found else max((each for each in found if each is not None), default=None)

    def _run(self) -> None:
        consumer = Consumer(
            confluent(
                self._settings,
                group_id="fault-watch",
                enable_auto_commit=False,
                fetch_wait_max_ms=50,
                reconnect_backoff_max_ms=200,
            )
        )
        topic = self._settings.topic("scores")
        consumer.assign([TopicPartition(topic, number, 0) for number in range(self._settings.partitions)])
        while not self._ended.is_set():
            for message in consumer.consume(1000, 0.05):
                if message.error() is None:
                    self._take(message.partition() or 0, message.timestamp()[1], message.value() or b"")
        consumer.close()

    def _take(self, partition: int, sent_ms: int, value: bytes) -> None:
        self.messages += 1
        self._arrived[partition].append(time.time())
        self._sent[partition].append(sent_ms / 1000.0)
        if not value.startswith(_START):
            return
        number = int(value[len(_START) : value.index(b'"', len(_START))])
        if number >= len(self._contents):
            self._contents.frombytes(bytes(8 * (number + 100_000 - len(self._contents))))
        content = (hash(value) & _BITS) or 1
        if not self._contents[number]:
            self._contents[number] = content
            self.decided += 1
            return
        self.duplicates += 1
        if self._contents[number] != content:
            self.differing.add(number)
