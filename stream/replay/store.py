"""What a replay stands on: profiles in memory, and decisions in the file it writes.

The output is the decision log: a decision is found again by its place in the file, so the memory of a replay
grows with entities, and with transactions only for as long as labels may come.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from stream.adapters.memory.store import MemoryStore
from stream.adapters.redis.codec import Codec
from stream.decisions import split_recorded
from stream.ports import LabelStatus, LabelUpdate

_SIZE = 24  # bits of a decision's length: 16 MiB
_MASK = (1 << _SIZE) - 1
_BUFFER = 1 << 18  # bytes that wait to be written
_PIECE = 1 << 22  # bytes read at once to check a file


class OutputChangedError(Exception):
    """The file to go on with is not the one that was written."""


class DecisionFile:
    """Lines of JSON that are appended, and read again by their place.

    Args:
        path: of the file; what stands in it beyond `length` is cut off.
        length: bytes of it that are kept.
        crc: their CRC-32.

    Raises:
        OutputChangedError: the file does not begin with what was written.
    """

    def __init__(self, path: Path, *, length: int = 0, crc: int = 0) -> None:
        if length:
            _check(path, length, crc)
        self._file = path.open("r+b" if length else "w+b")
        self._file.truncate(length)
        self._waiting = bytearray()
        self._written = length
        self.crc = crc

    @property
    def length(self) -> int:
        """Bytes, those that wait to be written included."""
        return self._written + len(self._waiting)

    def append(self, line: bytes) -> int:
        """Add a line (without its end); returns its place."""
        place = self.length << _SIZE | len(line)
        self._waiting += line
        self._waiting += b"\n"
        if len(self._waiting) > _BUFFER:
            self.flush()
        return place

    def read(self, place: int) -> bytes:
        """The line at a place."""
        offset, size = place >> _SIZE, place & _MASK
        if offset >= self._written:
            start = offset - self._written
            return bytes(self._waiting[start : start + size])
        self._file.seek(offset)
        return self._file.read(size)

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            self._file.seek(self._written)
            self._file.write(self._waiting)
            self._file.flush()
            self.crc = zlib.crc32(self._waiting, self.crc)
            self._written += len(self._waiting)
            self._waiting = bytearray()

    def close(self) -> None:
        """Write what waits, and close."""
        self.flush()
        self._file.close()


def _check(path: Path, length: int, crc: int) -> None:
    found, left = 0, length
    try:
        with path.open("rb") as file:
            while left and (piece := file.read(min(left, _PIECE))):
                found = zlib.crc32(piece, found)
                left -= len(piece)
    except FileNotFoundError:
        left = length
    if left or found != crc:
        raise OutputChangedError(
            f"{path}: is not the output that the checkpoint goes on with: put it back, or replay from the "
            "beginning with another --checkpoint folder"
        )


class StoreState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a `ReplayStore` holds, for a checkpoint."""

    profiles: list[tuple[str, str, bytes]]
    label_profiles: list[tuple[str, str, bytes]]
    known: dict[str, tuple[float, bool]]
    pending: dict[str, tuple[float, bytes]]
    applied_offsets: dict[int, int]
    applied_label_offset: int
    passed: int
    counts: dict[str, int]
    places: dict[str, int]
    ages: list[tuple[float, int]]


