"""Redis, with one shard and with four, and memory agree to the bit, whatever happens."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from models.features.decay import weights
from models.features.profiles import Event, LabelProfile, Profile, ProfileSnapshot, label_delta
from stream.adapters.memory.store import MemoryStore
from stream.adapters.redis.store import RedisStore
from stream.ports import EntityRef, EventUpdate, LabelUpdate, StaleOwner

HALF_LIVES = (1.0, 3600.0, 86_400.0 * 30)  # the shortest makes exponents jump, and sums vanish
PARTITIONS = (0, 1, 5)
CARDS = [f"c{n}" for n in range(4)]
MERCHANTS = ["m0", "m1"]
DEVICES = ["d0", "d1", "d2"]
TRANSACTIONS = [f"t{n}" for n in range(4)]
KEYS = [("card", key) for key in CARDS] + [("merchant", key) for key in MERCHANTS]
KEYS += [("device", key) for key in DEVICES]
Store = MemoryStore | RedisStore

# Mostly what is usual, so that the rest is an outlier on either side.
amounts = st.one_of(
    st.sampled_from([9.99, 10.0, 10.01]), st.sampled_from([10.5, 0.01, 1e13]), st.floats(0.01, 1e6)
)
# Mostly in order and close together, some at once, some days or decades late or early.
steps = st.one_of(
    st.floats(0.0, 50.0),
    st.sampled_from([0.0, 0.25, 1.0]),
    st.sampled_from([-1e5, -3e6, -1.6e9, 2e9, 3600.0, -7200.0, -1040.0, 1050.0]),
)


def bits(snapshot: ProfileSnapshot | None) -> tuple[Any, ...] | None:
    """Every number of a reading as its bytes: 0.0 and -0.0 differ, and nothing is rounded."""
    return None if snapshot is None else (_profile_bits(snapshot.profile), _label_bits(snapshot.labels))


def _profile_bits(profile: Profile) -> tuple[Any, ...]:
    numbers = (float(profile.updates), profile.first, profile.last, *profile.sums)
    return struct.pack(f"<{len(numbers)}d", *numbers), profile.recent, type(profile.updates)


def _label_bits(labels: LabelProfile) -> tuple[Any, ...]:
    numbers = (*labels.times, *labels.weeks, *labels.sums)
    counts = (labels.updates, labels.frauds, labels.genuine, *labels.codes)
    return struct.pack(f"<{len(numbers)}d", *numbers), counts, [*map(type, counts)]


def _rows(rows: list[tuple[ProfileSnapshot, ...] | None]) -> list[Any]:
    return [None if row is None else [bits(snapshot) for snapshot in row] for row in rows]


def _state(store: Store) -> list[Any]:
    profiles = [_profile_bits(store.profile(kind, key)) for kind, key in KEYS]
    return [profiles, [_label_bits(store.label_profile(kind, key)) for kind, key in KEYS]]


class Agreement(RuleBasedStateMachine):
    """The log of three partitions, consumed again and again in other cuts by workers that come and go."""

    url = ""

    @initialize()
    def begin(self) -> None:
        redis_stores = [self.open(1), self.open(4)]
        redis_stores[0]._shards._client.flushdb()
        self.stores: list[Store] = [MemoryStore(HALF_LIVES), *redis_stores]
        self.clock = 1.7e9
        self.log: dict[int, list[EventUpdate]] = {partition: [] for partition in PARTITIONS}
        self.applied = dict.fromkeys(PARTITIONS, 0)
        self.recorded = dict.fromkeys(PARTITIONS, -1)
        self.fencing_tokens = self.agreed(lambda store: dict(store.claim(PARTITIONS)))
        self.stale: dict[int, int] | None = None
        self.labels: list[LabelUpdate] = []
        self.labelled = 0
        self.learned = 0

    def open(self, shards: int) -> RedisStore:
        return RedisStore(
            self.url,
            HALF_LIVES,
            shards,
            decision_ttl_seconds=600,
            label_ttl_seconds=600,
            prefix=f"p{shards}",
            clock=lambda: 0.0,
        )

    def agreed(self, ask: Any) -> Any:
        answers = [ask(store) for store in self.stores]
        assert answers[1] == answers[0]
        assert answers[2] == answers[0]
        return answers[0]

    @rule(
        partition=st.sampled_from(PARTITIONS),
        events=st.lists(
            st.tuples(
                st.one_of(st.just("c0"), st.sampled_from(CARDS)),
                st.one_of(st.none(), st.sampled_from(MERCHANTS)),
                st.one_of(st.none(), st.sampled_from(DEVICES)),
                amounts,
                steps,
                st.binary(max_size=12),
                st.integers(0, 3),
            ),
            min_size=1,
            max_size=12,
        ),
    )
    def happen(
        self, partition: int, events: list[tuple[str, str | None, str | None, float, float, bytes, int]]
    ) -> None:
        for card, merchant, device, amount, step, recent_event, max_recent in events:
            time = self.clock + step
            self.clock += max(step, 0.0) % 1e6
            entities = [EntityRef("card", card, max_recent)]
            entities += [EntityRef("merchant", merchant, 0)] if merchant else []
            entities += [EntityRef("device", device, 1)] if device else []
            event = Event(time, amount, math.log1p(amount), weights(time, HALF_LIVES), recent_event)
            log = self.log[partition]
            offset = log[-1].offset + 1 + len(recent_event) % 2 if log else 3  # logs have gaps
            log.append(
                EventUpdate(partition, offset, event, tuple(entities) if recent_event != b"none" else ())
            )

    @rule(
        cuts=st.fixed_dictionaries(
            {p: st.tuples(st.integers(0, 15), st.integers(0, 15)) for p in PARTITIONS}
        ),
        trim=st.booleans(),
        lost=st.booleans(),
    )
    def consume(self, cuts: dict[int, tuple[int, int]], trim: bool, lost: bool) -> None:
        """A batch from before or at what is applied; sometimes its answer is lost, and it comes again."""
        updates: list[EventUpdate] = []
        ends: dict[int, int] = {}
        for partition, (back, length) in cuts.items():
            start = max(self.applied[partition] - back, 0)
            part = self.log[partition][start : start + length]
            if part:
                updates += part
                ends[partition] = part[-1].offset
                self.applied[partition] = max(self.applied[partition], start + len(part))
        recorded = {p: end for p, end in self.recorded.items() if p in ends}
        for _ in range(2 if lost else 1):
            self.agreed(
                lambda store: _rows(
                    store.apply(updates, ends=ends, recorded=recorded, fencing_tokens=self.fencing_tokens)
                )
            )
        if trim:
            for partition, end in ends.items():
                self.recorded[partition] = max(self.recorded[partition], end - len(updates) % 3)

    @rule(ids=st.lists(st.sampled_from(TRANSACTIONS), max_size=4), decision=st.binary(max_size=3))
    def record(self, ids: list[str], decision: bytes) -> None:
        rows = [(PARTITIONS[n % 3], key, decision + b"%d" % n) for n, key in enumerate(ids)]
        self.agreed(lambda store: store.record(rows, fencing_tokens=self.fencing_tokens))
        self.agreed(lambda store: store.lookup(TRANSACTIONS))

    @rule(partitions=st.sets(st.sampled_from(PARTITIONS), min_size=1))
    def rebalance(self, partitions: set[int]) -> None:
        self.stale = self.fencing_tokens
        self.fencing_tokens = {
            **self.fencing_tokens,
            **self.agreed(lambda store: dict(store.claim(sorted(partitions)))),
        }

    @rule()
    def restart(self) -> None:
        self.stores[1:] = [self.open(1), self.open(4)]

    @rule(partition=st.sampled_from(PARTITIONS))
    def come_back_from_the_dead(self, partition: int) -> None:
        if (
            self.stale is None
            or self.stale[partition] >= self.fencing_tokens[partition]
            or not self.log[partition]
        ):
            return
        stale, log = self.stale, self.log[partition]
        for store in self.stores:
            with pytest.raises(StaleOwner):
                store.apply(log, ends={partition: log[-1].offset}, recorded={}, fencing_tokens=stale)
            with pytest.raises(StaleOwner):
                store.record([(partition, "t0", b"stale")], fencing_tokens=stale)

    @rule(
        labels=st.lists(
            st.tuples(
                st.sampled_from(TRANSACTIONS),
                st.booleans(),
                st.sampled_from([10.0, 20.0, 20.5, 1.7e9 + 0.1]),
                st.floats(0.0, 2e9),
                st.booleans(),
                st.lists(st.sampled_from(KEYS), unique=True, max_size=3),
            ),
            min_size=1,
            max_size=12,
        )
    )
    def become_known(self, labels: list[tuple[str, bool, float, float, bool, list[tuple[str, str]]]]) -> None:
        for key, fraud, known_at, time, decided, entities in labels:
            delta = label_delta(key, time, fraud, HALF_LIVES)
            refs = tuple(EntityRef(kind, name, 0) for kind, name in entities)
            offset = self.labels[-1].offset + 1 + len(refs) if self.labels else 0
            self.labels.append(
                LabelUpdate(offset, key, fraud, known_at, delta if decided else None, refs, b"%d" % offset)
            )

    @rule(back=st.integers(0, 8), length=st.integers(0, 25), publish=st.booleans())
    def learn(self, back: int, length: int, publish: bool) -> None:
        start = max(self.labelled - back, 0)
        part = self.labels[start : start + length]
        self.agreed(lambda store: store.apply_labels(part, learned=self.learned))
        self.labelled = max(self.labelled, start + len(part))
        if publish and part:
            self.learned = max(self.learned, part[-1].offset)

    @rule(ids=st.sets(st.sampled_from(TRANSACTIONS), max_size=3), before=st.sampled_from([15.0, 20.5, 3e9]))
    def tidy_the_waiting_room(self, ids: set[str], before: float) -> None:
        self.agreed(lambda store: store.expired(before, 3))
        waiting = self.agreed(lambda store: store.pending(TRANSACTIONS))
        leaving = [(name, entry or b"another") for name, entry in zip(TRANSACTIONS, waiting, strict=True)]
        self.agreed(lambda store: store.remove_pending([each for each in leaving if each[0] in ids]))
        self.agreed(lambda store: store.pending(TRANSACTIONS))

    @invariant()
    def agree_on_progress(self) -> None:
        self.agreed(lambda store: store.progress(PARTITIONS))

    def teardown(self) -> None:
        """What ever came apart stays apart: comparing at the end is enough, and fast."""
        self.agreed(lambda store: (_state(store), store.pending(TRANSACTIONS), store.lookup(TRANSACTIONS)))


def test_redis_and_memory_agree_to_the_bit(redis_url: str) -> None:
    class OnThisRedis(Agreement):
        url = redis_url

    run_state_machine_as_test(
        OnThisRedis, settings=settings(max_examples=100, stateful_step_count=25, deadline=None)
    )
