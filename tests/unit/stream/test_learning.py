"""Labels become examples: the latest wins, an assumed one overrules nobody, nothing is learned twice."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from models.features.spec import FeatureSpec
from stream.adapters.memory.store import MemoryOutbox, MemoryStore
from stream.admission import Limits
from stream.learning import ASSUMED_GENUINE, LearnCounts, Learner, is_sampled, pending_entry, waited
from stream.messages import Decision, Label, encode
from stream.ports import DependencyDown, LabelsBehind
from stream.records import Record

SPEC = FeatureSpec()
NOW = datetime(2024, 5, 1, tzinfo=UTC)


class Notebook:
    """A model that writes down what it learns."""

    def __init__(self) -> None:
        self.learned: list[tuple[float, bool]] = []

    def learn_one(self, x: dict[str, float], y: bool) -> None:
        self.learned.append((x["number"], y))


class Desk:
    """A learner with everything around it in memory."""

    def __init__(self, negative_sampling_rate: float = 1.0) -> None:
        self.store = MemoryStore(SPEC.half_lives)
        self.outbox = MemoryOutbox()
        self.model = Notebook()
        self.log: list[Record] = []
        self.negative_sampling_rate = negative_sampling_rate
        self.learner = self.start()

    def start(self, next_offset: int = 0) -> Learner:
        return Learner(
            model=self.model,
            next_offset=next_offset,
            decisions=self.store,
            labels=self.store,
            outbox=self.outbox,
            clock=lambda: NOW,
            spec=SPEC,
            negative_sampling_rate=self.negative_sampling_rate,
            labels_topic="labels",
            dead_letters="dead-letters",
            limits=Limits(future_tolerance=1e9),
        )

    def decide(self, number: int) -> None:
        decision = Decision(
            transaction_id=f"t{number}",
            event_time=NOW,
            card_id=f"c{number}",
            merchant_id="m",
            amount_minor=100,
            currency="EUR",
            score=0.1,
            action="approve",
            reasons=[],
            model_version="x",
            decided_at=NOW,
            features={"number": float(number)},
            entities={"card": (f"c{number}", 0, 0), "merchant": ("m", number, 0)},
        )
        fencing_tokens = self.store.claim([0])
        self.store.record([(0, decision.transaction_id, encode(decision))], fencing_tokens=fencing_tokens)

    def append(self, value: bytes | None) -> Record:
        record = Record("labels", 0, len(self.log), int(NOW.timestamp() * 1000), b"k", value)
        self.log.append(record)
        return record

    def tell(self, number: int, *, fraud: bool, day: float = 1.0, source: str = "analyst") -> Record:
        known_at = NOW + timedelta(days=day)
        label = Label(transaction_id=f"t{number}", is_fraud=fraud, known_at=known_at, source=source)
        return self.append(encode(label))

    def learn(self, *records: Record) -> LearnCounts:
        return self.learner.process(records)

    def reappear(self) -> None:
        """What was put into the log again stands there now."""
        for value in self.outbox.values("labels"):
            self.append(value)
        self.outbox.sent.clear()


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.decide(1)
    return made


def test_a_label_is_learned_with_the_features_as_served(desk: Desk) -> None:
    counts = desk.learn(desk.tell(1, fraud=True))
    assert desk.model.learned == [(1.0, True)]
    assert (counts.labels, counts.learned, counts.frauds) == (1, 1, 1)
    assert desk.store.label_profile("merchant", "m").frauds == 1
    assert desk.store.label_profile("card", "c1").frauds == 1


def test_the_same_label_twice_is_learned_once(desk: Desk) -> None:
    counts = desk.learn(desk.tell(1, fraud=True), desk.tell(1, fraud=True), desk.tell(1, fraud=True, day=9))
    assert desk.model.learned == [(1.0, True)]
    assert counts.duplicates == 2
    assert desk.store.label_profile("merchant", "m").frauds == 1


def test_a_correction_is_learned_and_takes_the_statistic_back(desk: Desk) -> None:
    counts = desk.learn(desk.tell(1, fraud=True, day=1), desk.tell(1, fraud=False, day=2))
    assert desk.model.learned == [(1.0, True), (1.0, False)]
    assert counts.corrections == 1
    known = desk.store.label_profile("merchant", "m")
    assert (known.frauds, known.genuine) == (0, 1)


def test_older_knowledge_that_contradicts_is_superseded(desk: Desk) -> None:
    counts = desk.learn(desk.tell(1, fraud=True, day=2), desk.tell(1, fraud=False, day=1))
    assert desk.model.learned == [(1.0, True)]
    assert counts.superseded == 1


def test_of_knowledge_of_one_moment_the_later_in_the_log_wins(desk: Desk) -> None:
    desk.learn(desk.tell(1, fraud=True, day=1), desk.tell(1, fraud=False, day=1))
    assert desk.model.learned[-1] == (1.0, False)


def final(desk: Desk) -> tuple[int, int]:
    known = desk.store.label_profile("merchant", "m")
    return known.frauds, known.genuine


@pytest.mark.parametrize("order", list(permutations([(True, 1.0), (False, 2.0), (True, 3.0)])))
def test_the_latest_knowledge_wins_in_any_order(order: Sequence[tuple[bool, float]]) -> None:
    desk = Desk()
    desk.decide(1)
    desk.learn(*[desk.tell(1, fraud=fraud, day=day) for fraud, day in order])
    assert final(desk) == (1, 0)
    assert desk.model.learned[-1] == (1.0, True)


@pytest.mark.parametrize("day", [-30.0, -0.001, 0.0, 0.001, 5.0, 90.0])
@pytest.mark.parametrize("silence_first", [True, False])
def test_assumed_label_never_overrules_a_report(day: float, silence_first: bool) -> None:
    desk = Desk()
    desk.decide(1)

    def silence() -> Record:
        return desk.tell(1, fraud=False, day=30.0, source=ASSUMED_GENUINE)

    if silence_first:
        desk.learn(silence(), desk.tell(1, fraud=True, day=day))
    else:
        desk.learn(desk.tell(1, fraud=True, day=day), silence())
    desk.learn(silence())
    assert final(desk) == (1, 0)
    assert desk.model.learned[-1] == (1.0, True)


def test_assumed_label_does_not_take_the_place_of_a_report_that_waits() -> None:
    desk = Desk()
    desk.learn(desk.tell(1, fraud=True, day=1), desk.tell(1, fraud=False, day=30, source=ASSUMED_GENUINE))
    [entry] = desk.store.pending(["t1"])
    assert entry is not None
    assert json.loads(waited(entry)[1])["is_fraud"] is True


def test_all_frauds_and_the_chosen_share_of_the_genuine_are_learned() -> None:
    desk = Desk(negative_sampling_rate=0.3)
    records = []
    for number in range(200):
        desk.decide(number)
        records.append(desk.tell(number, fraud=number % 2 == 0))
    desk.learn(*records)
    frauds = {number for number, fraud in desk.model.learned if fraud}
    genuine = {number for number, fraud in desk.model.learned if not fraud}
    assert frauds == set(range(0, 200, 2))
    assert genuine == {number for number in range(1, 200, 2) if is_sampled(f"t{number}", 0.3)}
    assert final(desk) == (100, 100)  # entities know of all of them


def test_the_choice_has_the_rate_and_is_nested() -> None:
    names = [f"x{number}" for number in range(20_000)]
    few = {name for name in names if is_sampled(name, 0.05)}
    many = {name for name in names if is_sampled(name, 0.2)}
    assert few < many
    assert abs(len(few) / 20_000 - 0.05) < 0.01
    assert all(is_sampled(name, 1.0) for name in names)
    assert not any(is_sampled(name, 0.0) for name in names)


# ---- early labels


def test_an_early_label_waits_and_nothing_is_learned() -> None:
    desk = Desk()
    counts = desk.learn(desk.tell(1, fraud=True))
    assert (counts.pending, counts.learned, desk.model.learned) == (1, 0, [])
    assert desk.store.pending(["t1"]) == [pending_entry(desk.log[0])]
    assert desk.outbox.sent == []


class LateDecisions:
    """Decisions that appear between the learner's first look and its second."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.asked = 0

    def decisions(self, transaction_ids: Sequence[str]) -> list[bytes | None]:
        self.asked += 1
        if self.asked == 2:
            self.desk.decide(1)
        return self.desk.store.decisions(transaction_ids)


