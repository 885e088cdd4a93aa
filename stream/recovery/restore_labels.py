"""Puts back what labels have made: knowledge, label profiles, the journal of labels, and those that wait."""

from __future__ import annotations

from typing import NamedTuple

from stream.adapters.redis.codec import Codec
from stream.adapters.redis.restore import RedisRestore
from stream.admission import Limits, Rejected, admit_label
from stream.history.labels import ReplayedLabels, Stood
from stream.history.topics import TopicHistory
from stream.learning import JOURNAL_KEPT, NOTHING_KNOWN, SILENCE
from stream.messages import Label

BATCH = 1000


class RestoredLabels(NamedTuple):
    """How many of each were put back."""

    profiles: int
    known: int
    waiting: int


class LabelRestore:
    """Restores what stood after the labels below an offset; the learner goes on from there.

    Args:
        restore: into an empty store.
        labels: complete, not played yet.
        codec: as the store keeps profiles.
        learned_to: the first label that is not restored.
        now: seconds since 1970.
        ttl: seconds that knowledge is kept, > 0.
    """

    def __init__(
        self,
        restore: RedisRestore,
        labels: ReplayedLabels,
        codec: Codec,
        *,
        learned_to: int,
        now: float,
        ttl: float,
    ) -> None:
        self._restore = restore
        self._labels = labels
        self._codec = codec
        self._learned_to = learned_to
        self._now = now
        self._ttl = ttl

    def run(self, topics: TopicHistory, limits: Limits) -> RestoredLabels:
        """Restore everything.

        Raises:
            DependencyDown: Kafka or Redis does not answer.
        """
        known = self._play()
        profiles = self._profiles()
        if applied := self._learned_to:
            names = ("standings", "profiles", "passed")
            for shard in range(self._restore.shards):
                self._restore.fields(shard, "labels", dict.fromkeys(names, applied - 1))
        return RestoredLabels(profiles, known, self._room(topics, limits))

    def _play(self) -> int:
        journal: list[tuple[str, int, str]] = []
        first = max(self._learned_to - JOURNAL_KEPT, 0)

        def stood(label: Stood) -> None:
            if first <= label.offset < self._learned_to:
                journal.append((label.name, label.offset, label.standing[0].upper()))

        known = self._labels.play(stood, at=self._learned_to)
        self._restore.standings(journal)
        left = ((name, each.stored, int(each.came + self._ttl - self._now)) for name, each in known.items())
        self._restore.expiring("k", ((name, raw, seconds) for name, raw, seconds in left if seconds > 0))
        return len(known)

    def _profiles(self) -> int:
        count = 0
        profiles: list[tuple[str, bytes]] = []
        for name in self._labels.entities():
            updates = self._labels.updates(name, until=self._learned_to - 1)
            profile = self._labels.profile(name, updates) if updates else None
            if profile is not None:
                profiles.append((name, self._codec.packed_labels(profile)))
                count += 1
            if len(profiles) == BATCH:
                self._restore.profiles("l", profiles)
                profiles.clear()
        self._restore.profiles("l", profiles)
        return count

    def _room(self, topics: TopicHistory, limits: Limits) -> int:
        """Labels whose transaction has no decision wait: of each the latest knowledge."""
        room: dict[str, tuple[float, int, int, bytes]] = {}
        for record in topics.records("labels"):
            if record.offset >= self._learned_to:
                continue
            label = admit_label(record, limits)
            if isinstance(label, Rejected) or not self._labels.waits(label.transaction_id, record.offset):
                continue
            known_at, name = _known_at(label), label.transaction_id
            before = room.get(name)
            if before is None or known_at >= before[0]:
                room[name] = (known_at, record.offset, record.offset, record.value or b"")
            else:
                room[name] = (*before[:2], record.offset, before[3])
        self._restore.room(
            (name, known_at, (b"%d" % at if at == last else b"%d:%d" % (at, last)) + b" " + value)
            for name, (known_at, at, last, value) in room.items()
        )
        return len(room)


def _known_at(label: Label) -> float:
    return NOTHING_KNOWN if label.source == SILENCE else label.known_at.timestamp()
