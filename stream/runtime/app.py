"""Faust in batches: what is queued goes to a handler, and is acknowledged when the handler has returned.

    def handler(records: list[Record]) -> None: ...   # decode, score, produce, flush

    app = create_batch_app(app_id="score", bootstrap="localhost:9092",
                           topics=[BatchTopic("transactions", handler, name="score")])
    sys.exit(run_app(app))

Handlers are plain blocking functions. All of an app's run in one thread of its own, one call at a time,
while Faust's event loop and aiokafka's thread keep fetching and sending heartbeats. A batch is what is
there: nothing waits for it to fill.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust
import mode
from faust.app.base import BootStrategy
from faust.sensors import Monitor
from faust.transport.drivers.aiokafka import Transport

from stream.records import Record
from stream.runtime import shutdown_log as leaving
from stream.runtime.batch_stream import Batch, BatchStream
from stream.runtime.broker_log import BrokerOutageFilter
from stream.runtime.consumer import BatchConsumer
from stream.runtime.handler import Retry, SkippedRecordsError, TopicPartition, WorkerRefused
from stream.runtime.retry_log import WaitLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stream.config.isolation import Isolation
    from stream.runtime.consumer import ConsumerHost

    Handler = Callable[[list[Record]], None]
    OnAssigned = Callable[[frozenset[TopicPartition]], Mapping[TopicPartition, int] | None]
    OnRevoked = Callable[[frozenset[TopicPartition]], None]

log = logging.getLogger(__name__)

__all__ = [
    "Batch", "BatchApp", "BatchStream", "BatchTopic", "Record", "Retry", "SkippedRecordsError",
    "TopicPartition", "WorkerRefused", "create_batch_app", "run_app",
]  # fmt: skip

ASK_WHY = 10
"""Seconds of a broker's silence after which, again and again, it is asked whether its cause lasts."""

METADATA_MAX_AGE_MS = 10_000
"""How old what is known of topics may be: partitions that are added are noticed within it."""

RETRY_FIRST, RETRY_MOST = 0.2, 2.0
"""Seconds between two tries of a batch whose handler asked for it: doubled from the first to the most."""


@dataclass(frozen=True)
class BatchTopic:
    """A topic and what is done with it: one agent.

    Args:
        topic: its name; it must exist.
        handler: given the records of a batch, in offset order within each partition. It blocks. When it
            returns, the batch counts as handled for good. `Retry` gets it the same batch again;
            `WorkerRefused` stops the worker with one line, any other exception with a traceback, both with
            exit code 1. None acknowledges anything.
        name: the agent's, in logs.
        max_records: most records in a batch, > 0. Above 500 nothing is gained.
        min_interval: seconds from one batch to the next, >= 0: for a handler whose work is mostly per batch.
    """

    topic: str
    handler: Handler
    name: str
    max_records: int = 500
    min_interval: float = 0.0