def test_a_decision_that_comes_while_its_label_goes_to_wait_is_not_missed() -> None:
    desk = Desk()
    desk.learner._decisions = LateDecisions(desk)
    desk.learn(desk.tell(1, fraud=True))
    assert desk.store.pending(["t1"]) == [None]
    desk.reappear()
    desk.learn(desk.log[-1])
    assert desk.model.learned == [(1.0, True)]


def test_a_label_that_is_called_in_says_up_to_where_its_transactions_labels_waited() -> None:
    desk = Desk()
    desk.learn(desk.tell(1, fraud=False, day=5), desk.tell(1, fraud=True, day=2))
    desk.learner._decisions = LateDecisions(desk)
    desk.learn(desk.tell(1, fraud=True, day=3))
    assert [dict(message.headers) for message in desk.outbox.sent] == [{"waited": b"2"}, {"waited": b"2"}]
    desk.reappear()
    desk.learn(*desk.log[3:])
    assert desk.model.learned == [(1.0, False)], "the latest knowledge, though an older one was requeued too"


def test_a_label_that_waited_is_learned_once_however_often_it_is_called_in() -> None:
    desk = Desk()
    early = desk.tell(1, fraud=True)
    desk.learn(early)
    desk.decide(1)
    desk.learner = (
        desk.start()
    )  # from the last snapshot: the label comes again, and its decision is known now
    desk.learn(early)
    desk.learner = desk.start()
    desk.learn(early)
    assert desk.model.learned == []
    desk.reappear()
    assert len(desk.log) == 3
    counts = desk.learn(*desk.log[1:])
    assert desk.model.learned == [(1.0, True)]
    assert counts.duplicates == 1


