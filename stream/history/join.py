"""The join of events and decisions: by the place of the event, which its decision names as `origin`. Pure.

Of an event's decisions the first counts; further ones are duplicates. The two topics are read side by side,
so that little has to wait for its counterpart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from stream.records import Record
from stream.views import ServedDecision

Place = tuple[int, int]
"""Partition and offset of an event."""

OFFSET_BITS = 48  # offsets below 2**48
FROM_THE_BEGINNING: Mapping[int, int] = MappingProxyType({})


def pack_place(place: Place) -> int:
    """A place as one number of 64 bits, in the order of partitions and offsets; -1 for none.

    >>> pack_place((3, 41)), unpack_place(pack_place((3, 41))), pack_place((-1, -1))
    (844424930132009, (3, 41), -1)
    """
    partition, offset = place
    return partition << OFFSET_BITS | offset if offset >= 0 else -1


def unpack_place(number: int) -> Place:
    """The inverse of `pack_place`."""
    return number >> OFFSET_BITS, number & ((1 << OFFSET_BITS) - 1)


class FirstDecisions:
    """Which events have a decision: one bit an event.

    Args:
        starts: of each partition, the first offset that the log still holds; by default 0.

    >>> first = FirstDecisions()
    >>> first.add((0, 7)), first.add((0, 7)), first.add((-1, -1))
    (True, False, False)
    """

    def __init__(self, starts: Mapping[int, int] = FROM_THE_BEGINNING) -> None:
        self._starts = starts
        self._bits: dict[int, bytearray] = {}

    def add(self, origin: Place) -> bool:
        """Whether this is the first decision of an event that the log may hold."""
        partition, offset = origin
        at = offset - self._starts.get(partition, 0)
        if partition < 0 or offset < 0 or at < 0:
            return False
        bits = self._bits.setdefault(partition, bytearray())
        byte, bit = at >> 3, 1 << (at & 7)
        if byte >= len(bits):
            bits.extend(bytes(byte + 1 - len(bits)))
        is_first = not bits[byte] & bit
        bits[byte] |= bit
        return is_first


class EventJoin:
    """Brings each event together with its first decision, whichever comes first.

    Args:
        matched: called with the event, its decision, and the message that it was decided in.

    Attributes:
        events: those that wait for their decision, by place.
        decisions: those that wait for their event, with their messages.
    """

    def __init__(self, matched: Callable[[Record, ServedDecision, bytes], None]) -> None:
        self.events: dict[Place, Record] = {}
        self.decisions: dict[Place, tuple[ServedDecision, bytes]] = {}
        self._matched = matched

    def add_event(self, record: Record) -> None:
        """The next event of its partition."""
        place = (record.partition, record.offset)
        found = self.decisions.pop(place, None)
        if found is None:
            self.events[place] = record
        else:
            self._matched(record, *found)

    def add_decision(self, decision: ServedDecision, value: bytes) -> None:
        """The first decision of an event."""
        event = self.events.pop(decision.origin, None)
        if event is None:
            self.decisions[decision.origin] = (decision, value)
        else:
            self._matched(event, decision, value)

    def read(
        self,
        events: Iterator[list[Record]],
        decisions: Iterator[list[Record]],
        *,
        event: Callable[[Record], None],
        decided: Callable[[list[Record]], None],
    ) -> None:
        """Go through both topics to their ends, in each step through the one that is behind.

        Args:
            events: batches of `transactions`.
            decisions: batches of `scores`.
            event: takes an event; it calls `add_event`.
            decided: takes a batch of decisions; it calls `add_decision` with those that are the first.
        """
        more_events = more_decisions = True
        while more_events or more_decisions:
            if more_events and (len(self.events) <= len(self.decisions) or not more_decisions):
                batch = next(events, None)
                more_events = batch is not None
                for record in batch or ():
                    event(record)
            else:
                batch = next(decisions, None)
                more_decisions = batch is not None
                decided(batch or [])
