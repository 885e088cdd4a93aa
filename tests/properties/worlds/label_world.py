"""Labels, decisions, a learner, the maturity agent, and all that may happen to them; with a judge.

The undisturbed run is played by the rules of the contract alone (`undisturbed`): which labels become
examples, in which order, given the log of labels as it came to be and which decisions were there in time.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from models.features.compute import label_delta_of
from models.features.profiles import LabelProfile, apply_label, no_labels
from models.features.spec import FeatureSpec
from stream.adapters.memory.store import MemoryOutbox
from stream.adapters.redis.due_queues import MemoryDueQueue
from stream.admission import Limits
from stream.learning import Learner
from stream.maturity import Maturity
from stream.messages import Decision, Label, encode
from stream.ports import DependencyDown, Message
from stream.records import Record
from tests.properties.worlds.label_parts import Crash, Labels, Notebook, Snapshot

SPEC = FeatureSpec()
START = datetime(2024, 5, 1, tzinfo=UTC)
HOUR = 3600.0
HORIZON, WAIT = 30 * HOUR, 20 * HOUR
POINTS = ("labels-applied", "learned", "snapshot-written", "queued", "matured")


class Broker(MemoryOutbox):
    """What is sent to `labels` stands on the log."""

    def __init__(self, world: LabelWorld) -> None:
        super().__init__()
        self.world = world
        self.taken = 0

    def send(self, messages: Iterable[Message]) -> None:
        try:
            super().send(messages)
        finally:
            for message in self.sent[self.taken :]:
                if message.topic == "labels":
                    self.world.append(message.value, message.headers)
            self.taken = len(self.sent)


class LabelWorld(RuleBasedStateMachine):
    """A log of labels, a topic of decisions, a learner with its snapshots, and the maturity agent."""

    model_class: Any = Notebook
    store_class: type[Labels] = Labels
    acknowledges_early = False

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Record] = []
        self.scores: list[Record] = []
        self.decided: dict[str, Decision] = {}
        self.waited: set[int] = set()  # labels whose decision was not there when they were first seen
        self.seen = 0
        self.store = self.store_class(SPEC.half_lives)
        self.queue = MemoryDueQueue()
        self.outbox = Broker(self)
        self.snapshots = [Snapshot(self.model_class(), 0, 0)]
        self.committed = self.followed = 0
        self.time = START
        self.armed: str | None = None
        self.start()

    def reached(self, point: str) -> None:
        if point == self.armed:
            self.armed = None
            raise Crash(point)

    def start(self) -> None:
        """The process begins: the newest model, and the offsets that were acknowledged."""
        newest = self.snapshots[-1]
        self.model = copy.deepcopy(newest.model)
        self.next, self.next_score = self.committed, self.followed
        common: dict[str, Any] = {"labels": self.store, "outbox": self.outbox, "clock": lambda: START}
        common |= {"labels_topic": "labels", "dead_letters": "dead-letters", "reached": self.reached}
        self.learner = Learner(
            model=self.model,
            next_offset=newest.next_offset,
            learned=newest.learned,
            decisions=self.store,
            spec=SPEC,
            negative_sampling_rate=0.5,
            limits=Limits(future_tolerance=1e9),
            **common,
        )
        self.maturity = Maturity(
            queue=self.queue, horizon=HORIZON, label_wait=WAIT, negative_sampling_rate=0.5, **common
        )

    def append(self, value: bytes | None, headers: tuple[tuple[str, bytes], ...] = ()) -> None:
        at = int(START.timestamp() * 1000)
        self.log.append(Record("labels", 0, len(self.log), at, b"k", value, headers))

    # ---- what arrives

    @rule(step=st.sampled_from([0.0, 0.5, 5.0, 31.0]), count=st.integers(1, 3))
    def decide(self, step: float, count: int) -> None:
        self.time += timedelta(hours=step)
        for _ in range(count):
            number = len(self.decided)
            decision = Decision(
                transaction_id=f"t{number}",
                event_time=self.time,
                card_id=f"c{number % 3}",
                merchant_id="m",
                amount_minor=100,
                currency="EUR",
                score=0.1,
                action="approve",
                reasons=[],
                model_version="x",
                decided_at=START,
                features={
                    "amount": number * 13.7 % 97,
                    "hour": number % 24.0,
                    "card.z.30d": number % 5 / 2.0,
                },
                entities={"card": (f"c{number % 3}", 0, 0), "merchant": ("m", number, 0)},
            )
            raw = encode(decision)
            self.decided[decision.transaction_id] = decision
            self.store.record([(0, decision.transaction_id, raw)], fencing_tokens=self.store.claim([0]))
            self.scores.append(Record("scores", 0, len(self.scores), 0, b"c", raw))

    @rule(
        ahead=st.integers(-8, 2),
        fraud=st.booleans(),
        day=st.integers(-2, 6),
        copies=st.integers(1, 2),
        silent=st.booleans(),
    )
    def tell(self, ahead: int, fraud: bool, day: int, copies: int, silent: bool) -> None:
        """Someone reports: early, late, twice, older than what is known, of nothing; or nobody does."""
        number = max(len(self.decided) + ahead, 0)
        label = Label(
            transaction_id=f"t{number}",
            is_fraud=fraud and not silent,
            known_at=START + timedelta(days=day),
            source="maturity" if silent and f"t{number}" in self.decided else "analyst",
        )
        for _ in range(copies):
            self.append(encode(label))

    @rule()
    def poison(self) -> None:
        self.append(b"{")

    # ---- who works, and what goes wrong

    def look(self, batch: Sequence[Record]) -> None:
        """Notes for the judge which labels found no decision when they were first seen."""
        for record in batch:
            if record.offset == self.seen:
                self.seen += 1
                if (told := told_by(record)) and told["transaction_id"] not in self.decided:
                    self.waited.add(record.offset)

    @rule(size=st.integers(1, 6), publish=st.booleans(), acknowledge=st.booleans())
    def learn(self, size: int, publish: bool, acknowledge: bool) -> None:
        self.learn_with(size, publish=publish, acknowledge=acknowledge)

    @rule(size=st.integers(1, 6), point=st.sampled_from(POINTS[:3]))
    def crash_learning(self, size: int, point: str) -> None:
        self.armed = point
        self.learn_with(size, publish=True, acknowledge=True)

    @rule(
        size=st.integers(1, 6),
        call=st.sampled_from(["apply_labels", "remove_pending", "decisions"]),
        when=st.sampled_from(["before", "after"]),
    )
    def lose_reply_learning(self, size: int, call: str, when: str) -> None:
        self.store.fault = (call, when)
        self.learn_with(size, publish=True, acknowledge=True)

    @rule(size=st.integers(1, 6), durable=st.integers(0, 3))
    def lose_outbox_learning(self, size: int, durable: int) -> None:
        self.outbox.fail_next(durable)
        self.learn_with(size, publish=True, acknowledge=True)

    def learn_with(self, size: int, *, publish: bool, acknowledge: bool) -> None:
        batch = self.log[self.next : self.next + size]
        try:
            if batch:
                self.learner.process(batch)
                self.look(batch)
                self.reached("snapshot-written")
                self.next += len(batch)
                if publish:
                    made = Snapshot(copy.deepcopy(self.model), self.learner.next_offset, self.learner.learned)
                    self.snapshots.append(made)
                    self.learner.published()
                if acknowledge and (publish or self.acknowledges_early):
                    self.committed = self.next
        except DependencyDown:
            readable = [record.offset for record in batch if told_by(record)]
            if (
                readable and self.store._applied_label_offset >= readable[-1]
            ):  # the reply was lost, not the call
                self.look(batch)
        except Crash:
            self.look(batch)
            self.start()
        finally:
            self.quiet()

    def quiet(self) -> None:
        self.store.fault = self.armed = None
        self.outbox._durable.clear()

    @rule(size=st.integers(1, 6))
    def mature(self, size: int) -> None:
        self.mature_with(size)

    @rule(size=st.integers(1, 6), point=st.sampled_from(POINTS[3:]))
    def crash_maturing(self, size: int, point: str) -> None:
        self.armed = point
        self.mature_with(size)

    @rule(size=st.integers(1, 6), when=st.sampled_from(["before", "after"]))
    def lose_reply_maturing(self, size: int, when: str) -> None:
        self.store.fault = ("remove_pending", when)
        self.mature_with(size)

    @rule(size=st.integers(1, 6), durable=st.integers(0, 3))
    def lose_outbox_maturing(self, size: int, durable: int) -> None:
        self.outbox.fail_next(durable)
        self.mature_with(size)

    def mature_with(self, size: int) -> None:
        batch = self.scores[self.next_score : self.next_score + size]
        try:
            self.maturity.process(batch)
            self.next_score += len(batch)
        except DependencyDown:
            return
        except Crash:
            self.start()
        finally:
            self.quiet()

    @rule()
    def follow_on(self) -> None:
        self.followed = self.next_score

    @rule(back=st.integers(1, 3))
    def refuse_the_newest(self, back: int) -> None:
        """The newest models cannot be read: an older one learns on from its own place."""
        kept = max(len(self.snapshots) - back, 1)
        del self.snapshots[kept:]
        self.committed = min(self.committed, self.snapshots[-1].next_offset)
        self.start()

    def teardown(self) -> None:
        self.start()
        for _ in range(200):
            if self.next == len(self.log) and self.next_score == len(self.scores):
                break
            self.mature_with(50)
            self.learn_with(50, publish=True, acknowledge=True)
        assert (self.next, self.next_score) == (len(self.log), len(self.scores))
        self.judge()

    def judge(self) -> None:
        model, profiles, learned = undisturbed(self)
        assert self.model.bits() == model.bits(), "the model is not what the log says"
        assert self.learner.learned == learned
        for (kind, key), profile in profiles.items():
            assert repr(self.store.label_profile(kind, key)) == repr(profile), f"{kind} {key}"
        rejected = [dict(m.headers) for m in self.outbox.sent if m.topic == "dead-letters"]
        broken = {record.offset for record in self.log if told_by(record) is None}
        assert {int(h["offset"]) for h in rejected if h["reason"] != b"unknown_transaction"} == broken
        self.judge_early()

    def judge_early(self) -> None:
        """Whoever waited is learned, waits, or is a dead letter."""
        expired = {m.key for m in self.outbox.sent if dict(m.headers).get("reason") == b"unknown_transaction"}
        for offset in self.waited:
            told = told_by(self.log[offset])
            assert told is not None
            name = told["transaction_id"]
            waits = self.store.pending([name]) != [None]
            assert waits or name.encode() in expired or name in self.store._known, f"{name} is forgotten"
            assert not (waits and name in self.decided), f"{name} was not requeued"
        assert waited_by(self) == self.waited, "the log does not tell which labels waited"


def told_by(record: Record) -> dict[str, Any] | None:
    """What a label says; None of junk."""
    try:
        found: dict[str, Any] = json.loads(record.value or b"")
    except ValueError:
        return None
    return found


def waited_by(world: LabelWorld) -> set[int]:
    """Which labels found no decision, as the log, the dead letters and the pending labels tell it."""
    told = {record.offset: told_by(record) for record in world.log}
    names = {offset: label["transaction_id"] for offset, label in told.items() if label}
    letters = [message for message in world.outbox.sent if message.topic == "dead-letters"]
    heads = [(names.get(record.offset, ""), dict(record.headers)) for record in world.log]
    heads += [((letter.key or b"").decode(), dict(letter.headers)) for letter in letters]
    ends = [(name, int(head["waited"])) for name, head in heads if "waited" in head]
    pending = world.store._pending.items()
    ends += [(name, int(entry.partition(b" ")[0].rpartition(b":")[2])) for name, (_, entry) in pending]
    return {offset for name, end in ends for offset in names if names[offset] == name and offset <= end}


def undisturbed(world: LabelWorld) -> tuple[Any, dict[tuple[str, str], LabelProfile], int]:
    """One pass over the log of labels, by the rules of the contract."""
    model, learned = world.model_class(), 0
    known: dict[str, tuple[float, bool]] = {}
    profiles: dict[tuple[str, str], LabelProfile] = {}
    for record in world.log:
        told = told_by(record)
        if told is None or record.offset in world.waited:
            continue
        name, fraud = told["transaction_id"], told["is_fraud"]
        at = datetime.fromisoformat(told["known_at"]).timestamp() if told["source"] != "maturity" else 0.0
        if name in known and (known[name][1] == fraud or at < known[name][0]):
            if known[name][1] == fraud:
                known[name] = (max(at, known[name][0]), fraud)
            continue
        decision = world.decided[name]
        for kind, (key, _, _) in decision.entities.items():
            before = profiles.get((kind, key), no_labels(len(SPEC.half_lives)))
            delta = label_delta_of(name, decision.event_time.timestamp(), fraud, SPEC)
            profiles[kind, key] = apply_label(before, delta._replace(corrects=name in known))
        known[name] = (at, fraud)
        if fraud or chosen(name):
            model.learn_one(dict(decision.features or {}), fraud)
            learned += 1
    return model, profiles, learned


def chosen(name: str) -> bool:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()[0] < 128
