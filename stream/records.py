"""One record of a topic, as it was fetched. No Faust in here: the core reads it."""

from __future__ import annotations

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
        headers: (name, value) pairs in the order they were written; names may repeat.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
