"""A topic with a group that reads it, and apps and worker processes that do."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as KafkaPartition

from stream.runtime.app import (
    BatchApp,
    BatchTopic,
    Record,
    create_batch_app,
)
from stream.runtime.consumer import BatchConsumer
from tests.support.patience import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


WORKER = Path(__file__).with_name("batch_worker.py")


def await_that(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.02)


class Topic:
    """A topic of the test, the group that reads it, and how far the group is."""

    def __init__(self, bootstrap: str, name: str, partitions: int) -> None:
        self.bootstrap, self.name, self.partitions = bootstrap, name, partitions
        self.group = f"{name}-group"
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
        self._reader = Consumer({"bootstrap.servers": bootstrap, "group.id": self.group})
        self._written = 0

    def write(self, count: int, size: int = 0) -> None:
        """Write the next `count` records: values count up over the topic, partitions take turns."""
        for number in range(self._written, self._written + count):
            self._producer.produce(
                self.name, str(number).encode().ljust(size), partition=number % self.partitions
            )
            if number % 1000 == 0:
                self._producer.poll(0)
        self._written += count
        assert self._producer.flush(20) == 0

    @property
    def written(self) -> int:
        return self._written

    def _partitions(self) -> list[KafkaPartition]:
        return [KafkaPartition(self.name, number) for number in range(self.partitions)]

    def committed(self) -> list[int]:
        """The committed offsets; -1001 for none."""
        return [found.offset for found in self._reader.committed(self._partitions(), timeout=10)]

    def ends(self) -> list[int]:
        return [self._reader.get_watermark_offsets(where, timeout=10)[1] for where in self._partitions()]

    def commit(self, partition: int, offset: int) -> None:
        """Put the group at an offset."""
        place = KafkaPartition(self.name, partition, offset)
        self._reader.commit(offsets=[place], asynchronous=False)

    def is_committed(self) -> bool:
        return self.committed() == self.ends()


class Running:
    """An app at work in a thread and an event loop of its own."""

    def __init__(self, app: BatchApp) -> None:
        self.app = app
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._stop = asyncio.Event()
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._live())
        self._loop.close()

    async def _live(self) -> None:
        await self.app.start()
        await self._stop.wait()
        await self.app.stop()
        await asyncio.sleep(0.05)

    @property
    def crash(self) -> BaseException | None:
        return self.app.crash_reason

    @property
    def consumer(self) -> BatchConsumer:
        return self.app.consumer

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the app does not stop"


@contextmanager
def at_work(topic: Topic, handler: Callable[[list[Record]], None], **settings: Any) -> Iterator[Running]:
    max_records = settings.pop("max_records", 500)
    running = Running(
        create_batch_app(
            app_id=topic.group,
            bootstrap=topic.bootstrap,
            topics=[BatchTopic(topic.name, handler, name="handle", max_records=max_records)],
            session_timeout=6.0,
            heartbeat_interval=0.5,
            **settings,
        )
    )
    try:
        yield running
    finally:
        running.stop()


class Worker:
    """A worker process, and what it wrote down."""

    def __init__(self, topic: Topic, log: Path, **options: object) -> None:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        command = [sys.executable, str(WORKER), f"--bootstrap={topic.bootstrap}", f"--group={topic.group}"]
        self._log = log
        self._err = log.with_suffix(".err").open("ab")
        self.process = subprocess.Popen(
            [*command, f"--topic={topic.name}", f"--log={log}", *flags],
            stderr=self._err,
            cwd=Path(__file__).parents[3],
        )

    def _lines(self) -> list[list[str]]:
        text = self._log.read_text() if self._log.exists() else ""
        return [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]

    def handled(self) -> list[tuple[int, int, int]]:
        """(partition, offset, value) of each record, in the order handled."""
        return [(int(a), int(b), int(c)) for a, b, c in self._lines() if a != "#"]

    def assignments(self) -> list[int]:
        """How many partitions each assignment gave."""
        return [int(count) for mark, _, count in self._lines() if mark == "#"]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.exit_code()

    def exit_code(self) -> int:
        code = self.process.wait(PATIENCE)
        self._err.close()
        return code


@contextmanager
def live_traffic(topic: Topic) -> Iterator[None]:
    """Keep writing, some 2,000 records a second, as long as the body runs."""
    over = threading.Event()

    def write() -> None:
        while not over.wait(0.02):
            topic.write(40)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def values(records: list[Record]) -> list[int]:
    return [int(record.value or b"") for record in records]
