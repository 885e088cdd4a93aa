"""How fast items go out: at a rate, at a speed-up of event time, or in step with the consumers."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol, TypeAlias

from stream.messages import Label, Transaction

Item: TypeAlias = Transaction | Label
Ends: TypeAlias = Mapping[int, int]
"""Of each partition the offset after the last message."""

_TELL_EVERY: Final = 5.0
_SHORTEST_SLEEP: Final = 0.001


@dataclass(frozen=True)
class Rate:
    """So many items a second, > 0."""

    events_per_second: float


@dataclass(frozen=True)
class SpeedUp:
    """Event time runs so many times faster than the clock, > 0; 1 is life."""

    factor: float


@dataclass(frozen=True)
class Unpaced:
    """As fast as the brokers take it, whoever follows."""


class Follower(NamedTuple):
    """A consumer group and the topic it works through."""

    group: str
    topic: str


@dataclass(frozen=True)
class Follow:
    """As fast as the consumers follow, in event-time step with them.

    Three rules hold, whatever the consumers' speed:
      no transaction is published more than `step` of event time beyond a transaction that is not yet decided
        or a label that is not yet learned;
      no label is published before the decision of its transaction is recorded;
      no label is published before every transaction that precedes it is decided: none has been scored by a
        model that life would not have had yet.

    Attributes:
        step: of event time, > 0. Shorter is closer to life, longer waits less often. What comes late
            counts by the time at which it is published.
        deciders: who must have worked through what they read before a label of it goes out, in order.
        learners: who must have learned the labels, in order.
        poll: seconds between two questions how far they are, > 0.
    """

    step: timedelta = timedelta(hours=12)
    deciders: tuple[Follower, ...] = (Follower("riverwatch-score", "transactions"),)
    learners: tuple[Follower, ...] = (
        Follower("riverwatch-learn", "scores"),
        Follower("riverwatch-learn", "labels"),
    )
    poll: float = 0.01


Pace: TypeAlias = Rate | SpeedUp | Unpaced | Follow


class Followers(Protocol):
    """How far consumer groups are."""

    def ends(self, topic: str) -> Ends:
        """Where a topic ends now."""
        ...

    def behind(self, follower: Follower, ends: Ends) -> int:
        """How many messages before these ends a group has not acknowledged yet."""
        ...


class Sink(Protocol):
    """Where items go."""

    def send(self, item: Item) -> None:
        """Hand one over."""
        ...

    def flush(self) -> None:
        """Return when all that was handed over is durable."""
        ...


class PaceClock(NamedTuple):
    """The clock, as an argument: seconds that only rise, and how to wait for some."""

    now: Callable[[], float]
    sleep: Callable[[float], None]


Tell: TypeAlias = Callable[[str], None]


def time_of(item: Item) -> datetime:
    """When an item happened, or became known."""
    return item.event_time if isinstance(item, Transaction) else item.known_at


def at_rate(items: Iterable[Item], pace: Rate, *, sink: Sink, waiting: PaceClock) -> None:
    """Send items evenly; after a delay the next ones catch up."""
    start = waiting.now()
    for number, item in enumerate(items):
        _until(start + number / pace.events_per_second, waiting)
        sink.send(item)


def at_speed(items: Iterable[Item], pace: SpeedUp, *, sink: Sink, waiting: PaceClock) -> None:
    """Send each item when its time has come, counted from the first one's."""
    start, first = waiting.now(), None
    for item in items:
        time = time_of(item).timestamp()
        first = time if first is None else first
        _until(start + (time - first) / pace.factor, waiting)
        sink.send(item)


def in_step(
    items: Iterable[Item],
    pace: Follow,
    *,
    sink: Sink,
    followers: Followers,
    waiting: PaceClock,
    tell: Tell,
) -> None:
    """Send items no faster than the consumers follow (see `Follow`), and return when they have done all."""
    steps = _Steps(pace, sink, followers, waiting, tell)
    for item in items:
        steps.send(item)
    steps.finish()


def _until(time: float, waiting: PaceClock) -> None:
    left = time - waiting.now()
    if left >= _SHORTEST_SLEEP:
        waiting.sleep(left)


@dataclass
class _Chunk:
    """Half a step of event time, sent but not known to be followed.

    Attributes:
        held: its labels, which wait until its transactions are decided.
        ends: of each topic, where it ended when the chunk was complete.
    """

    number: int
    held: list[Label] = field(default_factory=list)
    ends: dict[str, Ends] = field(default_factory=dict)


class _Steps:
    """Two chunks of half a step are open at most: while one is being followed the next is on its way.

    The labels of a chunk are held until all its transactions are decided.
    """

    def __init__(
        self, pace: Follow, sink: Sink, followers: Followers, waiting: PaceClock, tell: Tell
    ) -> None:
        self._pace = pace
        self._half = pace.step.total_seconds() / 2
        self._sink = sink
        self._followers = followers
        self._waiting = waiting
        self._tell = tell
        self._open: deque[_Chunk] = deque()

    def send(self, item: Item) -> None:
        number = math.floor(time_of(item).timestamp() / self._half)
        if not self._open or number > self._open[-1].number:
            self._complete()
            while self._open and self._open[0].number <= number - 2:
                self._settle()
            self._open.append(_Chunk(number))
        chunk = self._open[-1]  # what comes late, by its time, goes with what goes now
        if isinstance(item, Transaction):
            self._sink.send(item)
        else:
            chunk.held.append(item)

    def finish(self) -> None:
        self._complete()
        while self._open:
            self._settle()
        # And what the consumers themselves wrote since: assumed-genuine labels, for one.
        for follower in (*self._pace.deciders, *self._pace.learners):
            self._await(follower, self._followers.ends(follower.topic))

    def _complete(self) -> None:
        if self._open:
            self._sink.flush()
            topics = {follower.topic for follower in (*self._pace.deciders, *self._pace.learners)}
            self._open[-1].ends = {topic: self._followers.ends(topic) for topic in topics}

    def _settle(self) -> None:
        """Wait until the oldest chunk is decided, send the labels held for it, wait until all are learned."""
        chunk = self._open.popleft()
        for follower in self._pace.deciders:
            self._await(follower, chunk.ends[follower.topic])
        for label in chunk.held:
            self._sink.send(label)
        if chunk.held:
            self._sink.flush()
            chunk.ends |= {
                follower.topic: self._followers.ends(follower.topic) for follower in self._pace.learners
            }
        for follower in self._pace.learners:
            self._await(follower, chunk.ends[follower.topic])

    def _await(self, follower: Follower, ends: Ends) -> None:
        fewest, since = None, self._waiting.now()
        while behind := self._followers.behind(follower, ends):
            now = self._waiting.now()
            if fewest is None or behind < fewest:
                fewest, since = behind, now
            elif now - since >= _TELL_EVERY:
                since = now
                self._tell(
                    f"waiting for {follower.group}: {behind:,} messages of {follower.topic} to go, and no "
                    f"progress for {_TELL_EVERY:g} s; is it running?"
                )
            self._waiting.sleep(self._pace.poll)
