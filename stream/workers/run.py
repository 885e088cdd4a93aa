"""From settings to running workers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from stream.adapters.clients import make_store, redis_client
from stream.adapters.clock import now
from stream.adapters.disk.decision_log import DiskDecisionLog
from stream.adapters.disk.filler import DiskFiller
from stream.adapters.kafka.admin import check_topics
from stream.adapters.kafka.outbox import KafkaOutbox
from stream.adapters.redis.due_queues import RedisDueQueue
from stream.adapters.redis.heartbeat import Heartbeat
from stream.adapters.redis.logs import RedisLogs
from stream.config.factories import feature_spec
from stream.config.settings import Settings
from stream.config.signing_key import state_dir
from stream.learning import requeue_pending
from stream.ports import DecisionLog, LabelStore
from stream.workers.log_watch import LogWatch

logger = logging.getLogger(__name__)

Reached = Callable[[str], None]


def nothing(_point: str) -> None:
    """What happens at the named points between steps: nothing, outside of tests."""


def run_score(settings: Settings, *, reached: Reached = nothing) -> int:
    """Run a score worker until it is told to end; returns the exit code."""
    from stream.workers.score import ScorePorts, create_app  # noqa: PLC0415 - Faust is slow to import

    spec = feature_spec(settings)
    check_topics(settings)
    client = redis_client(settings)
    heartbeat = Heartbeat("score", client, prefix=settings.redis_prefix)
    watch = LogWatch(settings, RedisLogs(client, settings.redis_prefix), ["transactions"])
    ports = ScorePorts(make_store(settings, spec, client), KafkaOutbox(settings), now, heartbeat, watch)
    with heartbeat, watch:
        while True:
            worker = create_app(settings, ports, spec, reached=reached)
            worker.follower.start()
            code = _run(worker.app, settings)
            worker.follower.stop()
            if not worker.again():
                return code
            # Assigned anew, it claims its partitions and goes back to where Redis stands.


def run_learn(settings: Settings, *, reached: Reached = nothing) -> int:
    """Run a learn worker until it is told to end; returns the exit code."""
    from stream.workers.learn import LearnPorts, create_app  # noqa: PLC0415 - Faust is slow to import

    spec = feature_spec(settings)
    check_topics(settings)
    client = redis_client(settings)
    heartbeat = Heartbeat("learn", client, prefix=settings.redis_prefix)
    store = make_store(settings, spec, client)
    queue = RedisDueQueue(client, prefix=settings.redis_prefix, replicas=settings.redis_replicas)
    watch = LogWatch(settings, RedisLogs(client, settings.redis_prefix), ["labels", "scores"])
    with heartbeat, watch, ExitStack() as stack:
        decisions: DecisionLog = store
        if settings.decision_log == "disk":
            decisions = stack.enter_context(_filled_log(settings, store))
        ports = LearnPorts(decisions, store, queue, KafkaOutbox(settings), now, heartbeat, watch)
        return _watched(lambda: create_app(settings, ports, spec, reached=reached), watch, settings)


def decision_log_file(settings: Settings) -> Path:
    """Where a learner keeps its decision log with `decision_log = disk`."""
    return state_dir(settings) / f"{settings.group('learn')}-decisions.sqlite"


@contextmanager
def _filled_log(settings: Settings, labels: LabelStore) -> Iterator[DecisionLog]:
    """The decision log on this machine's disk, filled from `scores` as long as the block lasts."""
    log = DiskDecisionLog(decision_log_file(settings))
    outbox = KafkaOutbox(settings)
    topic = settings.topic("labels")
    filler = DiskFiller(settings, log, lambda names: requeue_pending(outbox, labels, topic, names))
    filler.start()
    try:
        yield log
    finally:
        filler.stop()
        log.close()


def run_monitor(settings: Settings) -> int:
    """Run the monitor worker until it is told to end; returns the exit code."""
    from stream.workers.monitor import create_app  # noqa: PLC0415 - Faust is slow to import

    check_topics(settings)
    client = redis_client(settings)
    heartbeat = Heartbeat("monitor", client, prefix=settings.redis_prefix)
    watch = LogWatch(settings, RedisLogs(client, settings.redis_prefix), ["scores", "labels", "dead-letters"])
    outbox = KafkaOutbox(settings)
    with heartbeat, watch:
        return _watched(lambda: create_app(settings, outbox, now, heartbeat, watch), watch, settings)


def set_up_logging(level: str) -> None:
    """Have riverwatch tell at a level; its libraries do at INFO what a person looks for an error in alone."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")
    if level == "INFO":
        for library in ("faust", "mode", "aiokafka"):
            logging.getLogger(library).setLevel(logging.WARNING)


def _watched(make: Callable[[], Any], watch: LogWatch, settings: Settings) -> int:
    """Run an app, and another one after it where a log that it read is not the one it was."""
    while True:
        app, again = make(), threading.Event()

        def ended(why: str, app: Any = app, again: threading.Event = again) -> None:
            logger.warning("reading ends and begins anew by itself, in this process: %s", why)
            again.set()
            app.request_stop()

        watch.tell(ended)
        code = _run(app, settings)
        if not again.is_set():
            return code


def _run(app: Any, settings: Settings) -> int:
    from stream.runtime.app import run_app  # noqa: PLC0415 - Faust is slow to import

    set_up_logging(settings.log_level)
    return run_app(app, loglevel=settings.log_level)
