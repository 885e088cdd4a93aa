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
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.errors import lasting_cause
from stream.adapters.kafka.models import ModelTopic
from stream.adapters.kafka.outbox import KafkaOutbox
from stream.adapters.kafka.rights import check_rights
from stream.adapters.redis.due_queues import RedisDueQueue
from stream.adapters.redis.heartbeat import Heartbeat
from stream.adapters.redis.logs import RedisLogs
from stream.adapters.redis.model_floor import RedisModelFloor
from stream.adapters.redis.shards import place_of_url
from stream.adapters.redis.watch import RedisWatch
from stream.config.factories import feature_spec
from stream.config.settings import Settings
from stream.config.signing_key import state_dir
from stream.learning import requeue_pending
from stream.ports import DecisionLog, LabelStore
from stream.workers.log_watch import LogWatch
from stream.workers.model_guard import ModelGuard

logger = logging.getLogger(__name__)

Reached = Callable[[str], None]


def nothing(_point: str) -> None:
    """What happens at the named points between steps: nothing, outside of tests."""


def run_score(settings: Settings, *, reached: Reached = nothing) -> int:
    """Run a score worker until it is told to end; returns the exit code."""
    from stream.workers.score import ScorePorts, create_app  # noqa: PLC0415 - Faust is slow to import

    spec = feature_spec(settings)
    _check_kafka(settings, "score")
    client = redis_client(settings)
    watch = _checked_redis(settings, client)
    heartbeat = Heartbeat("score", client, prefix=settings.redis_prefix)
    logs = LogWatch(settings, RedisLogs(client, settings.redis_prefix), ["transactions"])
    floor = _floor(settings, client)
    ports = ScorePorts(make_store(settings, spec, client), KafkaOutbox(settings), now, heartbeat, logs, floor)
    with heartbeat, logs:
        while True:
            worker = create_app(settings, ports, spec, reached=reached)
            worker.follower.start()
            code = _run(worker.app, settings, watch)
            worker.follower.stop()
            if not worker.again():
                return code
            # Assigned anew, it claims its partitions and goes back to where Redis stands.


def run_learn(settings: Settings, *, reached: Reached = nothing) -> int:
    """Run a learn worker until it is told to end; returns the exit code."""
    from stream.workers.learn import LearnPorts, create_app  # noqa: PLC0415 - Faust is slow to import

    spec = feature_spec(settings)
    _check_kafka(settings, "learn")
    client = redis_client(settings)
    watch = _checked_redis(settings, client)
    heartbeat = Heartbeat("learn", client, prefix=settings.redis_prefix)
    store = make_store(settings, spec, client)
    queue = RedisDueQueue(client, prefix=settings.redis_prefix, replicas=settings.redis_replicas)
    logs = LogWatch(settings, RedisLogs(client, settings.redis_prefix), ["labels", "scores"])
    with heartbeat, logs, ExitStack() as stack:
        decisions: DecisionLog = store
        if settings.decision_log == "disk":
            decisions = stack.enter_context(_filled_log(settings, store))
        topic, name = settings.topic("models"), settings.model
        outbox, floor = KafkaOutbox(settings), _floor(settings, client)
        guard = ModelGuard(lambda: ModelTopic(settings, name=name), KafkaOutbox(settings), topic, name)
        stack.callback(guard.stop)
        ports = LearnPorts(decisions, store, queue, outbox, now, heartbeat, floor, guard)
        return _watched(
            lambda: create_app(settings, ports, spec, logs, reached=reached), logs, settings, watch
        )


def _check_kafka(settings: Settings, role: str) -> None:
    check_topics(settings)
    check_rights(settings, role)


def _checked_redis(settings: Settings, client: Any) -> RedisWatch:
    set_up_logging(settings.log_level)
    watch = RedisWatch(settings, client)
    watch.check()
    return watch


def _floor(settings: Settings, client: Any) -> RedisModelFloor:
    return RedisModelFloor(client, prefix=settings.redis_prefix, place=place_of_url(settings.redis_url))


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

    _check_kafka(settings, "monitor")
    client = redis_client(settings)
    watch = _checked_redis(settings, client)
    heartbeat = Heartbeat("monitor", client, prefix=settings.redis_prefix)
    logs = LogWatch(settings, RedisLogs(client, settings.redis_prefix), ["scores", "labels", "dead-letters"])
    outbox = KafkaOutbox(settings)
    with heartbeat, logs:
        return _watched(lambda: create_app(settings, outbox, now, heartbeat, logs), logs, settings, watch)


def set_up_logging(level: str) -> None:
    """Have riverwatch tell at a level; its libraries do at INFO what a person looks for an error in alone."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")
    if level == "INFO":
        for library in ("faust", "mode", "aiokafka"):
            logging.getLogger(library).setLevel(logging.WARNING)


def _watched(make: Callable[[], Any], logs: LogWatch, settings: Settings, watch: RedisWatch) -> int:
    """Run an app, and another one after it where a log that it read is not the one it was."""
    while True:
        app, again = make(), threading.Event()

        def ended(why: str, app: Any = app, again: threading.Event = again) -> None:
            logger.warning("reading ends and begins anew by itself, in this process: %s", why)
            again.set()
            app.request_stop()

        logs.tell(ended)
        code = _run(app, settings, watch)
        if not again.is_set():
            return code


def _run(app: Any, settings: Settings, watch: RedisWatch) -> int:
    from stream.runtime.app import run_app  # noqa: PLC0415 - Faust is slow to import

    set_up_logging(settings.log_level)  # again: Faust, imported since, has its own idea of levels
    app.lasting_cause = lambda: lasting_cause(confluent(settings))
    with watch.watching(app.refuse):
        return run_app(app, loglevel=settings.log_level)
