"""The score worker: a Faust app with one agent on `transactions`; as many as partitions share the work."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from models.features.spec import FeatureSpec
from stream.adapters.kafka.client import faust_credentials
from stream.adapters.kafka.emitted import emitted_since
from stream.adapters.kafka.isolation import worker_isolation
from stream.adapters.kafka.models import ModelFollower, PublishedModel, installation_of
from stream.adapters.redis.heartbeat import Heartbeat
from stream.adapters.redis.model_floor import ModelFloor
from stream.admission import ID_CONFLICT
from stream.config.factories import limits_of, policy_of
from stream.config.settings import Settings
from stream.pipeline import DecisionTopics, Pipeline
from stream.policy import Policy
from stream.ports import Clock, FeatureStore, Outbox, StaleOwner, StoreBehind
from stream.records import Record
from stream.runtime.app import BatchTopic, Retry, TopicPartition, create_batch_app
from stream.serving import ServedModel, first_model, served
from stream.workers.log_watch import LogWatch, check_logs
from stream.workers.rebalance import tell_what_is_scored, where_to_start
from stream.workers.waiting import waiting_visibly

logger = logging.getLogger(__name__)

MOST_TOLD = 3  # events of a batch that one line names


class ScorePorts(NamedTuple):
    """The adapters that a score worker is given."""

    store: FeatureStore
    outbox: Outbox
    clock: Clock
    heartbeat: Heartbeat
    watch: LogWatch
    floor: ModelFloor


class ScoreWorker(NamedTuple):
    """A score worker that is still to be started.

    Attributes:
        app: for `run_app`.
        follower: of its model; to be started first.
        again: whether it ended to begin anew: the store lost its last moments, or its ownership, or the log
            is another one.
    """

    app: Any
    follower: ModelFollower
    again: Callable[[], bool]


class ModelInUse:
    """The model that scores now; replaced whole, and never by one that has learned less."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._next_offset = -1
        self.current: ServedModel = first_model(policy)

    def swap(self, published: PublishedModel) -> None:
        """Take a newer model into use."""
        if published.manifest.next_offset < self._next_offset:
            logger.warning(
                "model %s is older than the one in use, %s: a stale learner sent it; not taken",
                published.manifest.version,
                self.current.version,
            )
            return
        self._next_offset = published.manifest.next_offset
        before = self.current.version
        self.current = served(published.manifest.version, published.model, self._policy)
        if before.startswith("unsupervised") and self.current.version != before:
            logger.info("the first learned model is in use: %s", self.current.version)


def create_app(
    settings: Settings,
    ports: ScorePorts,
    spec: FeatureSpec,
    *,
    reached: Callable[[str], None] = lambda _point: None,
) -> ScoreWorker:
    """A score worker, still to be started.

    Args:
        settings: addresses and limits.
        ports: what it stands on.
        spec: the features.
        reached: called at the named points between the steps.
    """
    policy = policy_of(settings)
    in_use = ModelInUse(policy)
    follower = ModelFollower(
        settings,
        name=settings.model,
        swap=in_use.swap,
        floor=lambda: ports.floor.read(installation_of(settings), settings.model),
        tell=ports.heartbeat.trouble,
    )
    pipeline = Pipeline(
        store=ports.store,
        outbox=ports.outbox,
        model=lambda: in_use.current,
        clock=ports.clock,
        spec=spec,
        policy=policy,
        topics=DecisionTopics(*map(settings.topic, ("scores", "alerts", "dead-letters"))),
        limits=limits_of(settings),
        features_in_scores=settings.features_in_scores,
        reached=reached,
        on_conflicts=_say_conflicts,
    )
    topic = settings.topic("transactions")
    again = threading.Event()
    disowned: dict[str, float] = {}

    def begin_anew(why: str) -> None:
        # As if told to end: nothing of the batch is acknowledged, the group is left in good order.
        if not again.is_set():
            logger.warning("score ends and begins anew by itself, in this process: %s", why)
        again.set()
        app.request_stop()

    def handle(records: list[Record]) -> None:
        with waiting_visibly(ports.heartbeat):
            try:
                counts = pipeline.process(records)
            except StaleOwner as stale:
                # A stale owner is told by Kafka within a session; a rightful owner claims anew.
                since = disowned.setdefault("since", time.monotonic())
                if time.monotonic() - since > settings.session_timeout:
                    begin_anew(str(stale))
                raise Retry(str(stale)) from stale
            except StoreBehind as lost:
                begin_anew(str(lost))
                raise Retry(str(lost)) from lost
        done = time.time() * 1000.0
        ports.heartbeat.count(
            counts._asdict(),
            model_version=in_use.current.version,
            delays_ms=[done - record.timestamp_ms for record in records],
        )

    def assigned(held: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        partitions = sorted(place.partition for place in held)
        with waiting_visibly(ports.heartbeat):
            if not follower.wait(1.0):
                raise Retry("the newest model is still being read")
            pipeline.on_assigned(partitions)
            disowned.clear()
            epochs, done, back = where_to_start(settings, ports.watch, ports.store, partitions)
            pipeline.set_epochs(epochs)
            if back:
                pipeline.remember(emitted_since(settings, back, epochs))
            pipeline.set_start_offsets({number: back.get(number, done[number]) for number in partitions})
        ports.watch.is_read(lambda: check_logs(settings, ports.watch, "score", held))
        version = in_use.current.version
        ports.heartbeat.count({"events": 0}, model_version=version)
        tell_what_is_scored(settings, partitions, version)
        return {TopicPartition(topic, number): start for number, start in back.items()}

    def revoked(held: frozenset[TopicPartition]) -> None:
        pipeline.on_revoked(place.partition for place in held)

    app = create_batch_app(
        app_id=settings.group("score"),
        bootstrap=settings.kafka_bootstrap,
        topics=[BatchTopic(topic, handle, name="score", max_records=settings.batch_size)],
        instance_id=settings.instance_id or None,
        session_timeout=settings.session_timeout,
        heartbeat_interval=settings.heartbeat_interval,
        commit_interval=settings.commit_interval,
        on_assigned=assigned,
        on_revoked=revoked,
        on_committed=lambda: reached("committed"),
        isolation=worker_isolation(settings),
        credentials=faust_credentials(settings),
    )
    ports.watch.tell(begin_anew)
    return ScoreWorker(app, follower, again.is_set)


def _say_conflicts(conflicts: Sequence[str]) -> None:
    if not conflicts:
        return
    logger.warning(
        "%d events bring other content under a transaction_id that is decided and became dead letters "
        "(%s): %s",
        len(conflicts),
        ID_CONFLICT,
        "; ".join(conflicts[:MOST_TOLD]) + ("; ..." if len(conflicts) > MOST_TOLD else ""),
    )
