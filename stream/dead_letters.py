"""Dead letters: what cannot be processed, its reason, and where it stood; made and parsed here. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple, Self

from stream.admission import CARD_NUMBER, Rejected
from stream.card_numbers import masked, masked_text
from stream.ports import Message
from stream.records import Record

MOST_KEPT: Final = 900_000  # bytes of a dead letter's value and original headers: with its own it fits
MOST_KEY_KEPT: Final = 4096
HEADER_FRAME: Final = 10  # bytes at most that Kafka's record format adds to a header: two lengths
WAITED: Final = "waited"  # the header of a label that is requeued, or expired
_MOST_DIGITS: Final = 18  # of a partition or an offset: more are none of Kafka's


def dead_letter(
    record: Record,
    why: Rejected,
    topic: str,
    now: datetime,
    *,
    mask_card_numbers: bool = True,
    epoch: int = 0,
) -> Message:
    """The dead letter of a record: its original bytes, and what was wrong with them.

    The original's headers come first, in their order, and the dead letter's own behind them: whoever takes
    the last of a name, as `lastHeader` of Kafka's clients does, has its own. Card numbers in them are masked.

    Of a value that a topic of Kafka's usual limit might refuse (1 MiB, with the headers that are added) the
    beginning is kept, and the header `size` says how long it was: a dead letter that cannot be sent would
    stop its partition for good. Original headers that alone would fill it are left out, from the first that
    does not fit.

    Args:
        record: as it was fetched.
        why: it was rejected.
        topic: of dead letters.
        now: stamps `failed_at`.
        mask_card_numbers: of every card number in the key and the value keep the first six and the last
            four digits, whatever the record was rejected for.
        epoch: of the record's log; said where it is not the first.
    """
    hide = mask_card_numbers or why.reason == CARD_NUMBER
    key = masked(record.key) if hide else record.key
    value = masked(record.value) if hide else record.value
    size = len(value or b"")
    original, room = _original_headers(record)
    return Message(
        topic,
        key and key[:MOST_KEY_KEPT],
        value and value[:room],
        (
            *original,
            ("reason", why.reason.encode()),
            ("detail", masked_text(why.detail).encode()),
            ("topic", record.topic.encode()),
            ("partition", b"%d" % record.partition),
            ("offset", b"%d" % record.offset),
            ("failed_at", now.isoformat().encode()),
            *((("size", b"%d" % size),) if size > room else ()),
            *((("epoch", b"%d" % epoch),) if epoch else ()),
        ),
    )


def _original_headers(record: Record) -> tuple[list[tuple[str, bytes]], int]:
    """The headers that fit into a dead letter, and how many bytes they leave for its value."""
    room = MOST_KEPT
    kept = []
    for name, value in record.headers:
        needed = len(name.encode()) + len(value) + HEADER_FRAME
        if needed > room:
            break
        room -= needed
        kept.append((masked_text(name), masked(value) or b""))
    return kept, room


class DeadLetter(NamedTuple):
    """What the headers of a dead letter say: the inverse of `dead_letter`.

    Attributes:
        reason: stable, for machines; empty where the letter does not say.
        detail: what was wrong, for people.
        topic, partition, offset: where the record that could not be processed stands.
        last_waited: for a label that expired, the last one of its transaction that did; else `offset`.
        epoch: of the record's log.
    """

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    last_waited: int
    epoch: int = 0

    @property
    def place(self) -> tuple[int, int]:
        """Partition and offset of the record."""
        return self.partition, self.offset

    @classmethod
    def parse(cls, headers: Iterable[tuple[str, bytes]]) -> Self | None:
        """Read the headers of a dead letter; None where they do not say which record it is about.

        Kafka lets a header's name repeat. A dead letter carries its original's headers before its own, so the
        last of a name is the one that was written with the dead letter.

        >>> DeadLetter.parse([("offset", b"9"), ("topic", b"labels"), ("partition", b"0"), ("offset", b"7")])
        DeadLetter(reason='', detail='', topic='labels', partition=0, offset=7, last_waited=7, epoch=0)
        """
        own = dict(headers)
        partition, offset = _number(own.get("partition")), _number(own.get("offset"))
        if "topic" not in own or partition is None or offset is None:
            return None
        reason, detail, topic = (own.get(each, b"").decode(errors="replace") for each in _TEXTS)
        last_waited = _number(own.get(WAITED))
        last = offset if last_waited is None else last_waited
        return cls(reason, detail, topic, partition, offset, last, _number(own.get("epoch")) or 0)


_TEXTS = ("reason", "detail", "topic")


def _number(value: bytes | None) -> int | None:
    return int(value) if value and len(value) <= _MOST_DIGITS and value.isdigit() else None
