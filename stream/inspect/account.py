"""The account of a run: events against decisions and dead letters, decisions against labels. Pure.

Raw messages of the topics go in, in the order of their offsets; compact arrays are kept, 65 bytes a
transaction. Names are kept as 64-bit hashes: among ten million, the chance that any two meet is 3 in a
million.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.metrics.decision_window import digest
from stream.dead_letters import DeadLetter
from stream.history.join import pack_place, unpack_place
from stream.learning import ASSUMED_GENUINE
from stream.views import read_label, read_scored_decision, transaction_id_of

_NOWHERE = -1
_ALL_BITS = 2**64 - 1
MOST_EXAMPLES = 10

T = TypeVar("T", bound=np.generic)
Headers = Sequence[tuple[str, bytes]]


class Completeness(NamedTuple):
    """Events in = decided + dead letters + missing.

    Attributes:
        events: messages in the topic of transactions.
        repeated_events: of them, further ones of a transaction that came before.
        decided: events whose transaction has a decision.
        dead_letters: events that have a dead letter instead.
        decisions: transactions with a decision.
        duplicates: further messages of a decision, the same to the byte: redeliveries.
        missing: events with neither decision nor dead letter: lost, or still on their way.
        differing: transactions with two decisions that are not the same bytes.
        unexpected: decisions of no event, though their origin lies in what was read.
        both: events that have a dead letter and a decision of their own.
        unreadable: messages among the decisions that are none.
        examples: places in the topic of transactions of some missing events.
    """

    events: int
    repeated_events: int
    decided: int
    dead_letters: int
    decisions: int
    duplicates: int
    missing: int
    differing: int
    unexpected: int
    both: int
    unreadable: int
    examples: tuple[tuple[int, int], ...] = ()

    @property
    def is_complete(self) -> bool:
        """Every event has exactly one decision or a dead letter."""
        return self.missing == self.differing == self.unexpected == self.both == self.unreadable == 0


class Decisions(NamedTuple):
    """One row a transaction, by event time, with what is known of it.

    Attributes:
        time: of the event, seconds.
        known_at: of the latest report, seconds; NaN where nobody reported it: it counts as genuine.
    """

    time: NDArray[np.float64]
    card: NDArray[np.uint64]
    score: NDArray[np.float64]
    alerted: NDArray[np.bool_]
    is_fraud: NDArray[np.bool_]
    known_at: NDArray[np.float64]


class Ledger:
    """Takes the messages of four topics in, each topic's in the order of its offsets."""

    def __init__(self) -> None:
        self._event_names, self._event_places = array("Q"), array("q")
        self._names, self._contents, self._cards = array("Q"), array("Q"), array("Q")
        self._times, self._scores, self._origins = array("d"), array("d"), array("q")
        self._alerted = bytearray()
        self._label_names, self._known = array("Q"), array("d")
        self._frauds = bytearray()
        self._dead: set[int] = set()
        self._unreadable = 0

    def add_event(self, partition: int, offset: int, value: bytes | None) -> None:
        """A message of the topic of transactions, readable or not."""
        name = transaction_id_of(value)
        # 0: no decision can have it, so it must be among the dead letters
        self._event_names.append(0 if name is None else digest(name))
        self._event_places.append(pack_place((partition, offset)))

    def add_dead_letter(self, headers: Headers, *, events: str) -> None:
        """A dead letter; it counts where its headers say that it comes from the topic `events`."""
        letter = DeadLetter.parse(headers)
        if letter is not None and letter.topic == events:
            self._dead.add(pack_place(letter.place))

    def add_decision(self, value: bytes | None) -> None:
        """A message of the topic of scores."""
        decision = read_scored_decision(value)
        if decision is None:
            self._unreadable += 1
            return
        self._names.append(digest(decision.transaction_id))
        self._contents.append(hash(value) & _ALL_BITS)  # of this process alone: it is compared, not kept
        self._cards.append(digest(decision.card_id))
        self._times.append(decision.event_time.timestamp())
        self._scores.append(decision.score)
        self._origins.append(pack_place(decision.origin))
        self._alerted.append(decision.action != "approve")

    def add_label(self, value: bytes | None) -> None:
        """A message of the topic of labels; an assumed label says what its absence says."""
        label = read_label(value)
        # One that cannot be read is no fault of the run: the learner has a dead letter for it.
        if label is not None and label.source != ASSUMED_GENUINE:
            self._label_names.append(digest(label.transaction_id))
            self._known.append(label.known_at.timestamp())
            self._frauds.append(label.is_fraud)

    def completeness(self, read: Mapping[int, int]) -> Completeness:
        """The account of events and decisions.

        Args:
            read: of each partition of transactions, the offset that follows the last event read; a decision
                of a later event is not unexpected.
        """
        events, places = _array(self._event_names, np.uint64), _array(self._event_places, np.int64)
        names, contents = _array(self._names, np.uint64), _array(self._contents, np.uint64)
        order = np.argsort(names, kind="stable")
        first = _firsts(names[order])
        unique = names[order][first]
        group = np.cumsum(first) - 1
        same = contents[order] == contents[order][first][group]
        dead_places = np.fromiter(self._dead, dtype=np.int64, count=len(self._dead))
        dead = np.isin(places, dead_places)
        decided = ~dead & np.isin(events, unique) & (events != 0)
        missing = ~dead & ~decided
        stray = ~np.isin(unique, events)
        every = _array(self._origins, np.int64)
        origins = every[order][first][stray]
        return Completeness(
            events=int(events.size),
            repeated_events=int(events.size - np.unique(events[events != 0]).size - np.sum(events == 0)),
            decided=int(np.sum(decided)),
            dead_letters=int(np.sum(dead)),
            decisions=int(unique.size),
            duplicates=int(np.sum(same & ~first)),
            missing=int(np.sum(missing)),
            differing=int(np.unique(group[~same]).size),
            unexpected=sum(_in_range(int(origin), read) for origin in origins),
            both=int(np.unique(every[np.isin(every, dead_places)]).size),
            unreadable=self._unreadable,
            examples=tuple(unpack_place(int(place)) for place in places[missing][:MOST_EXAMPLES]),
        )

    def decisions(self) -> Decisions:
        """Every transaction once, as it was first decided, with the latest of what is known."""
        names = _array(self._names, np.uint64)
        order = np.argsort(names, kind="stable")
        rows = order[_firsts(names[order])]
        times = _array(self._times, np.float64)
        rows = rows[np.argsort(times[rows], kind="stable")]
        labels, known = _array(self._label_names, np.uint64), _array(self._known, np.float64)
        # the latest knowledge wins, of equally late the last in the log
        by_name = np.lexsort((np.arange(labels.size), known, labels))
        last = by_name[_firsts(labels[by_name][::-1])[::-1]]
        fraud, known_at = np.zeros(rows.size, dtype=np.bool_), np.full(rows.size, np.nan)
        if last.size:
            place = np.minimum(np.searchsorted(labels[last], names[rows]), last.size - 1)
            found = labels[last][place] == names[rows]
            fraud[found] = _flags(self._frauds)[last[place[found]]]
            known_at[found] = known[last[place[found]]]
        return Decisions(
            times[rows],
            _array(self._cards, np.uint64)[rows],
            _array(self._scores, np.float64)[rows],
            _flags(self._alerted)[rows],
            fraud,
            known_at,
        )


def _in_range(number: int, read: Mapping[int, int]) -> bool:
    partition, offset = unpack_place(number)
    return number == _NOWHERE or offset < read.get(partition, 0)


def _firsts(ordered: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Where a new value begins."""
    return np.append([True] * bool(ordered.size), ordered[1:] != ordered[:-1]).astype(np.bool_)


def _array(values: array[int] | array[float], kind: type[T]) -> NDArray[T]:
    return np.array(values, dtype=kind)


def _flags(values: bytearray) -> NDArray[np.bool_]:
    return np.frombuffer(bytes(values), dtype=np.bool_)