class BatchMonitor(Monitor):
    """Faust's monitor without what it would do for every message."""

    def on_message_in(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    def on_message_out(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    def on_stream_event_in(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    def on_stream_event_out(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""


class _BatchTransport(Transport):
    Consumer = BatchConsumer


class _WithoutProducer(BootStrategy):
    enable_kafka_producer = False  # outputs go through a producer of the handler's


class BatchApp(faust.App):
    """A Faust app whose agents are given batches. Made by `create_batch_app`."""

    BootStrategy = _WithoutProducer
    consumer: BatchConsumer
    makes_folders = False

    def prepare(
        self, bootstrap: str, topics: Sequence[BatchTopic], fetch_max_wait_ms: int,
        on_assigned: OnAssigned | None, on_revoked: OnRevoked | None, on_committed: Callable[[], None],
        isolation: Callable[[], Isolation],
    ) -> None:  # fmt: skip
        """Add one agent a topic. Separate from `__init__`, whose arguments are Faust's settings."""
        self.bootstrap = bootstrap
        self.fetch_max_wait_ms = fetch_max_wait_ms
        self.isolation = isolation
        # Enough that a handler never waits for a fetch, little enough to be thrown away at a rebalance.
        self.records_ahead = {plan.topic: max(2000, 4 * plan.max_records) for plan in topics}
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self.on_committed = on_committed
        self.request_stop: Callable[[], object] = lambda: None  # as SIGTERM does; from any thread
        self.refused: str | None = None
        self.lasting_cause: Callable[[], str | None] = lambda: None  # of a broker's silence; may block
        self.outage = BrokerOutageFilter(bootstrap, every=30.0)
        # Kept over assignments: a rebalance in the middle of a wait is no new one.
        self._assigned_wait = WaitLog("The assigned partitions are read")
        self._worker_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"{self.conf.id}-handler")
        for plan in topics:
            channel = self.topic(plan.topic, internal=False)
            self.agent(channel, name=plan.name, concurrency=1)(self._body(plan))
        self.task(self._watch_broker)

    def _body(self, plan: BatchTopic) -> Callable[[Any], Any]:
        async def handle_batches(stream: BatchStream) -> None:
            async for batch in stream.batches(plan.max_records, plan.min_interval):
                batch.given_up = not await self._handle(plan, batch)

        return handle_batches

    async def _handle(self, plan: BatchTopic, batch: Batch) -> bool:
        """Until the handler has returned. False when the partitions have to go before it has."""
        letting_go = self.consumer.letting_go
        records = batch.records
        pause = RETRY_FIRST
        wait = WaitLog(f"{plan.name} goes on")
        while True:
            try:
                await self._in_worker_thread(plan.handler, records)
            except Retry as retry:
                wait.tried(f"{plan.name} waits, its batch of {len(records)} unacknowledged: {retry.reason}")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(letting_go.wait(), pause)
                if letting_go.is_set():
                    return False
                pause = min(2 * pause, RETRY_MOST)
            except WorkerRefused as refusal:
                self.refuse(refusal.reason)
                await letting_go.wait()
                return False
            else:
                wait.over()
                return True

    def refuse(self, reason: str) -> None:
        """End, because something refuses that a person must mend; from any thread, said once."""
        if self.refused is None:
            self.refused = reason
            log.error("%s ends: %s", self.conf.id, reason)
            self.request_stop()

    async def _in_worker_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._worker_thread, function, *args)

    # What the consumer asks of its app

    def channel_of(self, topic: str) -> Any:
        """The channel of the agent that reads a topic."""
        return next(channel for channel in self.topics if topic in channel.topics)

    async def ask_on_assigned(
        self, held: frozenset[TopicPartition], gone: Callable[[], bool]
    ) -> dict[TopicPartition, int] | None:
        """Where to start below the committed offsets; None when the partitions went before it was known."""
        pause = RETRY_FIRST
        while self._on_assigned is not None and held:
            try:
                start = dict(await self._in_worker_thread(self._on_assigned, held) or {})
            except Retry as retry:
                self._assigned_wait.tried(f"Nothing is read from the assigned partitions yet: {retry.reason}")
                await self.sleep(pause)
                pause = min(2 * pause, RETRY_MOST)
            except WorkerRefused as refusal:
                self.refuse(refusal.reason)
                while not (gone() or self.should_stop):
                    await self.sleep(RETRY_FIRST)
                return None
            else:
                self._assigned_wait.over()
                return start
            if gone() or self.should_stop:
                return None
        return {}

    async def tell_on_revoked(self, held: frozenset[TopicPartition]) -> None:
        """The partitions are finished with, and what was done of them is committed."""
        if self._on_revoked is not None:
            await self._in_worker_thread(self._on_revoked, held)

    # Faust's hooks

    def _new_transport(self) -> Any:
        return _BatchTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        if self.makes_folders:
            super()._create_directories()

    async def _watch_broker(self) -> None:
        commits = WaitLog(f"Kafka at {self.bootstrap} answers commits again")
        away = 0
        while not self.should_stop:
            await self.sleep(1.0)
            self.consumer.say_unanswered(commits)
            known = self.consumer.coordinator_is_known()
            self.outage.tick(reachable=known)
            away = 0 if known else away + 1
            if away and away % ASK_WHY == 0 and (why := await asyncio.to_thread(self.lasting_cause)):
                self.refuse(why)
            await self.consumer.know_topics()

    async def on_stop(self) -> None:
        """Finish and commit the batch in hand, then stop as Faust does."""
        patience = self.conf.broker_session_timeout
        if self.crash_reason is None and self.refused is None:
            leaving.told_to_end(self.conf.id)
        answered = await self.consumer.leave(patience)
        if self.crash_reason is None and self.refused is None:
            silent = None if answered else self.bootstrap
            leaving.leaves(self.conf.id, self.consumer.positions.left_over(), silent, session=patience)
        await super().on_stop()
        self._worker_thread.shutdown(wait=False)


if TYPE_CHECKING:

    def _is_host(app: BatchApp) -> ConsumerHost:
        return app


def create_batch_app(
    *,
    app_id: str,
    bootstrap: str,
    topics: Sequence[BatchTopic],
    instance_id: str | None = None,
    session_timeout: float = 10.0,
    heartbeat_interval: float = 3.0,
    commit_interval: float = 1.0,
    fetch_max_wait_ms: int = 100,
    on_assigned: OnAssigned | None = None,
    on_revoked: OnRevoked | None = None,
    on_committed: Callable[[], None] = lambda: None,
    isolation: Callable[[], Isolation] = lambda: "read_committed",
    credentials: Any = None,
    data_dir: Path | None = None,
) -> BatchApp:
    """Make an app; nothing is connected before it is run.

    Args:
        app_id: the consumer group.
        bootstrap: host:port, several separated by commas.
        topics: each topic once.
        instance_id: makes the member static: back within `session_timeout`, it has its partitions again
            at once and nobody else is disturbed. In return a planned stop hands nothing over before that
            time is up. Unique among the workers of the group.
        session_timeout: seconds without a heartbeat after which the others take over; at least 6 unless
            the broker allows less. A batch in hand may take half of it when partitions are revoked, and
            all of it at a stop.
        heartbeat_interval: seconds, a third of `session_timeout` or less.
        commit_interval: seconds between commits of what was acknowledged, > 0.
        fetch_max_wait_ms: how long the broker may hold a fetch that finds nothing new.
        on_assigned: called in the handlers' thread with the partitions held from now on, before anything
            of them is handed over. May return {partition: offset} to start below the committed offset,
            where state was lost. `Retry` has it called again.
        on_revoked: called in the handlers' thread with the partitions given up, at a rebalance and at a
            stop, when the batch in hand is finished and committed.
        on_committed: called in the event loop when acknowledgements stand in Kafka.
        isolation: called once, in the consumer's thread: whether records of open and of aborted transactions
            are left out.
        credentials: Faust's (`faust.SASLCredentials`, `faust.SSLCredentials`, ...) for the broker.
        data_dir: where Faust makes its folders, which stay empty without tables. None: it makes none.
    """
    if len({plan.topic for plan in topics}) != len(topics) or len({plan.name for plan in topics}) != len(
        topics
    ):
        raise ValueError("topics: each topic and each name once; one agent reads a topic, and only one")
    app = BatchApp(
        app_id,
        broker=[f"kafka://{address.strip()}" for address in bootstrap.split(",")],
        broker_credentials=credentials,
        broker_commit_interval=commit_interval,
        broker_session_timeout=session_timeout,
        broker_heartbeat_interval=heartbeat_interval,
        # Heartbeats say that the worker lives: a batch may wait for a dependency as long as it takes.
        broker_max_poll_interval=7 * 86_400.0,
        consumer_group_instance_id=instance_id,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
        agent_supervisor=mode.CrashingSupervisor,
        stream_wait_empty=False,  # Faust would wait for messages it tracks; none are
        Stream=BatchStream,
        Monitor=BatchMonitor,
        table_standby_replicas=0,
        topic_disable_leader=True,
        topic_allow_declare=False,
        reply_create_topic=False,
        web_enabled=False,
        worker_redirect_stdouts=False,
        autodiscover=False,
        datadir=data_dir or Path(tempfile.gettempdir()) / f"{app_id}-faust",
    )
    app.makes_folders = data_dir is not None
    app.prepare(bootstrap, topics, fetch_max_wait_ms, on_assigned, on_revoked, on_committed, isolation)
    return app


def run_app(app: BatchApp, *, loglevel: str = "INFO") -> int:
    """Run as this process's worker until SIGTERM, SIGINT or `request_stop`; finish the batch in hand, commit.

    Call it in the main thread: it installs signal handlers. Logging is left as it is when the root logger
    has a handler, and set up on standard error when it has none.

    Returns:
        0 after one of these, 1 after a crash or a refusal: have a supervisor start the worker again.
    """
    root = logging.getLogger()
    if not root.handlers:
        logging.basicConfig(level=loglevel, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    root.setLevel(loglevel)
    logging.getLogger("mode.timers").setLevel(logging.ERROR)  # it counts how long a commit waits for Kafka
    for handler in root.handlers:
        handler.addFilter(app.outage)
    loop = asyncio.new_event_loop()
    worker = faust.Worker(app, loglevel=loglevel, quiet=True, override_logging=False, loop=loop)
    worker.spinner = None
    stop = worker._schedule_shutdown  # noqa: SLF001 - what Faust's worker does at SIGTERM has no public name
    app.request_stop = lambda: loop.call_soon_threadsafe(stop, signal.SIGTERM)
    asyncio.set_event_loop(loop)
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        if app.refused is not None:
            return 1
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        for handler in root.handlers:
            handler.removeFilter(app.outage)
