"""The two rules of the pace `Follow`, over any items and any consumers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from producers.publish.pace import Ends, Follow, Follower, Item, PaceClock, in_step, time_of
from stream.messages import Label, Transaction

START = datetime(2025, 1, 6, tzinfo=UTC)
SCORE = Follower("riverwatch-score", "transactions")
SCORES = Follower("riverwatch-learn", "scores")
LEARN = Follower("riverwatch-learn", "labels")


@dataclass
class World:
    """Kafka and its consumers, who do some work whenever anyone looks; `work` says how much."""

    step: timedelta
    work: Callable[[], int]
    due: list[Label]
    transactions: list[Transaction] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    done: dict[Follower, int] = field(default_factory=lambda: dict.fromkeys((SCORE, SCORES, LEARN), 0))

    def send(self, item: Item) -> None:
        if isinstance(item, Label):
            decided = {each.transaction_id for each in self.transactions[: self.done[SCORE]]}
            assert item.transaction_id in decided, "a label went out before the decision of its transaction"
            waiting = self.transactions[self.done[SCORE] :]
            assert all(each.event_time > item.known_at for each in waiting), "a label overtook a transaction"
            self.labels.append(item)
            return
        undecided = self.transactions[self.done[SCORE] :]
        learned = self.labels[: self.done[LEARN]]
        known = [label for label in self.due if label.known_at <= item.event_time]
        unlearned = [label for label in known if label not in learned]
        for time in (*(each.event_time for each in undecided), *(label.known_at for label in unlearned)):
            assert item.event_time - time <= self.step, "a transaction went out too early"
        self.transactions.append(item)

    def flush(self) -> None:
        self._work()

    def ends(self, topic: str) -> Ends:
        self._work()
        found = {
            "transactions": len(self.transactions),
            "scores": self.done[SCORE],
            "labels": len(self.labels),
        }
        return {0: found[topic]}

    def behind(self, follower: Follower, ends: Ends) -> int:
        self._work()
        return max(ends[0] - self.done[follower], 0)

    def _work(self) -> None:
        ends = {SCORE: len(self.transactions), SCORES: self.done[SCORE], LEARN: len(self.labels)}
        for follower, end in ends.items():
            self.done[follower] = min(self.done[follower] + self.work(), end)


@st.composite
def streams(draw: st.DrawFn) -> list[Item]:
    gaps = draw(st.lists(st.integers(0, 60), min_size=1, max_size=60))
    items: list[Item] = []
    minutes = 0
    for number, gap in enumerate(gaps):
        minutes += gap
        paid = START + timedelta(minutes=minutes)
        items.append(
            Transaction(
                transaction_id=f"t{number}",
                event_time=paid,
                card_id="c",
                merchant_id="m",
                amount_minor=100,
                currency="EUR",
            )
        )
        items.extend(
            Label(
                transaction_id=f"t{number}",
                is_fraud=fraud,
                known_at=paid + timedelta(minutes=delay),
                source="chargeback",
            )
            for fraud, delay in draw(st.lists(st.tuples(st.booleans(), st.integers(1, 600)), max_size=2))
        )
    return sorted(items, key=lambda item: (time_of(item), isinstance(item, Label)))


@settings(max_examples=500)
@given(
    items=streams(),
    step=st.integers(1, 1000),
    most=st.integers(1, 3),
    seed=st.integers(0, 10**6),
)
def test_no_transaction_runs_ahead_and_no_label_overtakes_a_transaction(
    items: list[Item], step: int, most: int, seed: int
) -> None:
    chance = Random(seed)
    world = World(
        timedelta(minutes=step),
        work=lambda: chance.randint(0, most),
        due=[item for item in items if isinstance(item, Label)],
    )
    in_step(
        items,
        Follow(step=timedelta(minutes=step)),
        sink=world,
        followers=world,
        waiting=PaceClock(lambda: 0.0, lambda _: None),
        tell=lambda _: None,
    )
    assert world.transactions == [item for item in items if isinstance(item, Transaction)]
    assert world.labels == world.due
    assert world.done == {
        SCORE: len(world.transactions),
        SCORES: len(world.transactions),
        LEARN: len(world.due),
    }
