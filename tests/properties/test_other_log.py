"""A log whose offsets begin again, where nothing but the offsets could tell: no event is read as another's.

The old log is worked on, in batches of any size, and its journal trimmed as workers trim it. Then another log
stands under the same name: some of its transactions are of the old one, most are not.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.adapters.memory.store import MemoryOutbox, MemoryStore
from stream.admission import Limits
from stream.messages import Decision, decision_decoder, encode
from stream.pipeline import DecisionTopics, Pipeline
from stream.policy import Policy
from stream.ports import OtherLog
from stream.records import Epoch, Epochs, Record
from tests.properties.worlds.protocol_judge import SPEC
from tests.properties.worlds.protocol_workers import Model
from tests.support.builders import payment

CAME = int(datetime(2026, 2, 1, tzinfo=UTC).timestamp() * 1000)
NAMES = st.lists(st.integers(0, 30), min_size=1, max_size=20, unique=True)
SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=20)


def log_of(names: list[int]) -> list[Record]:
    """One partition; each transaction has a card of its own."""
    payments = [payment(name, minutes=name, card=f"c{name}") for name in names]
    return [
        Record("transactions", 0, offset, CAME, each.card_id.encode(), encode(each))
        for offset, each in enumerate(payments)
    ]


class World:
    """One store, and a worker that begins anew for each log."""

    def __init__(self) -> None:
        self.store, self.outbox = MemoryStore(SPEC.half_lives), MemoryOutbox()

    def work(self, log: list[Record], sizes: list[int], epochs: Epochs) -> int:
        """Work on a log from its first offset; returns how much of it is acknowledged."""
        pipeline = Pipeline(
            store=self.store,
            outbox=self.outbox,
            model=lambda: Model(1),
            clock=lambda: datetime(2026, 2, 1, tzinfo=UTC),
            spec=SPEC,
            policy=Policy(),
            topics=DecisionTopics("scores", "alerts", "dead-letters"),
            limits=Limits(),
        )
        pipeline.on_assigned([0])
        pipeline.set_epochs(epochs)
        acknowledged = 0
        with suppress(OtherLog):
            while batch := log[acknowledged : acknowledged + sizes[acknowledged % len(sizes)]]:
                pipeline.process(batch)
                acknowledged += len(batch)
        return acknowledged

    def adopt(self) -> None:
        """What `adopt.lua` does, and after it `claim`."""
        self.store._applied_offsets.clear()
        self.store._journals.clear()
        self.store._trimmed.clear()

    def judge(self, acknowledged: list[Record]) -> None:
        """Each acknowledged event has its own decision, made of its own card's profile and of no other."""
        decisions: dict[str, Decision] = {}
        for value in self.outbox.values("scores"):
            decision = decision_decoder.decode(value or b"")
            assert decisions.setdefault(decision.transaction_id, decision) == decision, "one, however often"
        for record in acknowledged:
            card = (record.key or b"").decode()
            decision = decisions[f"t{card[1:]}"]
            assert decision.card_id == card
            assert decision.entities["card"] == (card, 0, 0), "nobody else has its card"
            assert self.store.profile("card", card).updates == 1


@settings(max_examples=100)
@given(NAMES, SIZES, NAMES, SIZES)
def test_no_event_of_another_log_is_read_as_one_of_the_old_or_acknowledged_without_its_decision(
    old: list[int], sizes: list[int], new: list[int], new_sizes: list[int]
) -> None:
    world = World()
    assert world.work(log_of(old), sizes, Epochs()) == len(old)
    done = world.work(log_of(new), new_sizes, Epochs())
    # What lies beyond the old log's end is new to it, and nothing can tell: the topic's id does.
    world.judge([*log_of(old), *log_of(new)[: min(done, len(old))]])


@settings(max_examples=100)
@given(NAMES, SIZES, NAMES, SIZES)
def test_an_adopted_log_is_decided_whole_and_each_transaction_once(
    old: list[int], sizes: list[int], new: list[int], new_sizes: list[int]
) -> None:
    world, epochs = World(), Epochs([Epoch(1, {0: 0})])
    world.work(log_of(old), sizes, Epochs())
    world.adopt()
    assert world.work(log_of(new), new_sizes, epochs) == len(new)
    world.judge([*log_of(old), *log_of(new)])


def test_the_judge_finds_a_journal_that_names_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "stream.adapters.memory.store.MemoryStore._journaled",
        lambda self, update: (self._journals[0].get(update.offset) or ("", None))[1],
    )
    world = World()
    world.work(log_of([1, 2, 3]), [3], Epochs())
    done = world.work(log_of([4, 5, 6]), [3], Epochs())
    with pytest.raises((AssertionError, KeyError)):
        world.judge(log_of([4, 5, 6])[:done])
