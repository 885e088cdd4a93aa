"""At the edge: a raw record becomes a transaction or a label, or is rejected with a reason. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final, NamedTuple, Self, TypeVar

import msgspec

from models.features.currencies import EXPONENTS
from stream.card_numbers import card_number_field, looks_like_card_number, masked, masked_text
from stream.messages import EARLIEST, LATEST, Label, Transaction, label_decoder, transaction_decoder
from stream.ports import Message
from stream.records import Record

MOST_KEPT: Final = 900_000  # bytes of a dead letter's value and original headers: with its own it fits
MOST_KEY_KEPT: Final = 4096
HEADER_FRAME: Final = 10  # bytes at most that Kafka's record format adds to a header: two lengths
UNKNOWN_TRANSACTION: Final = "unknown_transaction"  # why a label that expired is a dead letter
CARD_NUMBER: Final = "card_number_in_clear"
ID_CONFLICT: Final = "id_conflict"  # other content came under a transaction_id that is decided
MOST_NAMED: Final = 100  # characters of a field's name in a dead letter
WAITED: Final = "waited"  # the header of a label that is requeued, or expired
_MOST_DIGITS: Final = 18  # of a partition or an offset: more are none of Kafka's

T = TypeVar("T")


class Limits(NamedTuple):
    """What is believable.

    Attributes:
        max_bytes: of one message.
        future_tolerance: seconds that an event may be dated after Kafka's time of its record.
        refuse_card_numbers: a message that shows a card number anywhere is refused.
        card_number_exempt: fields that may hold digits that look like one (never the card_id).
    """

    max_bytes: int = 65_536
    future_tolerance: float = 3600.0
    refuse_card_numbers: bool = True
    card_number_exempt: frozenset[str] = frozenset()


class Rejected(NamedTuple):
    """Why a record cannot be processed.

    Attributes:
        reason: stable, for machines.
        detail: what was wrong, for people; never the content of a card number.
    """

    reason: str
    detail: str


def admit_transaction(record: Record, limits: Limits) -> Transaction | Rejected:
    """The transaction in a record of `transactions`, or why there is none."""
    if record.key is None:
        return Rejected("null_key", "the record has no key; the key is the card_id")
    found = _decoded(record, limits, transaction_decoder.decode)
    if isinstance(found, Rejected):
        return found
    if shown := _card_number(record, limits, found.card_id):
        return shown
    if record.key != found.card_id.encode():
        return Rejected("key_mismatch", "the record's key is not its card_id")
    if found.currency not in EXPONENTS:
        return Rejected("unknown_currency", f"{found.currency} is no currency of ISO 4217")
    wrong = _implausible(found.event_time, "event_time", record, limits)
    return wrong or found


def admit_label(record: Record, limits: Limits) -> Label | Rejected:
    """The label in a record of `labels`, or why there is none."""
    found = _decoded(record, limits, label_decoder.decode)
    if isinstance(found, Rejected):
        return found
    if shown := _card_number(record, limits):
        return shown
    if found.source == "maturity":  # dated by the horizon, which may lie ahead of the clock in a replay
        limits = limits._replace(future_tolerance=math.inf)
    return _implausible(found.known_at, "known_at", record, limits) or found


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
    original, pending = _original_headers(record)
    return Message(
        topic,
        key and key[:MOST_KEY_KEPT],
        value and value[:pending],
        (
            *original,
            ("reason", why.reason.encode()),
            ("detail", masked_text(why.detail).encode()),
            ("topic", record.topic.encode()),
            ("partition", b"%d" % record.partition),
            ("offset", b"%d" % record.offset),
            ("failed_at", now.isoformat().encode()),
            *((("size", b"%d" % size),) if size > pending else ()),
            *((("epoch", b"%d" % epoch),) if epoch else ()),
        ),
    )


def _original_headers(record: Record) -> tuple[list[tuple[str, bytes]], int]:
    """The headers that fit into a dead letter, and how many bytes they leave for its value."""
    pending = MOST_KEPT
    kept = []
    for name, value in record.headers:
        needed = len(name.encode()) + len(value) + HEADER_FRAME
        if needed > pending:
            break
        pending -= needed
        kept.append((masked_text(name), masked(value) or b""))
    return kept, pending


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


def _decoded(record: Record, limits: Limits, decode: Callable[[bytes], T]) -> T | Rejected:
    value = record.value
    if value is None:
        return Rejected("null_value", "the record has no value")
    if len(value) > limits.max_bytes:
        return Rejected("too_large", f"{len(value)} bytes; at most {limits.max_bytes} are taken")
    try:
        return decode(value)
    except msgspec.ValidationError as error:
        return Rejected("invalid", str(error))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Rejected("not_json", str(error))
    except RecursionError:  # a few kilobytes of brackets are enough
        return Rejected("too_deep", "nested too deeply to be read")


def _card_number(record: Record, limits: Limits, card_id: str = "") -> Rejected | None:
    """Why a message that could be decoded must not go on: it shows a card number."""
    if not limits.refuse_card_numbers:
        return None
    # Of a card_id the check digit is enough: a token that passes for a card number is none.
    field = "card_id" if looks_like_card_number(card_id.encode()) else None
    field = field or card_number_field(record.value or b"", limits.card_number_exempt)
    if field is None:
        return None
    where = field if field.isascii() and field.isprintable() and len(field) <= MOST_NAMED else "a field"
    return Rejected(CARD_NUMBER, f"{where} shows a card number: send a token or a keyed hash of it")


def _implausible(time: datetime, name: str, record: Record, limits: Limits) -> Rejected | None:
    if not EARLIEST <= time < LATEST:
        return Rejected("implausible_time", f"{name} {time.isoformat()} is not of this age")
    # Against the record's own time, not the clock: a redelivery must be judged as the first delivery was.
    ahead = time.timestamp() - record.timestamp_ms / 1000.0
    if ahead > limits.future_tolerance:
        return Rejected(
            "future_time", f"{name} {time.isoformat()} is {ahead:.0f} s after the record came to Kafka"
        )
    return None
