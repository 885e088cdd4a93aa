"""The demo's course: services, workers, a stream, an end. Everything it starts ends with it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Producer
from rich.console import Console
from rich.live import Live

from infra.process import GuardedProcess
from infra.services import LocalRedis, open_kafka
from producers.publish.pace import SpeedUp, time_of
from producers.publish.publish import PUBLISHING, PublishProgress, publish
from producers.simulator.simulate import DEMO, simulate
from stream.adapters.clients import redis_client
from stream.adapters.kafka.admin import create_topics
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.reader import follow
from stream.adapters.redis.heartbeat import workers
from stream.config.settings import Duration, Settings
from stream.config.signing_key import model_key
from stream.demo.board import Board
from stream.demo.screen import drift_line, plain_line, screen, why
from stream.messages import alert_decoder, signal_decoder

CARDS_PER_DAY = 10
WORKERS = ("score", "score", "learn", "monitor")
SETTLE = 20.0  # seconds at most until the last events are decided


def last_monday(now: datetime) -> datetime:
    """When the last Monday before today began, where the demo ends.

    Nothing in it lies in the future. And people pay by the day of the week: the same seed shows the same
    whenever it is run.

    >>> for day in (1, 2, 3):
    ...     print(f"{last_monday(datetime(2026, 3, day, 12, 30, tzinfo=UTC)):%Y-%m-%d %H:%M}")
    2026-02-23 00:00
    2026-02-23 00:00
    2026-03-02 00:00
    """
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=today.weekday() or 7)


class DemoFailed(Exception):  # noqa: N818 - an outcome with a sentence
    """The demo could not be shown; says why and where the logs are."""


class Demo:
    """One showing.

    Args:
        seed: of the simulation; the same seed streams the same payments.
        seconds: that the simulated weeks take.
        console: where it is shown.
        folder: logs and data; kept when something goes wrong.
    """

    def __init__(self, *, seed: int, seconds: float, console: Console, folder: Path) -> None:
        self._seed = seed
        self._seconds = seconds
        self._console = console
        self._folder = folder
        days = DEMO.days or 0
        self._spec = msgspec.structs.replace(
            DEMO, start=last_monday(datetime.now(UTC)) - timedelta(days=days)
        )
        change = self._spec.start + timedelta(days=self._spec.changes[0].at_day)
        self.board = Board(change, CARDS_PER_DAY)
        self._days = days
        self._stop = threading.Event()
        self._failure: Exception | None = None

    @contextmanager
    def services(self) -> Iterator[Settings]:
        """Kafka, Redis, topics and workers, until the block ends."""
        with ExitStack() as stack:
            redis = stack.enter_context(LocalRedis(self._folder))
            broker = open_kafka("embedded", state_dir=self._folder)
            stack.enter_context(broker)
            settings = Settings(
                kafka_bootstrap=broker.bootstrap,
                redis_url=redis.url,
                partitions=4,
                model_key_file=str(model_key(self._folder)),
                maturity=Duration(7 * 86400.0),
                quality_window=Duration(7 * 86400.0),
                snapshot_interval=Duration(0.25),
                cards_per_day=CARDS_PER_DAY,
            )
            create_topics(settings)
            environment = {**os.environ, **variables(settings), "RIVERWATCH_STATE_DIR": str(self._folder)}
            processes = []
            for number, role in enumerate(WORKERS):
                log = self._folder / "logs" / f"{role}-{number}.log"
                command = [sys.executable, "-m", "stream.cli", role]
                process = GuardedProcess(command, log, env=environment, cwd=self._folder)
                stack.callback(process.kill)
                processes.append((role, process))
            self._processes = processes
            yield settings
            for _, process in reversed(processes):
                process.stop(10.0)

    def run(self, settings: Settings) -> None:
        """Stream the weeks, from the first decision to the last.

        Raises:
            DemoFailed: a worker ended, or nothing happens.
        """
        board = self.board
        followers = [
            threading.Thread(target=self._guarded, args=(self._follow, settings, name, take), daemon=True)
            for name, take in (("alerts", self._alerts), ("drift", self._signals))
        ]
        for thread in followers:
            thread.start()
        self._await(lambda: len(board.workers) == len(WORKERS), settings, 60.0, "the workers did not start")
        board.phase = "streaming simulated payments"
        streamer = threading.Thread(target=self._guarded, args=(self._stream, settings), daemon=True)
        streamer.start()
        self._await(
            lambda: not streamer.is_alive(), settings, 4 * self._seconds + 60, "the stream did not end"
        )
        board.phase = "finishing"
        self._await(self._caught_up, settings, SETTLE, "not everything was decided")
        board.phase = "done"

    def stop(self) -> None:
        """End the threads."""
        self._stop.set()

    def _stream(self, settings: Settings) -> None:
        factor = self._days * 86400.0 / self._seconds
        end = self._spec.start + timedelta(days=self._days)
        done = publish(
            # Labels go on coming for weeks after the last payment; the demo ends with the payments.
            takewhile(lambda item: time_of(item) < end, simulate(self._spec, seed=self._seed)),
            producer=Producer({**confluent(settings), **PUBLISHING}),
            pace=SpeedUp(factor),
            progress=self._progress,
            tell=lambda _line: None,
        )
        self._progress(done)

    def _progress(self, done: PublishProgress) -> None:
        board = self.board
        board.published, board.labels, board.event_time = done.transactions, done.labels, done.event_time
        if done.event_time and done.event_time >= board.changes_at:
            board.phase = (
                "the fraud pattern has changed: watch the quality fall, the signal come, the model learn"
            )

    def _follow(self, settings: Settings, name: str, take: Callable[[bytes], None]) -> None:
        for records in follow(settings, settings.topic(name), stop=self._stop.is_set):
            for record in records:
                if record.value:
                    take(record.value)

    def _alerts(self, value: bytes) -> None:
        alert = alert_decoder.decode(value)
        if self.board.on_alert(alert) and not self._console.is_terminal:
            count = sum(self.board.alert_counts.values())
            if count <= 3 or count % 100 == 0:  # noqa: PLR2004 - enough to see what they look like
                self._console.print(f"alert {alert.action} {alert.score:.0%}: {why(alert)}", soft_wrap=True)

    def _signals(self, value: bytes) -> None:
        signal = signal_decoder.decode(value)
        self.board.on_signal(signal)
        if signal.kind == "drift" and not self._console.is_terminal:
            self._console.print(f"drift: {drift_line(signal)}", soft_wrap=True)

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001 - raised again in the main thread
            self._failure = error

    def _caught_up(self) -> bool:
        # Not by offsets: the embedded broker's word on where a topic ends comes late.
        board = self.board
        return board.total("score", "decided") + board.total("score", "rejected") >= board.published

    def _look(self, settings: Settings) -> None:
        self.board.on_workers(workers(redis_client(settings), prefix=settings.redis_prefix))

    def _await(self, done: Callable[[], bool], settings: Settings, timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        with self._shown() as show:
            while not done():
                for role, process in self._processes:
                    if process.poll() is not None:
                        raise DemoFailed(f"the {role} worker ended; its log is {process.log}")
                if self._failure is not None:
                    raise DemoFailed(f"{self._failure}; logs are in {self._folder / 'logs'}")
                if time.monotonic() > deadline:
                    raise DemoFailed(f"{what} within {timeout:.0f} s; logs are in {self._folder / 'logs'}")
                self._look(settings)
                show()
                self._stop.wait(0.5)

    @contextmanager
    def _shown(self) -> Iterator[Callable[[], None]]:
        if self._console.is_terminal:
            with Live(
                screen(self.board), console=self._console, refresh_per_second=4, transient=True
            ) as live:
                yield lambda: live.update(screen(self.board))
        else:
            last = [0.0]

            def line() -> None:
                if time.monotonic() - last[0] >= 5.0:  # noqa: PLR2004 - a line every few seconds
                    last[0] = time.monotonic()
                    self._console.print(plain_line(self.board), soft_wrap=True)

            yield line


def variables(settings: Settings) -> dict[str, str]:
    """Settings as environment variables, those that are not the default."""
    usual = Settings()
    changed = {
        field: getattr(settings, field)
        for field in Settings.__struct_fields__
        if getattr(settings, field) != getattr(usual, field)
    }
    return {f"RIVERWATCH_{name.upper()}": str(value) for name, value in changed.items()}


@contextmanager
def demo_folder() -> Iterator[Path]:
    """A folder that goes when all went well, and stays for whoever looks for what did not."""
    folder = Path(tempfile.mkdtemp(prefix="riverwatch-demo-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
