"""Puts back what labels have made: knowledge, label profiles, the journal of labels, and those that wait."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from stream.adapters.redis.codec import Codec
from stream.adapters.redis.labels import LETTERS
from stream.adapters.redis.restore import RedisRestore
from stream.admission import Rejected, admit_label
from stream.config.factories import limits_of
from stream.history.labels import ReplayedLabels, ResolvedLabel
from stream.history.topics import TopicHistory
from stream.learning import ASSUMED_GENUINE, JOURNAL_KEPT, NOTHING_KNOWN
from stream.messages import Label

BATCH = 1000


class RestoredLabels(NamedTuple):
    """How many of each were put back."""

    profiles: int
    known: int
    waiting: int


def restore_labels(
    restore: RedisRestore, topics: TopicHistory, labels: ReplayedLabels, learned_to: int, now: float
) -> RestoredLabels:
    """Restore what stood after the labels below an offset; the learner goes on from there.

    Args:
        restore: into an empty store.
        topics: of the installation.
        labels: complete, not played yet.
        learned_to: the first label that is not restored.
        now: seconds since 1970.

    Raises:
        DependencyDown: Kafka or Redis does not answer.
    """
    journal: list[tuple[str, int, str]] = []
    first, ttl = max(learned_to - JOURNAL_KEPT, 0), float(topics.settings.decision_ttl)

    def resolved(label: ResolvedLabel) -> None:
        if first <= label.offset < learned_to:
            journal.append((label.name, label.offset, LETTERS[label.status]))

    known = labels.play(resolved, at=learned_to)
    restore.statuses(journal)
    left = ((name, each.stored, int(each.came + ttl - now)) for name, each in known.items())
    restore.expiring("k", ((name, raw, seconds) for name, raw, seconds in left if seconds > 0))
    count = 0
    profiles = _profiles(labels, learned_to, Codec(len(topics.spec.half_lives)))
    while batch := list(islice(profiles, BATCH)):
        restore.profiles("l", batch)
        count += len(batch)
    if learned_to:
        names = ("standings", "profiles", "passed")
        for shard in range(restore.shards):
            restore.fields(shard, "labels", dict.fromkeys(names, learned_to - 1))
    pending = _pending(topics, labels, learned_to)
    restore.pending(
        (name, known_at, (b"%d" % at if at == last else b"%d:%d" % (at, last)) + b" " + value)
        for name, (known_at, at, last, value) in pending.items()
    )
    return RestoredLabels(count, len(known), len(pending))


def _profiles(labels: ReplayedLabels, learned_to: int, codec: Codec) -> Iterator[tuple[str, bytes]]:
    for name in labels.entities():
        updates = labels.updates(name, until=learned_to - 1)
        profile = labels.profile(name, updates) if updates else None
        if profile is not None:
            yield name, codec.packed_labels(profile)


def _pending(
    topics: TopicHistory, labels: ReplayedLabels, learned_to: int
) -> dict[str, tuple[float, int, int, bytes]]:
    """Labels whose transaction has no decision wait: of each the latest knowledge."""
    pending: dict[str, tuple[float, int, int, bytes]] = {}
    limits = limits_of(topics.settings)
    for record in topics.records("labels"):
        if record.offset >= learned_to:
            continue
        label = admit_label(record, limits)
        if isinstance(label, Rejected) or not labels.is_pending(label.transaction_id, record.offset):
            continue
        known_at, name = _known_at(label), label.transaction_id
        before = pending.get(name)
        if before is None or known_at >= before[0]:
            pending[name] = (known_at, record.offset, record.offset, record.value or b"")
        else:
            pending[name] = (*before[:2], record.offset, before[3])
    return pending


def _known_at(label: Label) -> float:
    return NOTHING_KNOWN if label.source == ASSUMED_GENUINE else label.known_at.timestamp()
