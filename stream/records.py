"""One record of a topic, as it was fetched. No Faust in here: the core reads it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple


class Record(NamedTuple):
    """A raw record and where it stands.

    A tuple, not a struct: tens of thousands are made a second, and a tuple is the cheapest thing with names.

    Attributes:
        topic: where it was read.
        partition: which partition of the topic.
        offset: its place there, >= 0.
        timestamp_ms: Kafka's time of the record, milliseconds since 1970.
        key: the bytes that chose the partition, or None.
        value: the message, or None for a tombstone.
        headers: (name, value) pairs in the order they were written; names may repeat. Where one value of a
            name is asked for, the last one counts, as with `lastHeader` of Kafka's clients.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Epoch(NamedTuple):
    """A log that was begun anew under the same name, as a person has said it was.

    Attributes:
        number: 1 for the first adoption; what was there before any is epoch 0.
        starts: of each partition that was begun anew, the first offset of this epoch.
    """

    number: int
    starts: Mapping[int, int]


class Epochs:
    """To which epoch an offset of the log belongs, as Kafka's own leader epochs do: each begins at an offset.

    Args:
        epochs: numbers rising.

    >>> epochs = Epochs([Epoch(1, {0: 0, 1: 0}), Epoch(2, {1: 40})])
    >>> epochs.of(0, 7), epochs.of(1, 39), epochs.of(1, 40), epochs.of(2, 0), epochs.newest
    (1, 1, 2, 0, 2)
    """

    def __init__(self, epochs: Sequence[Epoch] = ()) -> None:
        self.all = tuple(epochs)

    @property
    def newest(self) -> int:
        """The number of the newest; 0 where the log was never begun anew."""
        return self.all[-1].number if self.all else 0

    def of(self, partition: int, offset: int) -> int:
        """The epoch of the record that stands at an offset now."""
        for epoch in reversed(self.all):
            start = epoch.starts.get(partition)
            if start is not None and offset >= start:
                return epoch.number
        return 0

    def holds(self, epoch: int, origin: tuple[int, int]) -> bool:
        """Whether what was decided in an epoch of a place was decided of the record that stands there now."""
        return not self.all or self.of(*origin) == epoch


def header_pairs(fetched: Collection[tuple[str, str | bytes | None]]) -> tuple[tuple[str, bytes], ...]:
    """All headers of a record in their order, as a client fetched them; no value is an empty one.

    >>> header_pairs([("trace", b"1"), ("trace", b"2"), ("empty", None)])
    (('trace', b'1'), ('trace', b'2'), ('empty', b''))
    """
    if not fetched:  # nearly always
        return ()
    return tuple(
        (name, value.encode() if isinstance(value, str) else value or b"") for name, value in fetched
    )


class Passed(NamedTuple):
    """Offsets without a record that a group has passed on a partition: markers, the aborted, the compacted.

    Attributes:
        number: of them.
        to: the offset up to which they are counted; a group that went back counts none of them twice.
    """

    number: int
    to: int

    @property
    def text(self) -> str:
        """As the metadata of a commit says it; nothing where there is nothing to say.

        It ends with a NUL: librdkafka's clients read metadata as a C string, and beyond its end without one.
        """
        return f"passed={self.number}@{self.to}\0" if self.number else ""


_PASSED = re.compile(r"passed=(\d+)@(\d+)\0?", re.ASCII)


def passed_of(metadata: str | None) -> Passed:
    """What the metadata of a commit says.

    >>> passed_of(Passed(3, 41).text), passed_of("passed=3@41"), passed_of("somebody else's")
    (Passed(number=3, to=41), Passed(number=3, to=41), Passed(number=0, to=0))
    >>> Passed(0, 41).text
    ''
    """
    found = _PASSED.fullmatch(metadata or "")
    return Passed(int(found[1]), int(found[2])) if found else Passed(0, 0)
