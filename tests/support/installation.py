"""A whole installation for a test: topics and keys of its own, workers as processes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from infra.process import GuardedProcess
from producers.publish.publish import PUBLISHING
from stream.adapters.clients import redis_client
from stream.adapters.kafka.admin import create_topics
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.reader import TopicReader
from stream.adapters.kafka.unread import progress_of
from stream.adapters.redis.heartbeat import WorkerState, workers
from stream.config.settings import Settings, load
from stream.demo.show import variables
from stream.inspect.quality import QualityReport, QualityTopics, quality_from_topics
from stream.messages import Label, Transaction, encode
from stream.records import Record
from tests.support.model_keys import KEY
from tests.support.patience import PATIENCE
from tests.support.services import KafkaUnderTest, Unique

Install = Callable[..., "Installation"]


class Installation:
    """Topics, keys and workers of one test."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.running: list[GuardedProcess] = []
        self._producer = Producer({**confluent(settings), **PUBLISHING})
        create_topics(settings)

    def start(self, role: str, **changed: object) -> GuardedProcess:
        """A worker as a process of its own."""
        own = {f"RIVERWATCH_{name.upper()}": str(value) for name, value in changed.items()}
        environment = {
            **os.environ,
            **variables(self.settings),
            "RIVERWATCH_MODEL_KEY": KEY,
            "RIVERWATCH_STATE_DIR": str(self.folder),
            **own,
        }
        log = self.folder / f"{role}-{len(self.running)}.log"
        process = GuardedProcess([sys.executable, "-m", "stream.cli", role], log, env=environment)
        self.running.append(process)
        return process

    def send(self, items: Iterable[Transaction | Label]) -> None:
        """Publish, durably."""
        for item in items:
            if isinstance(item, Transaction):
                self.send_raw("transactions", item.card_id.encode(), encode(item))
            else:
                self.send_raw("labels", item.transaction_id.encode(), encode(item))
        self.flush()

    def send_raw(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        """Hand bytes over."""
        self._producer.produce(self.settings.topic(topic), key=key, value=value)
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until all is durable."""
        assert self._producer.flush(30) == 0

    def read(self, topic: str) -> list[Record]:
        """Everything in a topic."""
        with TopicReader(self.settings, self.settings.topic(topic)) as reader:
            return list(reader.until_end())

    def behind(self, role: str, topic: str) -> int:
        """How many committed messages of a topic a group has not acknowledged."""
        done = progress_of(self.settings, self.settings.group(role), self.settings.topic(topic))
        return sum(each.lag for each in done.values())

    def drained(self, role: str, topic: str, *, timeout: float = 60.0) -> None:
        """Wait until a group has acknowledged everything."""
        self.until(lambda: self.behind(role, topic) == 0, timeout, f"{role} is behind on {topic}")

    def settled(self) -> None:
        """Wait until score and learn workers have done what there is."""
        self.drained("score", "transactions")
        self.until(
            lambda: not any(self.behind("learn", topic) for topic in ("scores", "labels")),
            60,
            "learn is behind",
        )

    def workers(self) -> list[WorkerState]:
        """What the workers say of themselves."""
        return workers(redis_client(self.settings), prefix=self.settings.redis_prefix)

    def until(self, done: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait for a condition, `timeout` seconds at the least."""
        timeout = max(timeout, PATIENCE)
        deadline = time.monotonic() + timeout
        pause = 0.02
        while not done():
            assert time.monotonic() < deadline, f"{what} after {timeout:.0f} s; logs are in {self.folder}"
            time.sleep(pause)
            pause = min(pause * 1.5, 0.25)

    def account(self) -> QualityReport:
        """The judge's word: it reads the topics and nothing else."""
        names = map(self.settings.topic, ("transactions", "scores", "labels", "dead-letters"))
        return quality_from_topics(self.settings.kafka_bootstrap, topics=QualityTopics(*names))

    def close(self) -> None:
        """End all workers."""
        for process in self.running:
            process.kill()


@pytest.fixture
def install(kafka: KafkaUnderTest, redis_url: str, unique: Unique, tmp_path: Path) -> Iterator[Install]:
    """Installations that end with the test."""
    made: list[Installation] = []

    def make(**changed: object) -> Installation:
        prefix = f"{unique(f'system{len(made)}')}-"
        values = {
            "kafka_bootstrap": kafka.bootstrap,
            "redis_url": redis_url,
            "topic_prefix": prefix,
            "group_prefix": prefix + "group",
            "model_key": KEY,
            "partitions": 4,
            "session_timeout": 6,
            "heartbeat_interval": 1,
            "snapshot_interval": "50ms",
            **changed,
        }
        made.append(Installation(load(values, {}).settings, tmp_path))
        return made[-1]

    yield make
    for installation in made:
        installation.close()
