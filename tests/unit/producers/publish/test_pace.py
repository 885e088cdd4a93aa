from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from producers.publish.pace import (
    Ends,
    Follow,
    Follower,
    Item,
    PaceClock,
    Rate,
    SpeedUp,
    at_rate,
    at_speed,
    in_step,
)
from stream.messages import Label, Transaction
from tests.support.builders import label, payment

START = datetime(2025, 1, 6, tzinfo=UTC)
STEP = timedelta(hours=2)


@dataclass
class Clock:
    """Time passes only by waiting."""

    time: float = 1000.0

    def waiting(self) -> PaceClock:
        return PaceClock(lambda: self.time, self._sleep)

    def _sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.time += seconds


@dataclass
class Recorder:
    clock: Clock
    sent: list[tuple[float, Item]] = field(default_factory=list)

    def send(self, item: Item) -> None:
        self.sent.append((self.clock.time, item))

    def flush(self) -> None:
        pass


@dataclass
class Consumers:
    """Consumers that acknowledge one message each time they are asked, until they stall."""

    sink: Recorder
    done: dict[Follower, int] = field(default_factory=dict)
    stalled: str = ""
    stall_ends: float = 0.0

    def ends(self, topic: str) -> Ends:
        kind = Label if topic == "labels" else Transaction
        return {0: sum(isinstance(item, kind) for _, item in self.sink.sent)}

    def behind(self, follower: Follower, ends: Ends) -> int:
        stalled = follower.topic == self.stalled and self.sink.clock.time < self.stall_ends
        done = self.done.get(follower, 0)
        if not stalled and done < ends[0]:
            self.done[follower] = done = done + 1
        return max(ends[0] - done, 0)


def _paid(number: int, after: timedelta) -> Transaction:
    return payment(number, start=START + after, card="c", merchant="m", amount=100)


def _known(number: int, after: timedelta) -> Label:
    return label(number, start=START + after, source="chargeback")


def _every(minutes: float, count: int) -> Iterator[Transaction]:
    return (_paid(number, timedelta(minutes=minutes * number)) for number in range(count))


def test_a_rate_is_kept_and_caught_up_with_after_a_delay() -> None:
    clock = Clock()
    sink = Recorder(clock)

    def slow() -> Iterator[Transaction]:
        for number, item in enumerate(_every(1, 100)):
            clock.time += 0.3 if number == 50 else 0.0
            yield item

    at_rate(slow(), Rate(events_per_second=100), sink=sink, waiting=clock.waiting())
    assert [round(time - 1000.0, 3) for time, _ in sink.sent[:3]] == [0.0, 0.01, 0.02]
    assert sink.sent[50][0] - 1000.0 == pytest.approx(0.79)
    assert sink.sent[-1][0] - 1000.0 == pytest.approx(0.99)


def test_a_speed_up_sends_each_item_when_its_time_has_come() -> None:
    clock = Clock()
    sink = Recorder(clock)
    items: list[Item] = [_paid(0, timedelta(0)), _paid(1, timedelta(hours=1)), _known(0, timedelta(days=1))]
    at_speed(items, SpeedUp(factor=3600), sink=sink, waiting=clock.waiting())
    assert [round(time - 1000.0, 3) for time, _ in sink.sent] == [0.0, 1.0, 24.0]


def _follow(items: list[Item], consumers: Consumers) -> list[str]:
    told: list[str] = []
    in_step(
        items,
        Follow(step=STEP),
        sink=consumers.sink,
        followers=consumers,
        waiting=consumers.sink.clock.waiting(),
        tell=told.append,
    )
    return told


def test_following_sends_everything_once_and_waits_until_all_is_done() -> None:
    sink = Recorder(Clock())
    consumers = Consumers(sink)
    items: list[Item] = [*_every(7, 200), _known(3, timedelta(days=7))]
    assert _follow(items, consumers) == []
    assert [item for _, item in sink.sent] == items
    assert set(consumers.done.values()) == {1, 200}
    assert len(consumers.done) == 3


def test_a_label_waits_for_the_decision_of_its_transaction_and_holds_nobody_up() -> None:
    sink = Recorder(Clock())
    items: list[Item] = list(_every(1, 30))
    items.insert(10, _known(5, timedelta(minutes=9.5)))
    _follow(items, Consumers(sink))
    assert [item for _, item in sink.sent] == [
        *(item for item in items if isinstance(item, Transaction)),
        items[10],
    ]


def test_two_labels_of_a_transaction_keep_their_order_while_they_wait() -> None:
    sink = Recorder(Clock())
    first, second = _known(5, timedelta(minutes=8)), _known(5, timedelta(minutes=9))
    items: list[Item] = [*_every(1, 8), first, _paid(8, timedelta(minutes=8.5)), second]
    _follow(items, Consumers(sink))
    assert [item for _, item in sink.sent if isinstance(item, Label)] == [first, second]


@pytest.mark.parametrize(
    ("group", "topic"), [("riverwatch-score", "transactions"), ("riverwatch-learn", "labels")]
)
def test_a_consumer_that_stalls_is_named_every_few_seconds_with_what_it_waits_on(
    group: str, topic: str
) -> None:
    clock = Clock()
    consumers = Consumers(Recorder(clock), stalled=topic, stall_ends=1012.0)
    items: list[Item] = [*_every(20, 20), _known(1, timedelta(hours=7))]
    told = _follow(items, consumers)
    about = [line for line in told if f"messages of {topic} to go" in line]
    assert len(about) == 2
    assert all(f"waiting for {group}" in line for line in about)
    assert len(consumers.sink.sent) == len(items)


def test_a_gap_in_time_is_no_reason_to_wait_longer_than_for_what_was_sent() -> None:
    sink = Recorder(Clock())
    items: list[Item] = [_paid(0, timedelta(0)), _paid(1, timedelta(days=300)), _paid(2, timedelta(days=301))]
    _follow(items, Consumers(sink))
    assert [item for _, item in sink.sent] == items
    assert sink.clock.time < 1001.0


def test_a_label_that_had_to_wait_is_learned_before_a_later_step_begins() -> None:
    sink = Recorder(Clock())
    consumers = Consumers(sink)
    learn = Follower("riverwatch-learn", "labels")
    minutes = (10, 70, 150)
    items: list[Item] = [_paid(each, timedelta(minutes=each)) for each in minutes]
    items.insert(1, _known(10, timedelta(minutes=20)))
    learned: list[int] = []

    def watched() -> Iterator[Item]:
        for item in items:
            yield item
            # Asked for the next item: this one has been handed over.
            learned.append(consumers.done.get(learn, 0))

    in_step(
        watched(),
        Follow(step=STEP),
        sink=sink,
        followers=consumers,
        waiting=sink.clock.waiting(),
        tell=lambda _: None,
    )
    assert learned == [0, 0, 0, 1]
