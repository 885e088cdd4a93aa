"""Partitions as one stream in the order of event time, in constant memory. Pure.

Each partition is sorted by a look-ahead of so many items, then the partitions are merged. Both follow from
what the partitions hold alone: how their messages happened to arrive changes nothing.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

LOOK_AHEAD = 32_000  # items that wait at least, over all partitions, before the earliest may go
LEAST = 500  # of one partition


class Placed(NamedTuple, Generic[T]):
    """An item, its time (seconds) and its place. In order of time, then of place: no two are equal."""

    time: float
    partition: int
    offset: int
    item: T


class Disorder(NamedTuple):
    """Items that are earlier than one before them in their partition.

    Attributes:
        items: how many there are.
        furthest: the most that one of them was, seconds.
        late: those that the look-ahead did not reach: given where they stood.
    """

    items: int = 0
    furthest: float = 0.0
    late: int = 0


class EventOrder(Generic[T]):
    """Takes items as partitions hold them, gives them in the order of their time.

    Args:
        partitions: all that there are.
        look_ahead: items that each of them is sorted over, >= 0.

    >>> order = EventOrder([0, 1], look_ahead=1)
    >>> for time, partition, item in ((3.0, 0, "c"), (1.0, 0, "a"), (2.0, 1, "b"), (9.0, 1, "z")):
    ...     order.add(Placed(time, partition, int(time), item))
    >>> [each.item for each in order.ready()]
    ['a']
    >>> order.end(0), order.end(1)
    (None, None)
    >>> [each.item for each in order.ready()]
    ['b', 'c', 'z']
    """

    def __init__(self, partitions: Iterable[int], *, look_ahead: int) -> None:
        self._look_ahead = look_ahead
        self._sorting: dict[int, list[Placed[T]]] = {number: [] for number in partitions}
        self._sorted: dict[int, deque[Placed[T]]] = {number: deque() for number in self._sorting}
        self._latest = dict.fromkeys(self._sorting, float("-inf"))
        self._open = set(self._sorting)
        self._heads: list[Placed[T]] = []
        self._headless = set(self._sorting)  # open, and nothing of theirs may go yet
        self._gone = float("-inf")
        self.disorder = Disorder()

    @property
    def hungry(self) -> set[int]:
        """Partitions that hold less than twice the look-ahead: the others can wait to be read on."""
        most = 2 * max(self._look_ahead, LEAST)
        return {n for n in self._open if len(self._sorting[n]) + len(self._sorted[n]) < most}

    def add(self, placed: Placed[T]) -> None:
        """The next item of its partition."""
        number = placed.partition
        latest = self._latest[number]
        if placed.time < latest:
            items, furthest, late = self.disorder
            self.disorder = Disorder(items + 1, max(furthest, latest - placed.time), late)
        else:
            self._latest[number] = placed.time
        if len(self._sorting[number]) < self._look_ahead:
            heapq.heappush(self._sorting[number], placed)
        else:
            self._sorted[number].append(heapq.heappushpop(self._sorting[number], placed))
            if number in self._headless:
                self._lead(number)

    def end(self, partition: int) -> None:
        """No more items come of a partition."""
        waiting = self._sorting[partition]
        self._sorted[partition].extend(heapq.heappop(waiting) for _ in range(len(waiting)))
        self._open.discard(partition)
        if partition in self._headless:
            self._lead(partition)

    def ready(self) -> Iterator[Placed[T]]:
        """The items whose turn it is."""
        while self._heads and not self._headless:
            first = heapq.heappop(self._heads)
            self._lead(first.partition)
            if first.time < self._gone:
                self.disorder = self.disorder._replace(late=self.disorder.late + 1)
            else:
                self._gone = first.time
            yield first

    def _lead(self, partition: int) -> None:
        """Let the next item of a partition stand for it, where there is one."""
        waiting = self._sorted[partition]
        if waiting:
            self._headless.discard(partition)
            heapq.heappush(self._heads, waiting.popleft())
        elif partition in self._open:
            self._headless.add(partition)
        else:
            self._headless.discard(partition)


def look_ahead_of(partitions: int, in_all: int = LOOK_AHEAD) -> int:
    """How many items each of so many partitions is sorted over.

    >>> look_ahead_of(1), look_ahead_of(8), look_ahead_of(1000)
    (32000, 4000, 500)
    """
    return max(in_all // max(partitions, 1), LEAST)
