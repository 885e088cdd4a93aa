"""At the edge: a raw record becomes a transaction or a label, or is rejected with a reason. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Final, NamedTuple, TypeVar

import msgspec

from models.features.currencies import EXPONENTS
from stream.card_numbers import card_number_field, looks_like_card_number
from stream.messages import EARLIEST, LATEST, Label, Transaction, label_decoder, transaction_decoder
from stream.records import Record

UNKNOWN_TRANSACTION: Final = "unknown_transaction"  # why a label that expired is a dead letter
CARD_NUMBER: Final = "card_number_in_clear"
ID_CONFLICT: Final = "id_conflict"  # other content came under a transaction_id that is decided
MOST_NAMED: Final = 100  # characters of a field's name in a dead letter

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
