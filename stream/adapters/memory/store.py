"""The stores in this process's memory: for tests, replays and the edge.

They keep the rules of the Redis store to the bit (one contract suite runs on both), and forget everything
when the process ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from models.features.profiles import (
    LabelProfile,
    Profile,
    ProfileSnapshot,
    apply_event,
    apply_label,
    empty,
    no_labels,
)
from stream.batch_checks import (
    OTHER_ENTITIES,
    also_waited,
    check_labels,
    check_updates,
    other_transaction,
)
from stream.ports import (
    NONE,
    DependencyDown,
    EventUpdate,
    LabelsBehind,
    LabelStatus,
    LabelUpdate,
    Message,
    OtherLog,
    StaleOwner,
    StoreBehind,
)

_Key = tuple[str, str]  # an entity's kind and key


class MemoryStore:
    """`FeatureStore`, `LabelStore` and `DecisionLog` in one, for one thread.

    Nothing in it expires by time. It has no shards: what a store answers does not depend on their number.

    Args:
        half_lives: how many half-lives an event's weights have, or the half-lives themselves.
        decisions_kept: forget the oldest decisions beyond so many; None keeps all.

    >>> from models.features.decay import weights
    >>> from models.features.profiles import Event
    >>> from stream.ports import EntityRef, EventUpdate
    >>> store = MemoryStore((3600.0,))
    >>> tokens = store.claim([0])
    >>> event = Event(60.0, 12.5, 2.6, weights(60.0, (3600.0,)), b"")
    >>> update = EventUpdate(0, 7, event, (EntityRef("card", "c1", 0),))
    >>> [(before,)] = store.apply([update], ends={0: 7}, recorded={}, fencing_tokens=tokens)
    >>> before.profile.updates, store.profile("card", "c1").updates, store.progress([0])
    (0, 1, {0: 7})
    """

    def __init__(self, half_lives: int | Sequence[float], *, decisions_kept: int | None = None) -> None:
        count = half_lives if isinstance(half_lives, int) else len(half_lives)
        self._empty = empty(count)
        self._no_labels = no_labels(count)
        self._profiles: dict[_Key, Profile] = {}
        self._label_profiles: dict[_Key, LabelProfile] = {}
        self._fencing_tokens: dict[int, int] = {}
        self._applied_offsets: dict[int, int] = {}
        self._journals: dict[int, dict[int, tuple[str, tuple[ProfileSnapshot, ...]]]] = {}
        self._trimmed: dict[int, int] = {}
        self._decisions: dict[str, bytes] = {}
        self._counts = {"decided": 0, "rejected": 0, "duplicates": 0}
        self._decisions_kept = decisions_kept
        self._known: dict[str, tuple[float, bool]] = {}
        self._applied_label_offset = self._passed = -1
        self._statuses: dict[int, LabelStatus] = {}
        self._pending: dict[str, tuple[float, bytes]] = {}

    # ---- FeatureStore

    def claim(self, partitions: Iterable[int]) -> dict[int, int]:
        """See `FeatureStore.claim`."""
        claimed = {partition: self._fencing_tokens.get(partition, 0) + 1 for partition in partitions}
        self._fencing_tokens.update(claimed)
        return claimed

    def progress(self, partitions: Iterable[int]) -> dict[int, int]:
        """See `FeatureStore.progress`."""
        return {partition: self._applied_offsets.get(partition, -1) for partition in partitions}

    def lookup(self, transaction_ids: Sequence[str]) -> list[bytes | None]:
        """See `FeatureStore.lookup`."""
        return [self._decisions.get(transaction_id) for transaction_id in transaction_ids]

    def apply(
        self,
        updates: Sequence[EventUpdate],
        *,
        ends: Mapping[int, int],
        recorded: Mapping[int, int],
        fencing_tokens: Mapping[int, int],
        rejected: Mapping[int, Sequence[int]] = NONE,
        duplicates: Mapping[int, Sequence[int]] = NONE,
    ) -> list[tuple[ProfileSnapshot, ...] | None]:
        """See `FeatureStore.apply`."""
        check_updates(updates, ends, fencing_tokens)
        self._admit(ends, fencing_tokens)
        applied_offsets = {partition: self._applied_offsets.get(partition, -1) for partition in ends}
        behind = {
            p: applied_offset + 1
            for p, applied_offset in applied_offsets.items()
            if applied_offset < recorded.get(p, -1)
        }
        if behind:
            raise StoreBehind(behind)
        for partition in ends:
            self._trim(partition, recorded.get(partition, -1))
        for name, offsets in (("rejected", rejected), ("duplicates", duplicates)):
            self._counts[name] += sum(
                at > applied_offsets[p] for p, places in offsets.items() for at in places
            )
        profiles = self._profiles
        results: list[tuple[ProfileSnapshot, ...] | None] = []
        for update in updates:
            partition, offset, event, entities, transaction_id = update
            if offset <= applied_offsets[partition]:
                results.append(self._journaled(update))
                continue
            snapshots: list[ProfileSnapshot] = []
            for kind, key, max_recent in entities:
                entity = (kind, key)
                # Read before write: an event does not vouch for itself.
                profile = profiles.get(entity, self._empty)
                snapshots.append(ProfileSnapshot(profile, self._label_profiles.get(entity, self._no_labels)))
                profiles[entity] = apply_event(profile, event, max_recent)
            result = tuple(snapshots)
            results.append(result)
            self._journals[partition][offset] = transaction_id, result
        for partition, end in ends.items():
            self._applied_offsets[partition] = max(applied_offsets[partition], end)
        return results

    def _journaled(self, update: EventUpdate) -> tuple[ProfileSnapshot, ...] | None:
        """What was read when an event was applied; see `FeatureStore.apply`."""
        partition, offset, _, entities, transaction_id = update
        if entities and offset <= self._trimmed[partition]:
            return None
        entry = self._journals[partition].get(offset)
        if entry is None or not entities:
            return ()
        transaction, found = entry
        if transaction != transaction_id:
            raise OtherLog(other_transaction(update))
        if len(found) != len(entities):
            raise ValueError(OTHER_ENTITIES.format(offset=offset))
        return found

    def record(
        self, decisions: Sequence[tuple[int, str, bytes]], *, fencing_tokens: Mapping[int, int]
    ) -> list[bytes]:
        """See `FeatureStore.record`."""
        self._admit({partition for partition, _, _ in decisions}, fencing_tokens)
        self._counts["decided"] += len({name for _, name, _ in decisions} - self._decisions.keys())
        recorded = [
            self._decisions.setdefault(transaction_id, decision) for _, transaction_id, decision in decisions
        ]
        if self._decisions_kept is not None:
            surplus = max(len(self._decisions) - self._decisions_kept, 0)
            for transaction_id in list(islice(self._decisions, surplus)):
                del self._decisions[transaction_id]
        return recorded

    def counts(self) -> dict[str, int]:
        """See `FeatureStore.counts`."""
        return dict(self._counts)

    def profile(self, kind: str, key: str) -> Profile:
        """The profile of an entity as it stands."""
        return self._profiles.get((kind, key), self._empty)

    def label_profile(self, kind: str, key: str) -> LabelProfile:
        """The label profile of an entity as it stands."""
        return self._label_profiles.get((kind, key), self._no_labels)

    def _admit(self, partitions: Iterable[int], fencing_tokens: Mapping[int, int]) -> None:
        for partition in partitions:
            if fencing_tokens[partition] < self._fencing_tokens.get(partition, 0):
                raise StaleOwner(
                    f"partition {partition} has been claimed by another worker since (fencing token "
                    f"{fencing_tokens[partition]}, newest {self._fencing_tokens[partition]}): leave this "
                    "batch to it"
                )
        for partition in partitions:
            self._fencing_tokens[partition] = fencing_tokens[partition]

    def _trim(self, partition: int, recorded: int) -> None:
        journal = self._journals.setdefault(partition, {})
        self._trimmed[partition] = max(self._trimmed.get(partition, -1), recorded)
        done = []
        for offset in journal:  # in rising order: only offsets above the applied offset are added
            if offset > recorded:
                break
            done.append(offset)
        for offset in done:
            del journal[offset]

    # ---- LabelStore

    def apply_labels(
        self, labels: Sequence[LabelUpdate], *, learned: int, passed: int = -1
    ) -> list[LabelStatus]:
        """See `LabelStore.apply_labels`."""
        if labels and self._passed < passed:
            raise LabelsBehind(self._passed + 1)
        check_labels(labels)
        for offset in [offset for offset in self._statuses if offset < learned]:
            del self._statuses[offset]
        statuses: list[LabelStatus] = []
        for label in labels:
            if label.offset <= self._applied_label_offset:
                statuses.append(self._statuses.get(label.offset, "duplicate"))
                continue
            status = self._resolve(label)
            statuses.append(status)
            self._statuses[label.offset] = status
            self._applied_label_offset = label.offset
            if status in {"new", "correction"} and label.delta is not None:
                delta = label.delta._replace(corrects=status == "correction")
                for kind, key, _ in label.entities:
                    profile = self.label_profile(kind, key)
                    self._label_profiles[kind, key] = apply_label(profile, delta)
        return statuses

    def advance_labels(self, offset: int, *, passed: int) -> None:
        """See `LabelStore.advance_labels`."""
        if self._passed < passed:
            raise LabelsBehind(self._passed + 1)
        self._passed = max(self._passed, offset)

    def _resolve(self, label: LabelUpdate) -> LabelStatus:
        known = self._known.get(label.transaction_id)
        if known is not None:
            known_at, is_fraud = known
            if label.is_fraud == is_fraud:
                self._known[label.transaction_id] = (max(known_at, label.known_at), is_fraud)
                return "duplicate"
            if label.known_at < known_at:
                return "superseded"
        if label.delta is None:
            pending = self._pending.get(label.transaction_id)
            if pending is None or label.known_at >= pending[0]:
                self._pending[label.transaction_id] = (label.known_at, label.raw)
            else:
                self._pending[label.transaction_id] = (pending[0], also_waited(pending[1], label.offset))
            return "pending"
        self._known[label.transaction_id] = (label.known_at, label.is_fraud)
        return "new" if known is None else "correction"

    def pending(self, transaction_ids: Sequence[str]) -> list[bytes | None]:
        """See `LabelStore.pending`."""
        found = [self._pending.get(transaction_id) for transaction_id in transaction_ids]
        return [None if entry is None else entry[1] for entry in found]

    def remove_pending(self, entries: Sequence[tuple[str, bytes]]) -> None:
        """See `LabelStore.remove_pending`."""
        for transaction_id, entry in entries:
            if self._pending.get(transaction_id, (0.0, None))[1] == entry:
                del self._pending[transaction_id]

    def expired(self, before: float, limit: int) -> list[tuple[str, bytes]]:
        """See `LabelStore.expired`; labels known at the same time come in the order of their ids."""
        due = sorted((at, key) for key, (at, _) in self._pending.items() if at < before)
        return [(key, self._pending[key][1]) for _, key in due[:limit]]

    # ---- DecisionLog

    def decisions(self, transaction_ids: Sequence[str]) -> list[bytes | None]:
        """See `DecisionLog.decisions`."""
        return self.lookup(transaction_ids)


class MemoryOutbox:
    """An `Outbox` that collects what is sent.

    Attributes:
        sent: every message that is durable, in order.
    """

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self._durable: list[int] = []

    def fail_next(self, durable: int = 0) -> None:
        """Arm the next `send` to fail after so many of its messages are durable; repeat for several sends."""
        self._durable.append(durable)

    def send(self, messages: Iterable[Message]) -> None:
        """See `Outbox.send`.

        Raises:
            DependencyDown: `fail_next` was called.
        """
        batch = list(messages)
        if self._durable:
            durable = self._durable.pop(0)
            self.sent += batch[:durable]
            raise DependencyDown(f"armed to fail: {durable} of {len(batch)} messages are durable")
        self.sent += batch

    def values(self, topic: str) -> list[bytes | None]:
        """What was sent to a topic, in order."""
        return [message.value for message in self.sent if message.topic == topic]
