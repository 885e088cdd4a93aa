"""The stores in this process's memory: for tests, replays and the edge.

They keep the rules of the Redis store to the bit (one contract suite runs on both), and forget everything
when the process ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from models.features.profiles import LabelProfile, Profile, Reading, empty, informed, no_labels, updated
from stream.batch_checks import OTHER_ENTITIES, also_waited, check_labels, check_touches
from stream.ports import (
    NONE,
    DependencyDown,
    LabelsBehind,
    LabelTouch,
    Message,
    StaleOwner,
    Standing,
    StoreBehind,
    Touch,
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
    >>> from stream.ports import EntityRef
    >>> store = MemoryStore((3600.0,))
    >>> tokens = store.claim([0])
    >>> event = Event(60.0, 12.5, 2.6, weights(60.0, (3600.0,)), b"")
    >>> touch = Touch(0, 7, event, (EntityRef("card", "c1", 0),))
    >>> [(before,)] = store.apply([touch], ends={0: 7}, recorded={}, tokens=tokens)
    >>> before.profile.updates, store.profile("card", "c1").updates, store.progress([0])
    (0, 1, {0: 7})
    """

    def __init__(self, half_lives: int | Sequence[float], *, decisions_kept: int | None = None) -> None:
        count = half_lives if isinstance(half_lives, int) else len(half_lives)
        self._empty = empty(count)
        self._no_labels = no_labels(count)
        self._profiles: dict[_Key, Profile] = {}
        self._label_profiles: dict[_Key, LabelProfile] = {}
        self._tokens: dict[int, int] = {}
        self._fences: dict[int, int] = {}
        self._journals: dict[int, dict[int, tuple[Reading, ...]]] = {}
        self._decisions: dict[str, bytes] = {}
        self._counts = {"decided": 0, "rejected": 0, "copies": 0}
        self._decisions_kept = decisions_kept
        self._known: dict[str, tuple[float, bool]] = {}
        self._label_fence = self._passed = -1
        self._standings: dict[int, Standing] = {}
        self._room: dict[str, tuple[float, bytes]] = {}

    # ---- FeatureStore

    def claim(self, partitions: Iterable[int]) -> dict[int, int]:
        """See `FeatureStore.claim`."""
        claimed = {partition: self._tokens.get(partition, 0) + 1 for partition in partitions}
        self._tokens.update(claimed)
        return claimed

    def progress(self, partitions: Iterable[int]) -> dict[int, int]:
        """See `FeatureStore.progress`."""
        return {partition: self._fences.get(partition, -1) for partition in partitions}

    def lookup(self, transaction_ids: Sequence[str]) -> list[bytes | None]:
        """See `FeatureStore.lookup`."""
        return [self._decisions.get(transaction_id) for transaction_id in transaction_ids]

    def apply(
        self,
        touches: Sequence[Touch],
        *,
        ends: Mapping[int, int],
        recorded: Mapping[int, int],
        tokens: Mapping[int, int],
        rejected: Mapping[int, Sequence[int]] = NONE,
        copies: Mapping[int, Sequence[int]] = NONE,
    ) -> list[tuple[Reading, ...] | None]:
        """See `FeatureStore.apply`."""
        check_touches(touches, ends, tokens)
        self._admit(ends, tokens)
        fences = {partition: self._fences.get(partition, -1) for partition in ends}
        behind = {p: fence + 1 for p, fence in fences.items() if fence < recorded.get(p, -1)}
        if behind:
            raise StoreBehind(behind)
        for partition in ends:
            self._trim(partition, recorded.get(partition, -1))
        for name, offsets in (("rejected", rejected), ("copies", copies)):
            self._counts[name] += sum(at > fences[p] for p, places in offsets.items() for at in places)
        profiles = self._profiles
        results: list[tuple[Reading, ...] | None] = []
        for partition, offset, event, entities in touches:
            if offset <= fences[partition]:
                found = self._journals[partition].get(offset) if entities else ()
                if found is not None and len(found) != len(entities):
                    raise ValueError(OTHER_ENTITIES.format(offset=offset))
                results.append(found)
                continue
            readings: list[Reading] = []
            for kind, key, keep in entities:
                entity = (kind, key)
                # Read before write: an event does not vouch for itself.
                profile = profiles.get(entity, self._empty)
                readings.append(Reading(profile, self._label_profiles.get(entity, self._no_labels)))
                profiles[entity] = updated(profile, event, keep)
            result = tuple(readings)
            results.append(result)
            self._journals[partition][offset] = result
        for partition, end in ends.items():
            self._fences[partition] = max(fences[partition], end)
        return results

    def record(
        self, decisions: Sequence[tuple[int, str, bytes]], *, tokens: Mapping[int, int]
    ) -> list[bytes]:
        """See `FeatureStore.record`."""
        self._admit({partition for partition, _, _ in decisions}, tokens)
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

    def _admit(self, partitions: Iterable[int], tokens: Mapping[int, int]) -> None:
        for partition in partitions:
            if tokens[partition] < self._tokens.get(partition, 0):
                raise StaleOwner(
                    f"partition {partition} has been claimed by another worker since (token "
                    f"{tokens[partition]}, newest {self._tokens[partition]}): leave this batch to it"
                )
        for partition in partitions:
            self._tokens[partition] = tokens[partition]

    def _trim(self, partition: int, recorded: int) -> None:
        journal = self._journals.setdefault(partition, {})
        done = []
        for offset in journal:  # in rising order: only offsets above the fence are added
            if offset > recorded:
                break
            done.append(offset)
        for offset in done:
            del journal[offset]

    # ---- LabelStore

    def apply_labels(self, labels: Sequence[LabelTouch], *, learned: int, passed: int = -1) -> list[Standing]:
        """See `LabelStore.apply_labels`."""
        if labels and self._passed < passed:
            raise LabelsBehind(self._passed + 1)
        check_labels(labels)
        for offset in [offset for offset in self._standings if offset < learned]:
            del self._standings[offset]
        standings: list[Standing] = []
        for label in labels:
            if label.offset <= self._label_fence:
                standings.append(self._standings.get(label.offset, "repeat"))
                continue
            standing = self._standing(label)
            standings.append(standing)
            self._standings[label.offset] = standing
            self._label_fence = label.offset
            if standing in {"new", "correction"} and label.knowledge is not None:
                knowledge = label.knowledge._replace(corrects=standing == "correction")
                for kind, key, _ in label.entities:
                    profile = self.label_profile(kind, key)
                    self._label_profiles[kind, key] = informed(profile, knowledge)
        return standings

    def pass_labels(self, offset: int, *, passed: int) -> None:
        """See `LabelStore.pass_labels`."""
        if self._passed < passed:
            raise LabelsBehind(self._passed + 1)
        self._passed = max(self._passed, offset)

    def _standing(self, label: LabelTouch) -> Standing:
        known = self._known.get(label.transaction_id)
        if known is not None:
            known_at, is_fraud = known
            if label.is_fraud == is_fraud:
                self._known[label.transaction_id] = (max(known_at, label.known_at), is_fraud)
                return "repeat"
            if label.known_at < known_at:
                return "superseded"
        if label.knowledge is None:
            waiting = self._room.get(label.transaction_id)
            if waiting is None or label.known_at >= waiting[0]:
                self._room[label.transaction_id] = (label.known_at, label.raw)
            else:
                self._room[label.transaction_id] = (waiting[0], also_waited(waiting[1], label.offset))
            return "waiting"
        self._known[label.transaction_id] = (label.known_at, label.is_fraud)
        return "new" if known is None else "correction"

    def waiting(self, transaction_ids: Sequence[str]) -> list[bytes | None]:
        """See `LabelStore.waiting`."""
        found = [self._room.get(transaction_id) for transaction_id in transaction_ids]
        return [None if entry is None else entry[1] for entry in found]

    def leave(self, entries: Sequence[tuple[str, bytes]]) -> None:
        """See `LabelStore.leave`."""
        for transaction_id, entry in entries:
            if self._room.get(transaction_id, (0.0, None))[1] == entry:
                del self._room[transaction_id]

    def expired(self, before: float, limit: int) -> list[tuple[str, bytes]]:
        """See `LabelStore.expired`; labels known at the same time come in the order of their ids."""
        due = sorted((at, key) for key, (at, _) in self._room.items() if at < before)
        return [(key, self._room[key][1]) for _, key in due[:limit]]

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
