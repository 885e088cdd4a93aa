"""The judge of the protocol: it reads the log, what was emitted and what is stored, and nothing else."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from zlib import crc32

from models.features.compute import event_of, features_of
from models.features.profiles import Profile, ProfileSnapshot, apply_event, empty, no_labels
from models.features.spec import FeatureSpec
from stream.adapters.memory.store import MemoryOutbox, MemoryStore
from stream.messages import Transaction
from stream.ports import Message
from stream.records import Record

SPEC = FeatureSpec()

Place = tuple[int, int]  # partition and offset


def verdict(version: str, features: Mapping[str, float]) -> float:
    """A score that any difference in features or model changes."""
    return crc32(repr((version, list(features.items()))).encode()) / 2.0**32


class Bookkeeper(MemoryOutbox):
    """An outbox that also knows, for the judge, what has left."""

    def __init__(self) -> None:
        super().__init__()
        self.decisions: defaultdict[str, set[bytes]] = defaultdict(set)
        self.rejected: set[tuple[int, int]] = set()
        self._seen = 0

    def send(self, messages: Iterable[Message]) -> None:
        try:
            super().send(messages)
        finally:
            for message in self.sent[self._seen :]:
                if message.topic == "scores":
                    assert message.value is not None
                    self.decisions[json.loads(message.value)["transaction_id"]].add(message.value)
                elif message.topic == "dead-letters":
                    origin = dict(message.headers)
                    self.rejected.add((int(origin["partition"]), int(origin["offset"])))
            self._seen = len(self.sent)


class Case(NamedTuple):
    """What there is to judge.

    Attributes:
        log: of each partition.
        good: what can be decided, by its place on the log; the rest is poison.
        excused: transactions whose record the store has lost: they may have been decided anew.
        twins: transactions that stand on several partitions.
    """

    log: Mapping[int, Sequence[Record]]
    good: Mapping[Place, Transaction]
    outbox: Bookkeeper
    store: MemoryStore
    excused: set[str]
    twins: set[str]


def judge(case: Case) -> None:
    """Every promise, from the log, from what was emitted, and from the profiles as they stand."""
    poison = {(p, r.offset) for p, records in case.log.items() for r in records} - set(case.good)
    assert case.outbox.rejected == poison, "exactly what is wrong becomes a dead letter"
    names = {paid.transaction_id for paid in case.good.values()}
    assert set(case.outbox.decisions) == names, "every transaction is decided, and nothing else"
    for name, versions in case.outbox.decisions.items():
        assert len(versions) == 1 or name in case.excused, f"{name} has {len(versions)} different decisions"
    recorded = case.store.lookup(sorted(names))
    assert None not in recorded
    final = [json.loads(raw.partition(b"\n")[0]) for raw in recorded if raw is not None]
    for decision, raw in zip(final, recorded, strict=True):
        assert raw is not None
        assert raw.partition(b"\n")[0] in case.outbox.decisions[decision["transaction_id"]]
        places = [at for at, paid in case.good.items() if paid.transaction_id == decision["transaction_id"]]
        first = [min(places)] if decision["transaction_id"] not in case.twins else places
        assert tuple(decision["origin"]) in first, "the first on the log is the one that counts"
    alerts = [json.loads(m.value or b"") for m in case.outbox.sent if m.topic == "alerts"]
    assert {a["transaction_id"] for a in alerts} >= {
        d["transaction_id"] for d in final if d["action"] != "approve"
    }
    if case.twins:  # both may have been read before either was decided: the other one has no decision
        return
    snapshots, profiles = replay(case, final)
    for decision in final:
        name = decision["transaction_id"]
        paid = case.good[decision["origin"][0], decision["origin"][1]]
        kinds = tuple(decision["entities"])
        features = features_of(
            paid, event_of(paid, SPEC), kinds, tuple(snapshots[name, kind] for kind in kinds), SPEC
        )
        assert features == decision["features"], f"{name} was not served what was known before it"
        assert list(features) == list(decision["features"])
        assert verdict(decision["model_version"], features) == decision["score"]
    for (kind, key), profile in profiles.items():
        assert repr(case.store.profile(kind, key)) == repr(profile), f"{kind} {key} is not what the log says"
    assert set(case.store._profiles) == set(profiles)


def replay(
    case: Case, decisions: Sequence[dict[str, Any]]
) -> tuple[dict[tuple[str, str], ProfileSnapshot], dict[tuple[str, str], Profile]]:
    """One pass over the log: what was known of each entity before each event, and at the end."""
    order: defaultdict[tuple[str, str], dict[int, tuple[int, int]]] = defaultdict(dict)
    for decision in decisions:
        paid = case.good[decision["origin"][0], decision["origin"][1]]
        keys = {"card": paid.card_id, "merchant": paid.merchant_id} | (
            {"device": paid.device_id} if paid.device_id else {}
        )
        assert {kind: key for kind, (key, _, _) in decision["entities"].items()} == keys
        for kind, (key, count, _) in decision["entities"].items():
            assert count not in order[kind, key], "two events read the same state"
            order[kind, key][count] = tuple(decision["origin"])
    max_recent = {entity.kind: entity.max_recent for entity in SPEC.entities}
    snapshots: dict[tuple[str, str], ProfileSnapshot] = {}
    profiles: dict[tuple[str, str], Profile] = {}
    halves = len(SPEC.half_lives)
    for (kind, key), events in order.items():
        assert sorted(events) == list(range(len(events))), "an update without a decision"
        profile = empty(halves)
        last = dict.fromkeys(case.log, -1)
        for _, (partition, offset) in sorted(events.items()):
            assert offset > last[partition], "a partition's events were applied out of order"
            last[partition] = offset
            paid = case.good[partition, offset]
            snapshots[paid.transaction_id, kind] = ProfileSnapshot(profile, no_labels(halves))
            profile = apply_event(profile, event_of(paid, SPEC), max_recent[kind])
        profiles[kind, key] = profile
    return snapshots, profiles