def test_of_early_labels_the_latest_knowledge_is_called_in() -> None:
    desk = Desk()
    desk.learn(desk.tell(1, fraud=False, day=5), desk.tell(1, fraud=True, day=2))
    [entry] = desk.store.pending(["t1"])
    assert entry is not None
    assert waited(entry)[0] == 0


# ---- a store that lost its last moments


def test_a_store_that_lost_labels_is_given_them_again_and_nothing_is_learned_twice() -> None:
    desk = Desk()
    for number in (1, 2, 3):
        desk.decide(number)
    early = copy.deepcopy(desk.store)
    desk.learn(desk.tell(1, fraud=True), desk.append(b"junk"))
    older = copy.deepcopy(desk.store)
    desk.learn(desk.tell(2, fraud=True))
    wanted, learned = desk.store, list(desk.model.learned)
    desk.learner._labels = desk.learner._decisions = desk.store = older
    last = desk.tell(3, fraud=True)
    with pytest.raises(LabelsBehind) as lost:
        desk.learn(last)
    assert (lost.value.start, desk.model.learned) == (2, learned)
    desk.learner.give_again(desk.log[2:3])
    assert desk.store.label_profile("merchant", "m") == wanted.label_profile("merchant", "m")
    desk.learn(last)
    assert desk.model.learned == [(1.0, True), (2.0, True), (3.0, True)]
    desk.learner._labels = early
    with pytest.raises(LabelsBehind) as lost:
        desk.learn(desk.tell(3, fraud=False))
    assert lost.value.start == 0, "it holds nothing at all"


# ---- tries, crashes, bad input


def test_a_batch_that_failed_is_learned_whole_at_the_next_try(desk: Desk) -> None:
    batch = [desk.tell(1, fraud=True), desk.append(b"junk")]
    desk.outbox.fail_next()
    with pytest.raises(DependencyDown):
        desk.learn(*batch)
    assert desk.model.learned == []
    assert desk.learner.next_offset == 0
    counts = desk.learn(*batch)
    assert desk.model.learned == [(1.0, True)]
    assert (counts.learned, counts.rejected) == (1, 1)


def test_a_restart_from_the_snapshot_learns_the_same_again(desk: Desk) -> None:
    batch = [desk.tell(1, fraud=True), desk.tell(1, fraud=False, day=3), desk.tell(1, fraud=True, day=2)]
    desk.learn(*batch)
    before, statistics = list(desk.model.learned), final(desk)
    desk.model = Notebook()
    desk.learner = desk.start()
    for record in batch:
        desk.learn(record)
    assert desk.model.learned == before
    assert final(desk) == statistics


def test_what_the_snapshot_holds_is_not_learned_again(desk: Desk) -> None:
    first, second = desk.tell(1, fraud=True), desk.tell(1, fraud=False, day=3)
    desk.learn(first)
    desk.learner.published()
    desk.learner = desk.start(desk.learner.next_offset)
    counts = desk.learn(first, second)
    assert desk.model.learned == [(1.0, True), (1.0, False)]
    assert counts.labels == 1


def test_an_older_model_than_the_published_one_learns_what_it_lacks() -> None:
    desk = Desk()
    for number in range(6):
        desk.decide(number)
        desk.learn(desk.tell(number, fraud=True))
        desk.learner.published()
    whole = list(desk.model.learned)
    desk.model = Notebook()
    desk.model.learned = whole[:2]  # the newer ones were refused
    desk.learner = desk.start(2)
    desk.learn(*desk.log[2:])
    assert desk.model.learned == whole


def test_a_wrong_label_becomes_a_dead_letter_and_the_rest_is_learned(desk: Desk) -> None:
    counts = desk.learn(desk.append(b"{"), desk.append(None), desk.tell(1, fraud=True))
    assert (counts.rejected, counts.learned) == (2, 1)
    letters = [dict(message.headers) for message in desk.outbox.sent]
    assert [(letter["reason"], letter["offset"]) for letter in letters] == [
        (b"not_json", b"0"),
        (b"null_value", b"1"),
    ]


def test_the_knowledge_time_only_rises(desk: Desk) -> None:
    desk.learn(desk.tell(1, fraud=True, day=5))
    desk.learn(desk.tell(1, fraud=True, day=2))
    assert desk.learner.event_time == NOW + timedelta(days=5)
