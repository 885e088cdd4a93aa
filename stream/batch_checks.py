"""What every feature store checks of a batch before it changes anything."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from stream.ports import EventUpdate, LabelUpdate

OTHER_ENTITIES = (
    "the event at offset {offset} was applied with other entities than it has now: "
    "finish its batch with the settings it was begun with"
)

OTHER_TRANSACTION = (
    "partition {partition}, offset {offset}: transaction {transaction} is there now, and another one was "
    "applied there: this is another log than the one that was worked on, or its end was written anew. "
    "Nothing of it is decided or acknowledged; `riverwatch adopt transactions` begins it, the profiles kept"
)

_PLACE = re.compile(rb"(\d+)(?::\d+)? ")


def also_waited(entry: bytes, offset: int) -> bytes:
    """The entry of a pending label when an older knowledge waits too: it says where the last one stood.

    >>> also_waited(b'42 {"is_fraud":true}', 57), also_waited(b'42:57 {}', 60)
    (b'42:57 {"is_fraud":true}', b'42:60 {}')
    """
    return _PLACE.sub(rb"\g<1>:%d " % offset, entry, count=1) if _PLACE.match(entry) else entry


def other_transaction(update: EventUpdate) -> str:
    """What to say of an event whose place the journal knows as another transaction's."""
    return OTHER_TRANSACTION.format(
        partition=update.partition, offset=update.offset, transaction=update.transaction_id
    )


def check_updates(
    updates: Sequence[EventUpdate], ends: Mapping[int, int], fencing_tokens: Mapping[int, int]
) -> None:
    """Refuse a batch that an applied offset could not make exact.

    Raises:
        ValueError: a partition without end or fencing token, offsets that do not rise within their partition,
            or one beyond its partition's end (the applied offset would not cover it, and it would be applied
            twice).
    """
    for partition in ends:
        if partition not in fencing_tokens:
            raise ValueError(f"partition {partition} has no fencing token: claim it first")
    before: dict[int, int] = {}
    for update in updates:
        partition = update[0]
        offset = update[1]
        if partition not in ends:
            raise ValueError(f"partition {partition} has an event at offset {offset} and no end")
        if not before.get(partition, -1) < offset <= ends[partition]:
            raise ValueError(
                f"partition {partition}, offset {offset}: offsets must rise, and not beyond the end "
                f"{ends[partition]}"
            )
        before[partition] = offset


def check_labels(labels: Sequence[LabelUpdate]) -> None:
    """Refuse labels whose offsets do not rise.

    Raises:
        ValueError: they do not.
    """
    before = -1
    for label in labels:
        if label.offset <= before:
            raise ValueError(f"label at offset {label.offset} comes after {before}: offsets must rise")
        before = label.offset
