from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import numpy as np
import pytest

from models.features.compute import entities_of, event_of, features_of, label_delta_of
from models.features.spec import DEFAULT_SPEC
from models.metrics.ranking import average_precision
from models.scoring.fraud_model import FraudModel
from models.scoring.registry import build_model
from producers.simulator.simulate import DEMO, simulate_with_truth
from producers.sources.simulated import labelled
from stream.adapters.memory.store import MemoryStore
from stream.experiment.candidate import Candidate, ModelFailedError
from stream.experiment.engine import Engine, EngineSettings
from stream.learning import is_sampled
from stream.messages import Label, Transaction, encode
from stream.policy import Policy
from stream.ports import EntityRef, EventUpdate, LabelUpdate
from tests.support.builders import label, payment

START = datetime(2026, 1, 1, tzinfo=UTC)
Items = list[Transaction | Label]


class Spy:
    """A model that notes what it is asked and told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, float]]] = []
        self.frauds = 1000

    def score_one(self, x: dict[str, float]) -> float:
        self.calls.append(("score", dict(x)))
        return 0.5

    def learn_one(self, x: dict[str, float], y: bool) -> None:
        self.calls.append(("fraud" if y else "genuine", dict(x)))

    def explain_one(self, _: dict[str, float]) -> list[tuple[str, float]]:
        return []

    def threshold(self, _: float) -> float:
        return 0.9


def paid(number: int, *, card: str = "c", minutes: float = 0.0, amount: int = 1000) -> Transaction:
    merchant = f"m{number % 7}"
    return payment(number, start=START, minutes=minutes, card=card, merchant=merchant, amount=amount)


def reported(number: int, *, fraud: bool, minutes: float) -> Label:
    return label(number, fraud=fraud, start=START, minutes=minutes)


def engine_of(model: Any, **settings: Any) -> Engine:
    return Engine([Candidate("spy", model, Policy())], EngineSettings(**{"spec": DEFAULT_SPEC, **settings}))


def simulated(count: int, seed: int = 3, delay: float = 7.0) -> Items:
    items = labelled(simulate_with_truth(DEMO, seed=seed), timedelta(days=delay))
    return list(islice(items, count))


def test_every_score_comes_before_its_own_label_and_every_lesson_after() -> None:
    spy = Spy()
    items: Items = [
        paid(0, minutes=0),
        paid(1, minutes=1),
        reported(0, fraud=True, minutes=2),
        paid(2, minutes=3),
        reported(1, fraud=True, minutes=4),
    ]
    engine_of(spy).run(items)
    assert [what for what, _ in spy.calls] == ["score", "score", "fraud", "score", "fraud"]


def test_label_speaks_in_features_only_once_it_is_known() -> None:
    spy = Spy()
    engine_of(spy).run(
        [
            paid(0, minutes=0),
            paid(1, minutes=1),
            reported(0, fraud=True, minutes=2),
            paid(2, minutes=3),
        ]
    )
    first, second, third = (x for what, x in spy.calls if what == "score")
    assert not any("fraud" in name for name in {*first, *second})
    assert third["card.fraud_run"] == 1.0


def test_lesson_is_the_features_as_served() -> None:
    spy = Spy()
    items: Items = [paid(i, minutes=i, amount=1000 + i) for i in range(30)]
    engine_of(spy).run([*items, reported(4, fraud=True, minutes=60)])
    served = [x for what, x in spy.calls if what == "score"][4]
    assert [x for what, x in spy.calls if what == "fraud"] == [served]


def test_all_frauds_and_the_chosen_genuine_are_learned() -> None:
    spy = Spy()
    items: Items = [paid(i, minutes=i) for i in range(400)]
    labels: Items = [reported(i, fraud=i % 40 == 0, minutes=500) for i in range(400)]
    engine_of(spy, negative_sampling_rate=0.2).run([*items, *labels])
    chosen = sum(is_sampled(f"t{i}", 0.2) for i in range(400) if i % 40)
    assert [what for what, _ in spy.calls].count("fraud") == 10
    assert [what for what, _ in spy.calls].count("genuine") == chosen > 0


def test_features_are_those_of_the_store_and_of_the_learner_to_the_bit() -> None:
    items = simulated(6000, delay=2.0)
    spy = Spy()
    engine_of(spy).run(items)
    assert [x for what, x in spy.calls if what == "score"] == list(_by_the_store(items))


def _by_the_store(items: Sequence[Transaction | Label]) -> Iterator[dict[str, float]]:
    """The features as a worker and a learner on one store give them, one event at a time."""
    spec = DEFAULT_SPEC
    store = MemoryStore(spec.half_lives)
    fencing_tokens = store.claim([0])
    seen: dict[str, tuple[float, tuple[EntityRef, ...]]] = {}
    for offset, item in enumerate(items):
        if isinstance(item, Transaction):
            event = event_of(item, spec)
            refs = tuple(EntityRef(*entity) for entity in entities_of(item, spec))
            (snapshot,) = store.apply(
                [EventUpdate(0, offset, event, refs)],
                ends={0: offset},
                recorded={},
                fencing_tokens=fencing_tokens,
            )
            assert snapshot is not None
            seen[item.transaction_id] = event.time, refs
            yield features_of(item, event_of(item, spec), tuple(ref.kind for ref in refs), snapshot, spec)
        else:
            happened, refs = seen[item.transaction_id]
            known = label_delta_of(item.transaction_id, happened, item.is_fraud, spec)
            at = item.known_at.timestamp()
            update = LabelUpdate(offset, item.transaction_id, item.is_fraud, at, known, refs, encode(item))
            assert store.apply_labels([update], learned=0) == ["new"]


def test_second_transaction_of_an_id_is_left_out_and_counted() -> None:
    engine = engine_of(Spy())
    engine.run([paid(0), paid(1, minutes=1), paid(0, minutes=2)])
    assert (len(engine.times), engine.duplicates, engine.first_duplicate) == (2, 1, "t0")


def test_label_without_a_transaction_is_counted() -> None:
    engine = engine_of(Spy())
    engine.run([reported(9, fraud=True, minutes=0), paid(0, minutes=1)])
    assert engine.unmatched == 1


@pytest.mark.parametrize("where", ["score_one", "learn_one", "explain_one"])
def test_model_that_raises_is_named_with_its_transaction(where: str) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("division\nby zero")

    spy = Spy()
    setattr(spy, where, broken)
    with pytest.raises(
        ModelFailedError, match=r"^model spy: raised ZeroDivisionError while .* t0: division by zero"
    ):
        engine_of(spy).run([paid(0), reported(0, fraud=True, minutes=1)])


def test_interrupted_pass_keeps_whole_columns() -> None:
    class Stopped(Spy):
        def score_one(self, x: dict[str, float]) -> float:
            if len(self.calls) == 20:
                raise KeyboardInterrupt
            return super().score_one(x)

    engine = engine_of(Stopped())
    with pytest.raises(KeyboardInterrupt):
        engine.run([paid(i, minutes=i) for i in range(50)])
    assert len(engine.times) == len(engine.fraud) == len(engine.candidates[0].scores) == 20


def test_batch_scorer_gives_each_row_the_score_it_would_have_had_alone() -> None:
    class Steps:
        """Its score is how many frauds it has learned, and it changes at every second."""

        def __init__(self) -> None:
            self.frauds, self.told = 1000, 0.0

        @property
        def learns_next(self) -> bool:
            return self.frauds % 2 == 1

        def score_one(self, _: dict[str, float]) -> float:
            return self.told

        def learn_one(self, _: dict[str, float], y: bool) -> None:
            self.frauds += y
            if self.frauds % 2 == 0:
                self.told = (self.frauds - 1000) / 100.0

        def explain_one(self, _: dict[str, float]) -> list[tuple[str, float]]:
            return []

        def threshold(self, _: float) -> float:
            return 0.035

    class Many(Steps):
        def score_many(self, rows: list[dict[str, float]]) -> list[float]:
            return [self.score_one(row) for row in rows]

    items: Items = []
    for i in range(60):
        items += [paid(i, minutes=i), reported(i, fraud=i % 5 == 0, minutes=i)]
    one, many = engine_of(Steps()), engine_of(Many())
    one.run(items)
    many.run(items)
    assert many.candidates[0].scores == one.candidates[0].scores
    assert many.candidates[0].alerted == one.candidates[0].alerted
    assert sum(one.candidates[0].alerted) > 0


def test_model_made_of_the_default_one_gets_features_by_name_and_scores_alike() -> None:
    class Curious(FraudModel):
        def score_one(self, x: Any) -> float:
            assert x["amount"] > 0.0
            return super().score_one({**x})

    items = simulated(12_000, delay=2.0)
    default, curious = (
        engine_of(kind(0.9, crosses=DEFAULT_SPEC.crosses), negative_sampling_rate=0.9)
        for kind in (FraudModel, Curious)
    )
    default.run(items)
    curious.run(items)
    assert default.candidates[0].takes_rows
    assert not curious.candidates[0].takes_rows
    assert curious.candidates[0].scores == default.candidates[0].scores


# ---- leaks


def _quality(items: Sequence[Transaction | Label], burn_in: float = 0.4) -> tuple[float, float]:
    """Average precision after a burn-in, and the share of frauds: what chance gives."""
    engine = engine_of(build_model())
    engine.run(items)
    first = int(len(engine.times) * burn_in)
    fraud = np.array(engine.fraud)[first:]
    known = fraud >= 0
    scores = np.array(engine.candidates[0].scores)[first:][known]
    return average_precision(fraud[known], scores), float(fraud[known].mean())


def _bursts(delay: timedelta, seed: int = 5) -> Items:
    """Cards are stolen for half a day; nothing but the labels of that half day tells which."""
    chance = random.Random(seed)
    stolen: dict[int, float] = {}
    coming: list[tuple[datetime, Label]] = []
    items: Items = []
    for number in range(6000):
        minutes = number * 5.0
        card = chance.randrange(60)
        if chance.random() < 0.004:
            stolen[chance.randrange(60)] = minutes + 720.0
        one = paid(number, card=f"c{card}", minutes=minutes, amount=chance.randrange(500, 5000))
        while coming and coming[0][0] <= one.event_time:
            items.append(coming.pop(0)[1])
        items.append(one)
        known = one.event_time + delay
        is_fraud = stolen.get(card, -1.0) > minutes
        coming.append((known, label(number, fraud=is_fraud, start=known)))
    return items + [each for _, each in coming]


def test_planted_leak_is_found_where_honest_labels_give_chance() -> None:
    honest, base = _quality(_bursts(timedelta(days=2)))
    leaking, _ = _quality(_bursts(timedelta(0)))  # a label is used the moment its transaction is over
    assert honest < 2.0 * base
    assert leaking > 6.0 * base


def test_shuffled_labels_give_chance() -> None:
    items = simulated(12_000, delay=2.0)
    labels = [item for item in items if isinstance(item, Label)]
    truth = [each.is_fraud for each in labels]
    random.Random(1).shuffle(truth)
    told = dict(zip((each.transaction_id for each in labels), truth, strict=True))
    shuffled: Items = [
        Label(
            transaction_id=item.transaction_id,
            is_fraud=told[item.transaction_id],
            known_at=item.known_at,
            source="x",
        )
        if isinstance(item, Label)
        else item
        for item in items
    ]
    found, base = _quality(shuffled)
    real, _ = _quality(items)
    assert found < 3.0 * base
    assert real > 6.0 * base
