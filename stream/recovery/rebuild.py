"""What is lost in Redis, from Kafka again, to the same bits: `riverwatch rebuild`.

While it runs the store refuses every change and workers wait. The logs give everything: decisions from
`scores`, profiles from `transactions` in the order the decisions record, label profiles and knowledge from
`labels` up to what the newest model has learned; the workers then go on from there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from confluent_kafka.admin import AdminClient

from models.scoring.snapshot import SnapshotRefused
from stream.adapters.clients import redis_client
from stream.adapters.kafka.admin import check_topics, committed, topic_ids
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.models import ModelTopic, trust_of, trusted
from stream.adapters.kafka.reader import TopicReader
from stream.adapters.kafka.scan import Progress
from stream.adapters.redis.due_queues import RedisDueQueue
from stream.adapters.redis.logs import LogIdentity, RedisLogs
from stream.adapters.redis.restore import RedisRestore
from stream.adapters.redis.store import layout_of
from stream.config.settings import Settings
from stream.decisions import content_digest
from stream.history.epochs import epochs_on_topic
from stream.history.join import Place
from stream.history.topics import TopicHistory
from stream.learning import JOURNAL_KEPT, is_sampled
from stream.messages import transaction_decoder
from stream.recovery.restore_events import BATCH, EventRestore
from stream.recovery.restore_labels import restore_labels
from stream.views import UNREADABLE, read_timed_decision

_TRIES = 5


class LogIncomplete(Exception):  # noqa: N818 - a state of the logs that a person must decide about
    """The logs do not hold everything any more, so not everything can be rebuilt."""


class RebuildSummary(NamedTuple):
    """What was put back.

    Attributes:
        remarks: what could not be as it was, and why.
    """

    decisions: int
    profiles: int
    label_profiles: int
    known: int
    pending: int
    due: int
    remarks: tuple[str, ...]


def rebuild(
    settings: Settings, *, progress: Progress | None = None, allow_gaps: bool = False
) -> RebuildSummary:
    """Take away what Redis holds under the prefix and put back what the logs say.

    Broken off, it leaves the store closed; run again, it begins anew.

    Args:
        settings: those that the workers run with.
        progress: called now and then with what is worked on, how much of it is done and how much there is.
        allow_gaps: go on although the beginning of a log is gone; profiles then lack what was in it.

    Raises:
        LogIncomplete: the beginning of a log is gone; nothing was changed.
        DependencyDown, TopicMismatch: Kafka or Redis does not answer, or has other topics than the settings
            say.
    """
    check_topics(settings)
    topics = TopicHistory(settings, progress)
    gone = [
        f"{settings.topic(name)}[{number}] begins at {low}"
        for name in ("transactions", "scores", "labels")
        for number, low in topics.starts(name).items()
        if low > 0
    ]
    if topics.epochs.newest:
        gone.append(
            f"{settings.topic('transactions')} is in epoch {topics.epochs.newest}, those before it are gone"
        )
    if gone and not allow_gaps:
        raise LogIncomplete(
            f"the beginning of a log is gone ({', '.join(gone)}): profiles would lack it; restore "
            "a backup of Redis, or accept that with --allow-gaps"
        )
    client = redis_client(settings)
    restore = RedisRestore(client, settings.shards, settings.redis_prefix, layout_of(topics.spec.half_lives))
    queue = RedisDueQueue(client, prefix=settings.redis_prefix)
    for _ in range(_TRIES):
        restore.begin()
        before = topics.bounds("scores")
        done = _Once(topics, restore, queue).run()
        # A worker that had recorded before it was stopped may have emitted since: then once more.
        if topics.bounds("scores") == before:
            break
    _note_logs(settings, client)
    restore.end()
    remarks = (*done.remarks, *(f"the log is cut off: {where}" for where in gone))
    return done._replace(remarks=remarks)


def _note_logs(settings: Settings, client: Any) -> None:
    """What was put back is of the logs as they are now: their identities and epochs."""
    topics = {settings.topic(name): name for name in ("transactions", "labels", "scores", "dead-letters")}
    logs = RedisLogs(client, settings.redis_prefix)
    for topic, topic_id in topic_ids(AdminClient(confluent(settings)), topics).items():
        epochs = epochs_on_topic(settings, topics[topic])
        logs.replace(
            topics[topic],
            LogIdentity(topic_id, tuple((each.number, dict(each.starts)) for each in epochs.all)),
        )


class _Once:
    """One pass over the logs into an empty store."""

    def __init__(self, topics: TopicHistory, restore: RedisRestore, queue: RedisDueQueue) -> None:
        self._settings = topics.settings
        self._topics = topics
        self._restore = restore
        self._queue = queue
        self._labels = topics.new_labels()
        self._dead: set[Place] = set()

    def run(self) -> RebuildSummary:
        settings, topics, labels = self._settings, self._topics, self._labels
        starts = topics.starts("transactions")
        done = committed(settings, settings.group("score"), settings.topic("transactions"), starts)
        followed = committed(settings, settings.group("learn"), settings.topic("scores"), starts)
        learned_to = self._learned_to()
        tail = self._tail(done)
        for record, letter in topics.dead_letters():
            if letter.topic == "transactions":
                self._dead.add(letter.place)
            else:
                labels.add_dead_letter(record.key, letter)
        for record in topics.records("labels"):
            labels.add(record)
        self._read_published()
        decided, due = self._follow_scores(followed, tail)
        limits = {
            partition: self._applied_to(partition, done[partition], tail, decided) for partition in done
        }
        now = time.time()
        of_labels = restore_labels(self._restore, topics, labels, learned_to, now)
        events = EventRestore(self._restore, topics, labels, now=now, limits=limits, dead=self._dead)
        profiles = events.run()
        remarks = tuple(f"{count:,} x {text}" for text, count in events.remarks.items())
        return RebuildSummary(events.recorded, profiles, *of_labels, due, remarks)

    def _learned_to(self) -> int:
        """The first label that the newest trusted model has not learned: the learner goes on from there.

        A model that is new here, or far behind, learns all that is acknowledged first
        (`stream.history.catch_up`).
        """
        settings = self._settings
        topic = ModelTopic(settings, name=settings.model)
        try:
            newest, refused = topic.latest()
        finally:
            topic.close()
        if newest is None and refused:
            return 0
        done = committed(settings, settings.group("learn"), settings.topic("labels"), [0])[0]
        learned_to = newest.manifest.next_offset if newest else 0
        is_near = newest is not None and learned_to + JOURNAL_KEPT >= done
        return learned_to if is_near else done

    def _read_published(self) -> None:
        """When labels had their status at the latest: what waited for a decision then, is told by that."""
        trust = trust_of(self._settings)
        for record in self._topics.records("models"):
            with suppress(SnapshotRefused):
                manifest, _ = trusted(record.value or b"", trust)
                self._labels.add_published(manifest.next_offset, record.timestamp_ms / 1000.0)

    def _tail(self, done: Mapping[int, int]) -> dict[Place, tuple[str, str] | None]:
        """The events that are not acknowledged: whose they are, and the digests of their contents."""
        with TopicReader(self._settings, self._settings.topic("transactions")) as reader:
            return {
                (record.partition, record.offset): _identity(record.value)
                for record in reader.until_end(from_offsets=done)
            }

    def _follow_scores(
        self, followed: Mapping[int, int], tail: Mapping[Place, tuple[str, str] | None]
    ) -> tuple[dict[str, str], int]:
        """Take in decisions of labelled transactions and what falls due.

        Returns:
            Which transactions of the tail are decided, of which content, and how many fall due.
        """
        settings, labels = self._settings, self._labels
        wanted = {each[0] for each in tail.values() if each}
        decided: dict[str, str] = {}
        pending: dict[int, list[tuple[float, str]]] = {}
        due = 0
        for record in self._topics.records("scores"):
            decision = read_timed_decision(record.value)
            if decision is None:
                continue
            name = decision.transaction_id
            if name in wanted:
                decided[name] = decision.content_digest
            if labels.wants(name):
                labels.add_decision(name, record.value or b"")
            if (
                record.offset < followed.get(record.partition, 0)
                and is_sampled(name, settings.negative_sampling_rate)
                and name not in labels.silent
            ):
                queued = pending.setdefault(record.partition, [])
                queued.append((decision.event_time.timestamp() + settings.maturity, name))
                if len(queued) == BATCH:
                    self._queue.add(record.partition, pending.pop(record.partition))
                due += 1
        for partition, queued in pending.items():
            self._queue.add(partition, queued)
        return decided, due

    def _applied_to(
        self,
        partition: int,
        acknowledged: int,
        tail: Mapping[Place, tuple[str, str] | None],
        decided: Mapping[str, str],
    ) -> int:
        """The first event of a partition that nobody has seen the outcome of: it is delivered again."""
        limit = acknowledged
        for place in sorted(place for place in tail if place[0] == partition):
            name, content = tail[place] or ("", "")
            # One that brings other content than was decided has no outcome before its dead letter.
            has_decision = name in decided and decided[name] in ("", content)
            if not has_decision and place not in self._dead:
                break
            limit = place[1] + 1
        return limit


def _identity(value: bytes | None) -> tuple[str, str] | None:
    """Whose event this is, and the digest of its content; None where it is no transaction."""
    try:
        payment = transaction_decoder.decode(value or b"")
    except UNREADABLE:
        return None
    return payment.transaction_id, content_digest(payment)
