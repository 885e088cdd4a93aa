"""Every promise of the protocol holds in a world where anything may happen, and the judge is not blind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from models.features.profiles import ProfileSnapshot, no_labels
from stream.pipeline import Pipeline
from stream.ports import EventUpdate, Message, OtherLog
from stream.records import Record
from tests.properties.worlds.protocol_judge import SPEC
from tests.properties.worlds.protocol_workers import Worker
from tests.properties.worlds.protocol_world import ForgetfulWorld, Store, TwinWorld, World

PATIENT = settings(max_examples=80, stateful_step_count=40, deadline=None, report_multiple_bugs=False)


def test_every_promise_holds_whatever_happens_between_the_steps() -> None:
    run_state_machine_as_test(World, settings=PATIENT)


def test_a_store_that_loses_its_last_moments_is_made_right_by_redelivery() -> None:
    run_state_machine_as_test(ForgetfulWorld, settings=PATIENT)


def test_a_transaction_on_two_partitions_has_one_decision() -> None:
    run_state_machine_as_test(TwinWorld, settings=PATIENT)


# ---- the judge itself: each kind of damage is done on purpose, and seen


class RecordsNothing(Store):
    def record(self, decisions: Sequence[tuple[int, str, bytes]], **_: Any) -> list[bytes]:
        return [decision for _, _, decision in decisions]


class RecordsOver(Store):
    def record(self, decisions: Sequence[tuple[int, str, bytes]], **kwargs: Any) -> list[bytes]:
        for _, name, _ in decisions:
            self._decisions.pop(name, None)
        return super().record(decisions, **kwargs)


class ReturnsWhatIsOffered(Store):
    def record(self, decisions: Sequence[tuple[int, str, bytes]], **kwargs: Any) -> list[bytes]:
        super().record(decisions, **kwargs)
        return [decision for _, _, decision in decisions]


class AppliesAgain(Store):
    def apply(
        self, updates: Sequence[EventUpdate], **kwargs: Any
    ) -> list[tuple[ProfileSnapshot, ...] | None]:
        self._applied_offsets.clear()
        return super().apply(updates, **kwargs | {"recorded": {}})


class ReadsAfterwards(Store):
    def apply(
        self, updates: Sequence[EventUpdate], **kwargs: Any
    ) -> list[tuple[ProfileSnapshot, ...] | None]:
        super().apply(updates, **kwargs)
        none = no_labels(len(SPEC.half_lives))
        return [
            tuple(ProfileSnapshot(self.profile(e.kind, e.key), none) for e in update.entities)
            for update in updates
        ]


class TrimsTooEarly(Store):
    def apply(
        self, updates: Sequence[EventUpdate], **kwargs: Any
    ) -> list[tuple[ProfileSnapshot, ...] | None]:
        found = super().apply(updates, **kwargs)
        self._journals.clear()
        return found


class LosesAnEvent(Pipeline):
    def _admit(self, records: Sequence[Record], now: datetime) -> Any:
        arrivals, *others = super()._admit(records, now)
        return arrivals[:2], *others


class LosesDeadLetters(Pipeline):
    def process(self, records: Sequence[Record]) -> Any:
        outbox = self._outbox
        try:
            self._outbox = Silent(outbox, "dead-letters")
            return super().process(records)
        finally:
            self._outbox = outbox


class EmitsOnlyOnce(Pipeline):
    def _outgoing(self, *args: Any) -> Any:
        return (message for message in super()._outgoing(*args) if not message.headers)


class ForgetsWhereItWas(Pipeline):
    def process(self, records: Sequence[Record]) -> Any:
        self._recorded.clear()
        return super().process(records)


class Silent:
    def __init__(self, outbox: Any, topic: str) -> None:
        self.outbox, self.topic = outbox, topic

    def send(self, messages: Iterable[Message]) -> None:
        self.outbox.send([message for message in messages if message.topic != self.topic])


class AcknowledgesFirst(World):
    def before_work(self, worker: Worker) -> None:
        for record in worker.hand:
            self.committed[record.partition] = max(self.committed[record.partition], record.offset + 1)


def planted(bug: type[Store | Pipeline], world: type[World] = World) -> type[World]:
    """A world in which something is wrong."""
    what = "store_class" if issubclass(bug, Store) else "pipeline_class"
    return type(bug.__name__, (world,), {what: bug})


BUGS: list[type[World]] = [
    *map(planted, (RecordsNothing, RecordsOver, AppliesAgain, ReadsAfterwards)),
    *map(planted, (TrimsTooEarly, LosesAnEvent, LosesDeadLetters, EmitsOnlyOnce)),
    planted(ForgetsWhereItWas, ForgetfulWorld),
    AcknowledgesFirst,
]


@pytest.mark.parametrize("world", BUGS, ids=lambda world: world.__name__)
def test_the_judge_sees(world: type[World]) -> None:
    hunt = settings(
        max_examples=1000,
        deadline=None,
        phases=[Phase.generate],
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
    )
    # In what is worked off at the end a worker may meet the damage too, and stop by itself.
    with pytest.raises((AssertionError, OtherLog)):
        run_state_machine_as_test(world, settings=hunt)


def twins_meet(store: type[Store]) -> TwinWorld:
    """Two workers hold the same transaction on two partitions, and both have read before either records."""
    world = TwinWorld()
    world.store = store(SPEC.half_lives)
    world.pay(cards=[0], merchant="m0", device=None, amount=100, step=1)
    world.pay_elsewhere(which=0)
    world.meanwhile(number=0, sizes=(1, 1), point="scored", other=(1, 1), acknowledge=True)
    return world


def test_the_judge_sees_what_was_made_sent_in_place_of_what_is_recorded() -> None:
    twins_meet(Store).teardown()
    with pytest.raises(AssertionError, match="different decisions"):
        twins_meet(ReturnsWhatIsOffered).teardown()
