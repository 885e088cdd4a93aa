"""The judge over logs in memory: it agrees with the store in any order of work, and finds what is wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence
from zlib import crc32

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.features.spec import FeatureSpec
from stream.adapters.memory.store import MemoryOutbox, MemoryStore
from stream.adapters.redis.codec import Codec
from stream.adapters.redis.dump import digest_of
from stream.admission import Limits
from stream.history.labels import ReplayedLabels
from stream.messages import Transaction, decision_decoder, encode
from stream.pipeline import DecisionTopics, Pipeline
from stream.policy import Policy, Thresholds
from stream.records import Record
from stream.verify.event_judge import EventJudge
from stream.verify.promises import Findings
from stream.verify.seen import Seen
from tests.support.builders import START, payment

SPEC = FeatureSpec()
CODEC = Codec(len(SPEC.half_lives))
LIMITS = Limits()
NEVER = float("-inf")


class Scorer:
    version = "m1"
    thresholds = Thresholds(0.9, 0.99)

    def score(self, features: dict[str, float]) -> tuple[float, Sequence[tuple[str, float]]]:
        return crc32(repr(features).encode()) / 2.0**32, []


class World:
    """Two partitions, worked on in batches in the order that chance gives; then everything is judged."""

    def __init__(self, seed: int, count: int = 40) -> None:
        chance = random.Random(seed)
        self.store = MemoryStore(SPEC.half_lives)
        self.outbox = MemoryOutbox()
        self.events: list[list[Record]] = [[], []]
        for number in range(count):
            item = paid(number, f"c{chance.randrange(6)}", f"m{chance.randrange(3)}")
            self.append(crc32(item.card_id.encode()) % 2, item.card_id, encode(item))
        self.pipeline = Pipeline(
            store=self.store,
            outbox=self.outbox,
            model=Scorer,
            clock=lambda: START,
            spec=SPEC,
            policy=Policy(),
            topics=DecisionTopics("scores", "alerts", "dead-letters"),
            limits=LIMITS,
        )
        self.pipeline.on_assigned((0, 1))
        at = [0, 0]
        while any(at[p] < len(self.events[p]) for p in (0, 1)):
            partition = chance.randrange(2)
            size = chance.randrange(1, 6)
            batch = self.events[partition][at[partition] : at[partition] + size]
            if batch:
                self.pipeline.process(batch)
                at[partition] += len(batch)
        self.account()

    def work(self, record: Record) -> None:
        self.pipeline.process([record])
        self.account()

    def account(self) -> None:
        self.committed = {p: len(self.events[p]) for p in (0, 1)}
        self.scores = [
            Record("scores", 0, place, 0, message.key, message.value, message.headers)
            for place, message in enumerate(m for m in self.outbox.sent if m.topic == "scores")
        ]

    def append(self, partition: int, card: str, value: bytes) -> Record:
        log = self.events[partition]
        log.append(
            Record(
                "transactions", partition, len(log), int(START.timestamp() * 1e3 + 1e10), card.encode(), value
            )
        )
        return log[-1]

    def held(self) -> dict[str, tuple[int, bytes]]:
        return {
            f"{kind}:{key}": (profile.updates, digest_of(CODEC.packed(profile)))
            for (kind, key), profile in self.store._profiles.items()
        }

    def judged(
        self,
        *,
        seed: int = 0,
        held: dict[str, tuple[int, bytes]] | None = None,
        starts: dict[int, int] | None = None,
    ) -> tuple[EventJudge, Findings]:
        """What the judge finds when the topics come to it in any interleaving."""
        chance = random.Random(seed)
        findings = Findings()
        seen = Seen(
            starts or {0: 0, 1: 0},
            self.committed,
            lambda _name, partition: self.store.progress([partition])[partition],
            self.held() if held is None else held,
            digest_of,
            NEVER,
            self.store.counts(),
            "cut off" if starts else "",
        )
        labels = ReplayedLabels(SPEC, LIMITS, 0.5, 1e9)
        judge = EventJudge(findings, seen, labels, CODEC, spec=SPEC, limits=LIMITS, topic="transactions")
        for message in self.outbox.sent:
            if message.topic == "dead-letters":
                judge.add_dead_letter(message.headers)
        queues: list[list[Record]] = [list(self.events[0]), list(self.events[1]), list(self.scores)]
        while any(queues):
            queue = chance.choice([queue for queue in queues if queue])
            record = queue.pop(0)
            if record.topic == "scores":
                name = msgspec.json.decode(record.value or b"{}").get("transaction_id")
                judge.add_decision(record, self.store.lookup([name])[0] if name else None)
            else:
                judge.add_event(record)
        judge.finish()
        return judge, findings


def paid(number: int, card: str, merchant: str) -> Transaction:
    return payment(number, minutes=7 * number, card=card, merchant=merchant, amount=500 + 37 * number)


def found(findings: Findings) -> dict[int, list[str]]:
    promises = [findings.promise(number, "") for number in range(1, 7)]
    return {p.number: [each.what for each in p.breaks] for p in promises if p.breaks}


@given(st.integers(0, 10_000), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_whatever_the_order_of_work_and_of_reading_the_replay_gives_the_bits_of_the_store(
    work: int, read: int
) -> None:
    world = World(work)
    judge, findings = world.judged(seed=read)
    assert found(findings) == {}
    assert (judge.applied, judge.lag, judge.duplicates) == (40, 0, 0)
    assert judge.features == 40
    assert judge.profiles == len(world.held())


def test_a_decision_that_is_missing_is_named() -> None:
    world = World(1)
    gone = world.scores.pop(17)
    _, findings = world.judged()
    [lost] = findings.promise(1, "").breaks
    name = decision_decoder.decode(gone.value or b"").transaction_id
    assert (lost.what, lost.count) == ("has no decision", 1)
    assert lost.examples[0].startswith(f"{name} ")


def test_an_event_that_is_not_acknowledged_is_to_come_and_its_profiles_are_left_alone() -> None:
    world = World(1)
    gone = world.scores.pop()
    partition, offset = decision_decoder.decode(gone.value or b"").origin
    if offset != len(world.events[partition]) - 1:
        pytest.skip("another partition ended last")
    world.committed[partition] = offset
    judge, findings = world.judged()
    assert found(findings) == {}
    assert judge.lag == 1


@pytest.mark.parametrize("missing", range(0, 40, 3))
def test_a_decision_that_is_still_to_come_leaves_a_gap_in_the_order_and_that_is_no_fault(
    missing: int,
) -> None:
    world = World(1)
    gone = world.scores.pop(missing)
    partition, offset = decision_decoder.decode(gone.value or b"").origin
    world.committed[partition] = offset
    judge, findings = world.judged()
    assert found(findings) == {}
    assert judge.lag == 1


def test_an_event_that_was_applied_twice_is_found() -> None:
    world = World(2)
    name = min(world.store._profiles)
    profile = world.store._profiles[name]
    world.store._profiles[name] = profile._replace(updates=profile.updates + 1)
    assert found(world.judged()[1]) == {2: ["its profile in Redis holds more events than the log gives"]}


def test_an_event_that_was_not_applied_is_found() -> None:
    world = World(2)
    held = world.held()
    name = min(held)
    held[name] = (held[name][0] - 1, held[name][1])
    assert found(world.judged(held=held)[1]) == {
        2: [
            "its profile in Redis is not what its events give",
            "its profile in Redis lacks events that Redis says it has applied",
        ]
    }


def test_two_decisions_of_one_transaction_at_two_places_are_found() -> None:
    world = World(3)
    item = paid(0, "c0", "m0")
    event = world.append(crc32(b"c0") % 2, "c0", encode(item))
    world.committed[event.partition] += 1
    first = next(r for r in world.scores if decision_decoder.decode(r.value or b"").transaction_id == "t0")
    decision = decision_decoder.decode(first.value or b"")
    second = msgspec.structs.replace(decision, origin=(event.partition, event.offset))
    world.scores.append(first._replace(value=encode(second), offset=len(world.scores)))
    assert "two events of one transaction were each decided" in found(world.judged()[1])[1]


def test_a_decision_of_no_event_is_found() -> None:
    world = World(3)
    decision = decision_decoder.decode(world.scores[0].value or b"")
    other = msgspec.structs.replace(decision, transaction_id="nobody", origin=(0, 3))
    world.scores[0] = world.scores[0]._replace(value=encode(other))
    assert {"was decided of an event that is another transaction's"} <= set(found(world.judged()[1])[1])


def cut(world: World, start: int) -> tuple[EventJudge, Findings]:
    world.events = [[r for r in log if r.offset >= start] for log in world.events]
    world.scores = [r for r in world.scores if decision_decoder.decode(r.value or b"").origin[1] >= start]
    return world.judged(starts=dict.fromkeys((0, 1), start))


def test_of_a_log_without_its_beginning_only_what_began_later_is_judged() -> None:
    judge, findings = cut(World(4), 12)
    promise = findings.promise(2, "")
    assert (found(findings), judge.profiles, promise.verdict) == ({}, 0, "not judged")
    assert "cut off: 9 profiles that began before were not compared" in promise.remarks[0]
    later = World(4)
    later.work(
        later.append(max((0, 1), key=lambda p: len(later.events[p])), "new", encode(paid(99, "new", "new")))
    )
    judge, findings = cut(later, 12)
    assert (found(findings), judge.profiles, findings.promise(2, "").verdict) == ({}, 2, "holds")
    assert judge.features == 1
