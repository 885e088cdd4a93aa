"""Headers of a Kafka record come whole: in order, repeated names and empty values too, whoever reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from confluent_kafka import Message, TopicPartition
from faust.types import TP

from stream.adapters.kafka import reader, scan
from stream.config.settings import Settings
from stream.records import Record
from stream.runtime.batch_stream import Batch
from stream.runtime.positions import Run

WRITTEN: list[tuple[str, str | bytes | None]] = [
    ("trace", b"1"),
    ("via", b"a"),
    ("trace", b"2"),
    ("empty", None),
]
READ = (("trace", b"1"), ("via", b"a"), ("trace", b"2"), ("empty", b""))


class OneMessage:
    """A consumer that has one message, and then the end of its partition."""

    def __init__(self, _config: object) -> None:
        self._left: list[Any] = [
            Message(topic="t", partition=0, offset=0, value=b"v", headers=WRITTEN, timestamp=(1, 7))
        ]

    def assign(self, _partitions: list[TopicPartition]) -> None:
        """Nothing to do: there is one partition."""

    def consume(self, _most: int = 1, timeout: float = 0.0) -> list[Any]:
        del timeout
        left, self._left = self._left, []
        return left

    def close(self) -> None:
        """Nothing to do."""


def by_reader(monkeypatch: pytest.MonkeyPatch) -> Record:
    monkeypatch.setattr(scan, "Consumer", OneMessage)
    with reader.TopicReader(Settings(), "t") as topic:
        [found] = topic.poll(0.0)
    return found


def by_scan(monkeypatch: pytest.MonkeyPatch) -> Record:
    monkeypatch.setattr(scan, "Consumer", OneMessage)
    batch = next(iter(scan.read_spans({}, "t", {0: (0, 1)})))
    return batch[0]


def by_worker(_: pytest.MonkeyPatch) -> Record:
    fetched: Any = ConsumerRecord("t", 0, 0, 7, 0, None, b"v", None, -1, 1, tuple(WRITTEN))  # type: ignore[call-arg, unused-ignore]
    [found] = Batch([Run(1, TP("t", 0), 0, [fetched])]).records
    return found


@pytest.mark.parametrize("read", [by_reader, by_scan, by_worker])
def test_repeated_headers_come_in_the_order_in_which_they_were_written(
    read: Callable[[pytest.MonkeyPatch], Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read(monkeypatch) == Record("t", 0, 0, 7, None, b"v", READ)
