"""The learn worker: a Faust app with two agents, labels to models and decisions to labels assumed genuine.

Of many learn workers one holds the only partition of `labels` and learns; the others stand by, and share the
partitions of `scores`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from itertools import islice, takewhile
from typing import Any, NamedTuple

from models.features.spec import FeatureSpec
from models.scoring.snapshot import SnapshotHeader, SnapshotRefused, check_storable, dump
from stream.adapters.kafka.admin import committed
from stream.adapters.kafka.client import faust_credentials
from stream.adapters.kafka.isolation import worker_isolation
from stream.adapters.kafka.models import ModelTopic, installation_of, publish
from stream.adapters.kafka.reader import TopicReader
from stream.adapters.kafka.scan import TopicUnreadableError
from stream.adapters.redis.heartbeat import Heartbeat
from stream.adapters.redis.model_floor import ModelFloor
from stream.config.factories import classes_of, limits_of, new_model
from stream.config.settings import Settings
from stream.config.signing_key import signing_key, trusted_keys
from stream.history.catch_up import CaughtUp, catch_up
from stream.learning import JOURNAL_KEPT, Learner
from stream.maturity import DueQueue, Maturity
from stream.messages import ModelManifest
from stream.ports import Clock, DecisionLog, LabelsBehind, LabelStore, Outbox
from stream.records import Record
from stream.runtime.app import BatchTopic, Retry, TopicPartition, create_batch_app
from stream.workers.log_watch import LogWatch, check_logs
from stream.workers.model_guard import ModelGuard
from stream.workers.waiting import waiting_visibly

logger = logging.getLogger(__name__)

_OLDER = "MODEL REFUSED, an older one is taken: %s"
_NONE = "MODEL REFUSED, and there is none that is good: %s"

BATCH = 2000  # labels a batch at most: one snapshot a batch


class LearnPorts(NamedTuple):
    """The adapters that a learn worker is given."""

    decisions: DecisionLog
    labels: LabelStore
    queue: DueQueue
    outbox: Outbox
    clock: Clock
    heartbeat: Heartbeat
    floor: ModelFloor
    guard: ModelGuard | None = None


class LearnWorker:
    """Learns while it holds the partition of `labels`."""

    def __init__(
        self, settings: Settings, ports: LearnPorts, spec: FeatureSpec, reached: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._ports = ports
        self._spec = spec
        self._reached = reached
        self._key = signing_key(settings)
        self._classes = classes_of(settings)
        # What cannot be built or published is said at the start, not when labels wait for it.
        check_storable(new_model(settings, spec), classes=self._classes)
        self._installation = settings.installation
        self._learner: Learner | None = None
        self._refused: list[str] = []

    def take_over(self, acknowledged: int = 0) -> int:
        """Go on from the newest snapshot; returns the first label it has not learned.

        Where labels are acknowledged and the model has none (it is new here), or one so far behind that Redis
        does not remember how the labels since then stood, it learns from the logs.

        Args:
            acknowledged: labels below it were learned, by this model or by another.

        Raises:
            DependencyDown: Kafka does not answer.
            Retry: there are snapshots, and none can be trusted.
        """
        settings, ports = self._settings, self._ports
        self._installation = installation_of(settings)
        topic = ModelTopic(settings, name=settings.model)
        try:
            newest, refused = topic.latest()
        finally:
            topic.close()
        self._say_refused(refused, _OLDER if newest else _NONE)
        if acknowledged and newest is None and refused and not self._signed_the_last():
            raise Retry(
                f"labels are acknowledged to {acknowledged}, and no model on {settings.topic('models')} can "
                "be trusted: is the key that signed it in RIVERWATCH_MODEL_PUBLIC_KEYS? Until "
                "then nothing is learned"
            )
        caught_up = None
        if (newest.manifest.next_offset + JOURNAL_KEPT if newest else 0) < acknowledged:
            caught_up, newest = self._catch_up(acknowledged), None
        manifest = newest.manifest if newest else None
        delta = manifest.event_time.timestamp() if manifest and manifest.event_time else None
        self._learner = Learner(
            model=newest.model
            if newest
            else caught_up.model
            if caught_up
            else new_model(settings, self._spec),
            next_offset=manifest.next_offset if manifest else acknowledged,
            learned=manifest.learned if manifest else caught_up.learned if caught_up else 0,
            knowledge_time=delta,
            decisions=ports.decisions,
            labels=ports.labels,
            outbox=ports.outbox,
            clock=ports.clock,
            spec=self._spec,
            negative_sampling_rate=settings.negative_sampling_rate,
            labels_topic=settings.topic("labels"),
            dead_letters=settings.topic("dead-letters"),
            limits=limits_of(settings),
            reached=self._reached,
        )
        if caught_up is not None:
            logger.info("%s has learned from the logs", self._publish(self._learner))
        if ports.guard is not None:
            if newest is not None:
                ports.guard.keep(newest.value, newest.manifest.next_offset)
            ports.guard.start()
        logger.info("learning from label %d on", self._learner.next_offset)
        return self._learner.next_offset

    def _signed_the_last(self) -> bool:
        """Whether a key trusted here signed the last model: then what is refused now is somebody else's.

        What the topic no longer holds is learned again from the logs.
        """
        signer = self._ports.floor.signer(self._installation, self._settings.model)
        return signer in trusted_keys(self._settings).ids

    def _catch_up(self, acknowledged: int) -> CaughtUp:
        """The model after the labels that another has learned, or this one whose snapshots are gone."""
        settings = self._settings
        logger.warning(
            "labels are acknowledged to %d, and %s holds no model %s that is near: it learns them from the "
            "logs",
            acknowledged,
            settings.topic("models"),
            settings.model,
        )
        try:
            caught_up = catch_up(settings, acknowledged)
        except TopicUnreadableError as error:
            raise Retry(str(error)) from error
        for remark in caught_up.remarks:
            logger.warning("%s: %s", settings.model, remark)
        return caught_up

    def _say_refused(self, refused: list[str], sentence: str) -> None:
        """Each reason once, until there are others: a learner that waits asks every two seconds."""
        if refused != self._refused:
            for reason in dict.fromkeys(refused):
                logger.error(sentence, reason)
        self._refused = list(refused)

    def leave(self) -> None:
        """The partition is another worker's."""
        self._learner = None
        if self._ports.guard is not None:
            self._ports.guard.stop()

    def handle(self, records: list[Record]) -> None:
        """Learn a batch and publish the model: only then may the labels be acknowledged."""
        learner = self._learner
        if learner is None:
            raise Retry("the labels are not this worker's")
        with waiting_visibly(self._ports.heartbeat):
            try:
                counts = learner.process(records)
            except LabelsBehind as lost:
                raise Retry(self._give_again(learner, lost)) from lost
            version = self._publish(learner)
        self._ports.heartbeat.count(counts._asdict(), model_version=version)

    def _give_again(self, learner: Learner, lost: LabelsBehind) -> str:
        """Redis lost its last moments: it gets the labels again that the model has learned already."""
        topic = self._settings.topic("labels")
        if lost.start == 0:
            return (
                f"Redis holds nothing of {topic}, learned to {learner.next_offset}: is RIVERWATCH_REDIS_URL "
                "the right one? If its data is lost, run `riverwatch rebuild`"
            )
        logger.warning("%s, and the model to %d; it gets them again", lost, learner.next_offset)
        with TopicReader(self._settings, topic) as reader:
            missing = reader.until_end(from_offsets={0: lost.start})
            while batch := list(islice(takewhile(lambda r: r.offset < learner.next_offset, missing), BATCH)):
                learner.give_again(batch)
        return f"Redis was given the labels from {lost.start} on again"

    def _publish(self, learner: Learner) -> str:
        settings = self._settings
        version = f"{settings.model}@{learner.next_offset}"
        header = SnapshotHeader(
            name=settings.model,
            version=version,
            next_offset=learner.next_offset,
            learned=learner.learned,
            event_time=learner.event_time,
            installation=self._installation,
        )
        try:
            blob = dump(learner.model, key=self._key, header=header, classes=self._classes)
        except SnapshotRefused as refusal:  # a model of one's own may come to hold what it did not at first
            raise Retry(f"the snapshot was not written: {refusal.reason}") from refusal
        self._reached("snapshot-written")
        manifest = ModelManifest(
            name=settings.model,
            version=version,
            next_offset=learner.next_offset,
            learned=learner.learned,
            created_at=self._ports.clock(),
            event_time=learner.event_time,
            sha256=hashlib.sha256(blob).hexdigest(),
            size=len(blob),
        )

        def send() -> bytes:
            folder = settings.model_blob_dir
            return publish(self._ports.outbox, settings.topic("models"), manifest, blob, folder)

        try:
            if self._ports.guard is None:
                send()
            else:
                self._ports.guard.publish(send, learner.next_offset)
        except OSError as error:
            raise Retry(f"the snapshot was not written: {error}") from error
        self._ports.floor.rise(self._installation, settings.model, learner.next_offset, self._key.id.hex())
        learner.published()
        self._reached("snapshot-published")
        return version


