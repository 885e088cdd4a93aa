"""The decisions of the last days, compact, each to be found by its transaction for the labels that come late.

41 bytes a decision and a byte for each segment name, once its day is over; some 190 on the day itself, whose
index is a dictionary. Transactions and cards are kept as 64-bit hashes: among ten million, the chance that
any two meet is 3 in a million.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DAY = 86400.0
MOST_VALUES = 250  # distinct values of a segment name; what comes later is `OTHER`
ABSENT = 0
OTHER = 255
_REINDEX = 65_536  # late decisions of a closed day before its index is made anew

ALERTED, FRAUD, LABELLED, MATURED = 1, 2, 4, 8


def digest(text: str) -> int:
    """64 bits of a name, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


class Scored(NamedTuple):
    """What quality needs of a decision.

    Attributes:
        event_time: seconds since 1970.
        score: probability of fraud.
        alerted: an alert was raised.
        segments: its value for each segment name, None where it has none.
    """

    transaction_id: str
    event_time: float
    card_id: str
    score: float
    alerted: bool
    segments: tuple[str | None, ...] = ()


class Columns(NamedTuple):
    """Rows of one day, as arrays; `codes` has an array for each segment name."""

    card: NDArray[np.uint64]
    score: NDArray[np.float64]
    known_at: NDArray[np.float64]
    flags: NDArray[np.uint8]
    codes: tuple[NDArray[np.uint8], ...]


class EventDay:
    """The decisions of one day of event time, in the order they came.

    Args:
        number: days since 1970.
        names: how many segment names each decision has a value for.
    """

    def __init__(self, number: int, names: int) -> None:
        self.number = number
        self.start = number * DAY
        self.matured = 0  # rows that are past the horizon
        self.cards = array("Q")
        self.scores = array("d")
        self.offsets = array("f")  # seconds into the day, to 8 ms
        self.known_at = array("d")
        self.flags = bytearray()
        self.codes = tuple(bytearray() for _ in range(names))
        self._settled = 0  # rows from the first on that are all matured
        self._rows: dict[int, int] = {}
        self._closed: tuple[NDArray[np.uint64], NDArray[np.uint32]] | None = None

    def __len__(self) -> int:
        return len(self.flags)

    def add(self, key: int, decision: Scored, card: int, codes: Sequence[int]) -> bool:
        """Keep a decision; False where it is kept already."""
        if key in self._rows or self._find_closed(key) is not None:
            return False
        self._rows[key] = len(self.flags)
        self.cards.append(card)
        self.scores.append(decision.score)
        self.offsets.append(decision.event_time - self.start)
        self.known_at.append(-np.inf)
        self.flags.append(ALERTED if decision.alerted else 0)
        for column, code in zip(self.codes, codes, strict=True):
            column.append(code)
        if self._closed is not None and len(self._rows) >= _REINDEX:
            self.close()
        return True

    def close(self) -> None:
        """Make the index small: the day is over, though late decisions may still come."""
        if not self._rows:
            return
        keys = np.fromiter(self._rows.keys(), dtype=np.uint64, count=len(self._rows))
        rows = np.fromiter(self._rows.values(), dtype=np.uint32, count=len(self._rows))
        if self._closed is not None:
            keys, rows = np.append(self._closed[0], keys), np.append(self._closed[1], rows)
        order = np.argsort(keys)
        self._closed = keys[order], rows[order]
        self._rows = {}

    def find(self, keys: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Of the transactions that are of this day: (place in `keys`, row)."""
        if self._rows:
            for place, key in enumerate(keys):
                row = self._rows.get(key)
                if row is not None:
                    yield place, row
        if self._closed is not None:
            sorted_keys, rows = self._closed
            wanted = np.fromiter(keys, dtype=np.uint64, count=len(keys))
            found = np.minimum(np.searchsorted(sorted_keys, wanted), sorted_keys.size - 1)
            for place in np.flatnonzero(sorted_keys[found] == wanted).tolist():
                yield place, int(rows[found[place]])

    def mature(self, until: float) -> list[int]:
        """The rows that are past the horizon by now and were not before.

        Args:
            until: event time, seconds; decisions before it are past.
        """
        first = self._settled
        if first == len(self.flags):
            return []
        waits = np.frombuffer(bytes(self.flags[first:]), dtype=np.uint8) & MATURED == 0
        past = np.array(self.offsets[first:], dtype=np.float32) < until - self.start
        rows: list[int] = (np.flatnonzero(waits & past) + first).tolist()
        for row in rows:
            self.flags[row] |= MATURED
        self.matured += len(rows)
        while first < len(self.flags) and self.flags[first] & MATURED:
            first += 1
        self._settled = first
        return rows

    def columns(self) -> Columns:
        """The matured rows."""
        flags = np.frombuffer(bytes(self.flags), dtype=np.uint8)
        rows = np.flatnonzero(flags & MATURED)
        return Columns(
            np.array(self.cards, dtype=np.uint64)[rows],
            np.array(self.scores, dtype=np.float64)[rows],
            np.array(self.known_at, dtype=np.float64)[rows],
            flags[rows],
            tuple(np.frombuffer(bytes(column), dtype=np.uint8)[rows] for column in self.codes),
        )

    def frauds(self) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
        """Of every known fraud of the day, matured or not: its card, and when it became known."""
        rows = np.flatnonzero(np.frombuffer(bytes(self.flags), dtype=np.uint8) & FRAUD)
        return (
            np.array([self.cards[row] for row in rows], dtype=np.uint64),
            np.array([self.known_at[row] for row in rows], dtype=np.float64),
        )

    def _find_closed(self, key: int) -> int | None:
        if self._closed is None:
            return None
        keys, rows = self._closed
        place = int(np.searchsorted(keys, np.uint64(key)))
        return int(rows[place]) if place < keys.size and int(keys[place]) == key else None


class Codes:
    """The values of one segment name as small numbers, in the order they were first seen."""

    def __init__(self) -> None:
        self.values: list[str] = []
        self._codes: dict[str, int] = {}

    def of(self, value: str | None) -> int:
        """The code of a value."""
        if value is None:
            return ABSENT
        code = self._codes.get(value)
        if code is None:
            if len(self.values) >= MOST_VALUES:
                return OTHER
            self.values.append(value)
            code = self._codes[value] = len(self.values)
        return code
