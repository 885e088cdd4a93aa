"""What tests of batches share: topics of their own, and worker processes."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.runtime.batches import Topic, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.services import KafkaUnderTest, MakeTopics, Unique


@pytest.fixture
def topic(kafka: KafkaUnderTest, make_topics: MakeTopics, unique: Unique) -> Callable[[int], Topic]:
    def make(partitions: int) -> Topic:
        name = unique("events")
        make_topics({name: partitions})
        return Topic(kafka.bootstrap, name, partitions)

    return make


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def start(topic: Topic, log: str = "a", **options: object) -> Worker:
        started.append(Worker(topic, tmp_path / f"{log}.log", **options))
        return started[-1]

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.stop(signal.SIGKILL)