def create_app(
    settings: Settings,
    ports: LearnPorts,
    spec: FeatureSpec,
    watch: LogWatch,
    *,
    reached: Callable[[str], None] = lambda _point: None,
) -> Any:
    """A learn worker, still to be started.

    Args:
        settings: addresses and limits.
        ports: what it stands on.
        spec: the features.
        watch: over the logs that it reads.
        reached: called at the named points between the steps.
    """
    worker = LearnWorker(settings, ports, spec, reached)
    maturity = Maturity(
        queue=ports.queue,
        labels=ports.labels,
        outbox=ports.outbox,
        clock=ports.clock,
        horizon=settings.maturity,
        label_wait=settings.label_wait,
        negative_sampling_rate=settings.negative_sampling_rate,
        labels_topic=settings.topic("labels"),
        dead_letters=settings.topic("dead-letters"),
        requeues=settings.decision_log == "redis",
        reached=reached,
    )
    labels = TopicPartition(settings.topic("labels"), 0)

    def follow(records: list[Record]) -> None:
        with waiting_visibly(ports.heartbeat):
            counts = maturity.process(records)
        ports.heartbeat.count({"events": 0, **counts._asdict()})

    def assigned(held: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        with waiting_visibly(ports.heartbeat):
            check_logs(settings, watch, "learn", held)
            watch.is_read(lambda: check_logs(settings, watch, "learn", held))
        ports.heartbeat.count({"events": 0})
        if labels not in held:
            worker.leave()
            logger.info("standing by: %s is another worker's", labels.topic)
            return {}
        with waiting_visibly(ports.heartbeat):
            done = committed(settings, settings.group("learn"), labels.topic, [0])[0]
            start = worker.take_over(done)
            watch.check_tail("labels", {0: max(start, done)})
        # An older snapshot than what was acknowledged (the newest was refused): learn again from there.
        return {labels: start} if start < done else {}

    def revoked(held: frozenset[TopicPartition]) -> None:
        if labels in held:
            worker.leave()

    return create_batch_app(
        app_id=settings.group("learn"),
        bootstrap=settings.kafka_bootstrap,
        topics=[
            BatchTopic(
                settings.topic("labels"),
                worker.handle,
                name="learn",
                max_records=BATCH,
                min_interval=settings.snapshot_interval,
            ),
            BatchTopic(settings.topic("scores"), follow, name="maturity", max_records=settings.batch_size),
        ],
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
