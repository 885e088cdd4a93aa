"""The learner's model is what the log of labels says, whatever happens; and the judge is not blind."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from models.scoring.registry import build_model
from stream.learning import waited
from stream.ports import LabelUpdate, Message
from tests.properties.worlds.label_parts import Labels, Notebook
from tests.properties.worlds.label_world import POINTS, LabelWorld, undisturbed

PROBES = [{"amount": float(n), "hour": n % 24.0, "card.z.30d": n / 40.0} for n in range(0, 97, 3)]


class Classifier:
    """The real model."""

    def __init__(self) -> None:
        self.model = build_model(negative_sampling_rate=0.5)

    def learn_one(self, x: dict[str, float], y: bool) -> None:
        self.model.learn_one(x, y)

    def bits(self) -> str:
        return repr([(self.model.score_one(x), self.model.explain_one(x)) for x in PROBES])


class RealWorld(LabelWorld):
    model_class = Classifier


WORLD = settings(max_examples=80, stateful_step_count=50, deadline=None, report_multiple_bugs=False)


def test_the_model_is_what_the_log_says_whatever_happens() -> None:
    run_state_machine_as_test(LabelWorld, settings=WORLD)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_real_model_gives_the_same_bits_whatever_happens(seed: int) -> None:
    chance, world = Random(seed), RealWorld()
    for _ in range(400):
        world.decide(step=chance.choice([0.0, 0.5, 2.0]), count=3)
        for _ in range(3):
            ahead = chance.randint(-60, 1)
            large = (len(world.decided) + ahead) * 13.7 % 97 > 50.0
            world.tell(ahead, large != (chance.random() < 0.1), chance.randint(0, 30), 1, silent=False)
        match chance.randrange(12):
            case 0:
                world.crash_learning(20, chance.choice(POINTS[:3]))
            case 1:
                world.crash_maturing(20, chance.choice(POINTS[3:]))
            case 2:
                world.refuse_the_newest(1)
            case 3:
                world.start()
            case _:
                world.mature(20)
                world.learn(20, publish=chance.random() < 0.7, acknowledge=True)
    world.teardown()
    model, _, learned = undisturbed(world)
    assert learned > 500
    assert len({str(model.model.score_one(probe)) for probe in PROBES}) > 1  # it has learned to tell apart


# ---- the judge itself: each kind of damage is done on purpose, and seen


class AppliesAgain(Labels):
    def apply_labels(self, labels: Sequence[LabelUpdate], *, learned: int, passed: int = -1) -> Any:
        self._applied_label_offset = -1
        return super().apply_labels(labels, learned=learned, passed=passed)


class KeepsNoJournal(Labels):
    def apply_labels(self, labels: Sequence[LabelUpdate], *, learned: int, passed: int = -1) -> Any:
        found = super().apply_labels(labels, learned=learned, passed=passed)
        self._statuses.clear()
        return found


class LosesPendingLabels(Labels):
    def pending(self, transaction_ids: Sequence[str]) -> list[bytes | None]:
        return [None for _ in transaction_ids]


class ForgetsCorrections(Labels):
    def apply_labels(self, labels: Sequence[LabelUpdate], *, learned: int, passed: int = -1) -> Any:
        found = super().apply_labels(labels, learned=learned, passed=passed)
        return ["duplicate" if status == "correction" else status for status in found]


class LearnsTwice(Notebook):
    def learn_one(self, x: dict[str, float], y: bool) -> None:
        super().learn_one(x, y)
        super().learn_one(x, y)


def leaves_first(
    outbox: Any, labels: Any, topic: str, entries: Sequence[tuple[str, bytes]], _reached: Any = None
) -> None:
    labels.remove_pending(entries)
    outbox.send([Message(topic, name.encode(), waited(entry)[1]) for name, entry in entries])


def world(**changes: Any) -> type[LabelWorld]:
    """A world in which something is wrong."""
    return type("Broken", (LabelWorld,), changes)


def hunted(broken: type[LabelWorld]) -> None:
    hunt = settings(WORLD, max_examples=1000, phases=[Phase.generate], database=None, derandomize=True)
    with pytest.raises((AssertionError, KeyError)):
        run_state_machine_as_test(broken, settings=hunt)


@pytest.mark.parametrize("store", [AppliesAgain, KeepsNoJournal, LosesPendingLabels, ForgetsCorrections])
def test_the_judge_sees_a_store_that_is_not_exact(store: type[Labels]) -> None:
    hunted(world(store_class=store))


def test_the_judge_sees_an_example_learned_twice_and_a_label_acknowledged_too_early() -> None:
    hunted(world(acknowledges_early=True))
    learned_twice = world(model_class=LearnsTwice)()
    learned_twice.decide(step=0.0, count=1)
    learned_twice.tell(ahead=-1, fraud=True, day=1, copies=1, silent=False)
    learned_twice.learn_with(6, publish=True, acknowledge=True)
    learned_twice.model_class = Notebook
    with pytest.raises(AssertionError, match="not what the log says"):
        learned_twice.judge()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("stream.learning.JOURNAL_KEPT", 0),  # statuses are forgotten up to a model that is refused
        ("stream.learning.NOTHING_KNOWN", 4e9),  # an assumed label knows better than any report
    ],
)
def test_the_judge_sees_a_rule_broken(monkeypatch: pytest.MonkeyPatch, place: str, value: object) -> None:
    monkeypatch.setattr(place, value)
    hunted(LabelWorld)


def requeued_while_kafka_is_away() -> LabelWorld:
    early = LabelWorld()
    early.tell(ahead=0, fraud=True, day=1, copies=1, silent=False)
    early.learn_with(6, publish=True, acknowledge=True)
    early.decide(step=0.0, count=1)
    early.outbox.fail_next()
    early.mature_with(6)
    return early


def test_the_judge_sees_a_label_that_left_before_it_was_in_the_log_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requeued_while_kafka_is_away().teardown()
    monkeypatch.setattr("stream.learning.requeue", leaves_first)
    with pytest.raises(AssertionError, match="t0 is forgotten"):
        requeued_while_kafka_is_away().teardown()
