"""From settings to running workers: the only place where clients are made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.services import running_file
from models.feature_spec import FeatureSpec, load_spec
from stream.adapters.disk_filler import DiskFiller
from stream.adapters.disk_log import DiskDecisionLog
from stream.adapters.due_queues import RedisDueQueue
from stream.adapters.kafka_admin import check_topics
from stream.adapters.kafka_outbox import KafkaOutbox
from stream.adapters.redis_shards import connect
from stream.adapters.redis_store import RedisStore
from stream.learning import call_in_waiting
from stream.ports import DecisionLog, LabelStore
from stream.presence import Presence
from stream.settings import Settings

Reached = Callable[[str], None]


def now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def nothing(_point: str) -> None:
    """What happens at the named points between steps: nothing, outside of tests."""


def feature_spec(settings: Settings) -> FeatureSpec:
    """The feature specification in force."""
    return load_spec(Path(settings.features_file)) if settings.features_file else FeatureSpec()


def redis_client(settings: Settings) -> Any:
    """A client of the Redis in force."""
    url = settings.redis_url
    if settings.redis_cluster and "+cluster" not in url:
        url = url.replace("://", "+cluster://", 1)
    return connect(url)


def recorded_seconds(settings: Settings) -> int:
    """How long Redis remembers a decision."""
    on_disk = settings.decision_log == "disk"
    return max(int(settings.duplicate_window if on_disk else settings.decision_ttl), 1)


def make_store(settings: Settings, spec: FeatureSpec, client: Any) -> RedisStore:
    """The store of profiles, decisions and labels."""
    return RedisStore(
        client,
        spec.half_lives,
        settings.shards,
        decision_ttl_seconds=recorded_seconds(settings),
        label_ttl_seconds=max(int(settings.decision_ttl), 1),
        prefix=settings.redis_prefix,
        replicas=settings.redis_replicas,
    )


def run_score(settings: Settings, *, reached: Reached = nothing) -> int:
    """Run a score worker until it is told to end; returns the exit code."""
    from stream.workers.score import ScorePorts, create_app  # noqa: PLC0415 - Faust is slow to import

    spec = feature_spec(settings)
    check_topics(settings)
    client = redis_client(settings)
    presence = Presence("score", client, prefix=settings.redis_prefix)
    ports = ScorePorts(make_store(settings, spec, client), KafkaOutbox(settings), now, presence)
    with presence:
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
    presence = Presence("learn", client, prefix=settings.redis_prefix)
    store = make_store(settings, spec, client)
    queue = RedisDueQueue(client, prefix=settings.redis_prefix, replicas=settings.redis_replicas)
    with presence, ExitStack() as stack:
        decisions: DecisionLog = store
        if settings.decision_log == "disk":
            decisions = stack.enter_context(_filled_log(settings, store))
        ports = LearnPorts(decisions, store, queue, KafkaOutbox(settings), now, presence)
        return _run(create_app(settings, ports, spec, reached=reached), settings)


@contextmanager
def _filled_log(settings: Settings, labels: LabelStore) -> Iterator[DecisionLog]:
    """The decision log on this machine's disk, filled from `scores` as long as the block lasts."""
    log = DiskDecisionLog(running_file().parent / f"{settings.group('learn')}-decisions.sqlite")
    outbox = KafkaOutbox(settings)
    topic = settings.topic("labels")
    filler = DiskFiller(settings, log, lambda names: call_in_waiting(outbox, labels, topic, names))
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
    presence = Presence("monitor", redis_client(settings), prefix=settings.redis_prefix)
    with presence:
        return _run(create_app(settings, KafkaOutbox(settings), now, presence), settings)


def _run(app: Any, settings: Settings) -> int:
    from stream.faust_batches import run_app  # noqa: PLC0415 - Faust is slow to import

    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(message)s")
    if settings.log_level == "INFO":  # what they do in good order is for who looks for an error in it
        for library in ("faust", "mode", "aiokafka", "stream"):
            logging.getLogger(library).setLevel(logging.WARNING)
    return run_app(app, loglevel=settings.log_level)