class ReplayStore(MemoryStore):
    """A `MemoryStore` whose decisions stand in a file.

    Memory: some 1.5 kB an entity, and 200 bytes and its id for a transaction that labels may still come for.

    Args:
        half_lives: how many an event's weights have.
        out: where decisions are recorded.
        remembered: seconds of event time that a decision is found again, > 0.
        state: to go on from.
    """

    def __init__(
        self, half_lives: int, out: DecisionFile, *, remembered: float, state: StoreState | None = None
    ) -> None:
        super().__init__(half_lives)
        self._codec = Codec(half_lives)
        self._out = out
        self._remembered = remembered
        self._places: dict[str, int] = {}
        self._ages: deque[tuple[float, int]] = deque()  # by which event time so many more were recorded
        if state is not None:
            self._restore(state)

    def advance(self, now: float) -> None:
        """Event time has come so far, seconds: forget what labels come for no more.

        What was recorded since the last call is forgotten together.
        """
        fresh = len(self._places) - sum(count for _, count in self._ages)
        if fresh:
            self._ages.append((now, fresh))
        while self._ages and self._ages[0][0] < now - self._remembered:
            _, count = self._ages.popleft()
            for name in list(islice(self._places, count)):
                del self._places[name]
                self._known.pop(name, None)

    def lookup(self, transaction_ids: Sequence[str]) -> list[bytes | None]:
        """The decisions that are in the file and not forgotten."""
        places = self._places
        return [self._out.read(places[name]) if name in places else None for name in transaction_ids]

    def record(
        self, decisions: Sequence[tuple[int, str, bytes]], *, fencing_tokens: Mapping[int, int]
    ) -> list[bytes]:
        """See `FeatureStore.record`."""
        self._admit({partition for partition, _, _ in decisions}, fencing_tokens)
        recorded = []
        for _, name, raw in decisions:
            place = self._places.get(name)
            if place is not None:
                recorded.append(self._out.read(place))
                continue
            self._places[name] = self._out.append(split_recorded(raw)[0])
            self._counts["decided"] += 1
            recorded.append(raw)
        return recorded

    def apply_labels(
        self, labels: Sequence[LabelUpdate], *, learned: int, passed: int = -1
    ) -> list[LabelStatus]:
        """See `LabelStore.apply_labels`; a replay never asks for a label again."""
        self._statuses.clear()
        return super().apply_labels(labels, learned=learned, passed=min(passed, self._passed))

    def advance_labels(self, offset: int, *, passed: int) -> None:
        """See `LabelStore.advance_labels`; a replay's store goes on from its own file, never behind."""
        super().advance_labels(offset, passed=min(passed, self._passed))

    def state(self) -> StoreState:
        """Everything it holds, between two batches."""
        return StoreState(
            profiles=[(kind, key, self._codec.packed(each)) for (kind, key), each in self._profiles.items()],
            label_profiles=[
                (kind, key, self._codec.packed_labels(each))
                for (kind, key), each in self._label_profiles.items()
            ],
            known=self._known,
            pending=self._pending,
            applied_offsets=self._applied_offsets,
            applied_label_offset=self._applied_label_offset,
            passed=self._passed,
            counts=self._counts,
            places=self._places,
            ages=list(self._ages),
        )

    def _restore(self, state: StoreState) -> None:
        self._profiles = {(kind, key): self._codec.profile(raw)[0] for kind, key, raw in state.profiles}
        self._label_profiles = {
            (kind, key): self._codec.label_profile(raw)[0] for kind, key, raw in state.label_profiles
        }
        self._known = dict(state.known)
        self._pending = dict(state.pending)
        self._applied_offsets = dict(state.applied_offsets)
        self._applied_label_offset = state.applied_label_offset
        self._passed = state.passed
        self._counts = dict(state.counts)
        self._places = dict(state.places)
        self._ages = deque(state.ages)


class OrderedDueQueue:
    """`DueQueue` of one process, sorted; adding is cheapest in order of time.

    >>> queue = OrderedDueQueue()
    >>> queue.add(0, [(2.0, "b"), (1.0, "a")])
    >>> queue.next_due, queue.due(0, 1.5, 10)
    (1.0, [(1.0, 'a')])
    >>> queue.done(0, ["a"])
    >>> queue.next_due
    2.0
    """

    def __init__(self, entries: Sequence[tuple[float, str]] = ()) -> None:
        self._due = list(entries)

    @property
    def next_due(self) -> float:
        """When the next one falls due, seconds; infinite without one."""
        return self._due[0][0] if self._due else float("inf")

    def entries(self) -> list[tuple[float, str]]:
        """All that waits, the earliest first."""
        return self._due

    def add(self, partition: int, due: Sequence[tuple[float, str]]) -> None:  # noqa: ARG002 - a replay has one
        """Remember (time in seconds, transaction_id); again is once."""
        for entry in due:
            at = bisect_left(self._due, entry)
            if self._due[at : at + 1] != [entry]:
                self._due.insert(at, entry)

    def due(self, partition: int, until: float, limit: int) -> list[tuple[float, str]]:  # noqa: ARG002 - as above
        """What falls due up to a time, the earliest first."""
        end = bisect_right(self._due, until, key=lambda entry: entry[0])
        return self._due[: min(end, limit)]

    def done(self, partition: int, transaction_ids: Sequence[str]) -> None:  # noqa: ARG002 - as above
        """Forget what was emitted."""
        names = set(transaction_ids)
        end = len(transaction_ids)
        self._due[:end] = [entry for entry in self._due[:end] if entry[1] not in names]
