"""Puts decisions and profiles back: every decided event once, in the order that decisions record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

import msgspec

from models.features.compute import features_of
from stream.adapters.clients import recorded_seconds
from stream.adapters.redis.codec import Codec
from stream.adapters.redis.restore import RedisRestore
from stream.adapters.redis.shards import COUNT_FIELDS
from stream.decisions import recent_activity, recorded_bytes, recorded_of_alert
from stream.history.events import DecidedEvent, ReplayedEvents, Turn
from stream.history.join import EventJoin, FirstDecisions, Place
from stream.history.labels import ReplayedLabels
from stream.history.topics import TopicHistory
from stream.messages import decision_decoder, encode, transaction_decoder
from stream.ports import EntityRef
from stream.records import Record
from stream.views import NO_FEATURES, ServedDecision, read_served_decision, transaction_id_of

BATCH = 1000


class EventRestore:
    """Restores decisions, profiles, counters and how far each partition is applied.

    Args:
        restore: into an empty store.
        topics: of the installation.
        labels: played already.
        now: seconds since 1970.
        limits: of each partition, the first event that is delivered again: it is not applied here.
        dead: places of the events that became dead letters.

    Attributes:
        recorded: decisions that were put back.
        remarks: what could not be as it was, and how often.
    """

    def __init__(
        self,
        restore: RedisRestore,
        topics: TopicHistory,
        labels: ReplayedLabels,
        *,
        now: float,
        limits: Mapping[int, int],
        dead: Collection[Place],
    ) -> None:
        self._restore = restore
        self._topics = topics
        self._spec = spec = topics.spec
        self._forgotten = now - recorded_seconds(topics.settings)
        self._limits = limits
        self._dead = dead
        self._replay = ReplayedEvents(
            spec, Codec(len(spec.half_lives)), labels.profile, on_update=lambda *_: None, read=self._on_read
        )
        self._join = EventJoin(self._meet)
        self._first = FirstDecisions()
        self._unsaved: list[tuple[str, bytes, int]] = []
        self._late_alerts: dict[str, tuple[bytes, ServedDecision]] = {}
        self._counts: Counter[int] = Counter()
        self._former: set[str] = set()
        self.recorded = 0
        self.remarks: Counter[str] = Counter()

    def run(self) -> int:
        """Restore everything; returns how many profiles there are.

        Raises:
            DependencyDown: Kafka or Redis does not answer.
        """
        events, decisions = self._topics.batches("transactions"), self._topics.batches("scores")
        self._join.read(events, decisions, event=self._event, decided=self._decided)
        self._replay.finish(self._on_disorder)
        for decision, value in self._join.decisions.values():
            self._record_unread(decision, value)
        self._save_late_alerts()
        self._flush()
        profiles = self._replay.profiles()
        self._restore.profiles("e", profiles.items())
        self._restore_partitions(self._count_undecided())
        return len(profiles)

    def _event(self, record: Record) -> None:
        if (record.partition, record.offset) not in self._dead:
            self._join.add_event(record)

    def _decided(self, batch: list[Record]) -> None:
        for record in batch:
            decision = read_served_decision(record.value)
            if decision is None:
                continue
            if not self._topics.epochs.holds(decision.epoch, decision.origin):
                self._former.add(decision.transaction_id)  # its event was in a log that is gone
                self._record_unread(decision, record.value or b"")
            elif self._first.add(decision.origin):
                self._join.add_decision(decision, record.value or b"")

    def _meet(self, record: Record, decision: ServedDecision, value: bytes) -> None:
        if record.offset >= self._limits[record.partition]:
            self._record_unread(decision, value)
            return
        payment = transaction_decoder.decode(record.value or b"")
        case = DecidedEvent(record, payment, decision, value, self._spec)
        if case.agrees:
            self._replay.apply(case)
        else:
            self.remarks["decisions name other entities than their events: not in profiles"] += 1
            self._record_unread(decision, value)

    def _on_read(self, case: DecidedEvent) -> None:
        value, snapshots = case.value, [snapshot for snapshot in case.snapshots if snapshot is not None]
        complete = len(snapshots) == len(case.entities)
        if case.decision.features == NO_FEATURES and complete:  # kept off the topic, they follow from it
            features = features_of(case.payment, case.event, case.kinds, tuple(snapshots), self._spec)
            value = encode(msgspec.structs.replace(decision_decoder.decode(value), features=features))
        if case.decision.action != "approve":
            refs = [EntityRef(kind, "", 0) for kind in case.kinds]
            activity = recent_activity(refs, snapshots) if complete else []
            value = recorded_bytes(value, encode(activity))
        self._save(case.decision, value)

    def _on_disorder(self, _name: str, _turn: Turn, _held: int) -> None:
        self.remarks[
            "updates of profiles whose recorded order has gaps: applied as nearly as can be told"
        ] += 1

    def _record_unread(self, decision: ServedDecision, value: bytes) -> None:
        """A decision whose event is delivered again, or is gone: as it was emitted."""
        if decision.action == "approve":
            self._save(decision, value)
        else:
            self._late_alerts[decision.transaction_id] = (value, decision)

    def _save_late_alerts(self) -> None:
        """Alerts whose profiles are not read here: what was known of the card stands on the alert."""
        if not self._late_alerts:
            return
        for record in self._topics.records("alerts"):
            found = self._late_alerts.pop(transaction_id_of(record.value) or "", None)
            if found is not None:
                self._save(found[1], recorded_of_alert(record.value or b""))
        for value, decision in self._late_alerts.values():
            self.remarks["alerts were not found on their topic: recorded without recent activity"] += 1
            self._save(decision, recorded_bytes(value, b"[]"))

    def _save(self, decision: ServedDecision, raw: bytes) -> None:
        name = decision.transaction_id
        left = int(decision.decided_at.timestamp() - self._forgotten)
        if left <= 0:  # forgotten in its time
            self._counts[self._restore.shard_of(name)] += name not in self._former
            return
        self._unsaved.append((name, raw, left))
        if len(self._unsaved) >= BATCH:
            self._flush()

    def _flush(self) -> None:
        for (name, _, _), new in zip(self._unsaved, self._restore.expiring("d", self._unsaved), strict=True):
            self._counts[self._restore.shard_of(name)] += new and name not in self._former
            self.recorded += new
        self._unsaved.clear()

    def _count_undecided(self) -> int:
        """Events without a decision of their own that are not delivered again: duplicates, or lost."""
        duplicates = 0
        for (partition, offset), record in self._join.events.items():
            if offset >= self._limits[partition]:
                continue
            if transaction_id_of(record.value) is None:
                self.remarks["acknowledged events have neither decision nor dead letter"] += 1
            else:
                duplicates += 1
        return duplicates

    def _restore_partitions(self, duplicates: int) -> None:
        rejected = sum(offset < self._limits.get(partition, 0) for partition, offset in self._dead)
        applied = {f"fence:{number}": limit - 1 for number, limit in self._limits.items() if limit}
        for shard in range(self._restore.shards):
            counts = {"decided": self._counts[shard]}
            if shard == 0:
                counts |= {"rejected": rejected, "duplicates": duplicates}
            fields = {COUNT_FIELDS[name]: count for name, count in counts.items() if count} | applied
            self._restore.fields(shard, "partitions", fields)
