"""Which records are transactions or labels, from docs/messages.md alone: fields, ranges and reasons."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, NoReturn

from tests.second_judge import content
from tests.second_judge.currencies import DECIMALS
from tests.second_judge.topics import Record

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST = 631_152_000.0  # 1990
LAST = 7_258_118_400.0  # 2200
MAX_AMOUNT = 10**15
IN_CLEAR = "card_number_in_clear"
MALFORMED = frozenset({"not_json", "too_deep", "invalid"})
"""Of these it is not published which is named of a value that is wrong in several places."""

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):?(\d\d))", re.ASCII
)
_RUN = re.compile(rb"[0-9]{13,19}")


class Rules(NamedTuple):
    """What an installation's settings say is believable."""

    max_event_bytes: int = 65_536
    future_tolerance: float = 3600.0
    refuse_card_numbers: bool = True


class Verdict(NamedTuple):
    """A record as it must be taken: `reason` is empty where it is valid.

    `fields` are its own, each time as seconds since 1970; empty where they mean nothing.
    """

    reason: str
    fields: dict[str, Any]


class _InvalidError(Exception):
    """A field is missing, or of a wrong type or range."""


def transaction(record: Record, rules: Rules) -> Verdict:
    """How a record of `transactions` must be taken; reasons are tried in the order of the published table."""
    if record.key is None:
        return Verdict("null_key", {})
    verdict = _read(record, rules, _transaction)
    if verdict.reason:
        return verdict
    fields = verdict.fields
    card = fields["card_id"].encode()
    if rules.refuse_card_numbers and (is_card_number(card) or content.surely_shows(record.value)):
        return Verdict(IN_CLEAR, fields)
    if record.key != card:
        return Verdict("key_mismatch", fields)
    if fields["currency"] not in DECIMALS:
        return Verdict("unknown_currency", {})
    return Verdict(_believable(fields["event_time"], record, rules.future_tolerance), fields)


def label(record: Record, rules: Rules) -> Verdict:
    """How a record of `labels` must be taken."""
    verdict = _read(record, rules, _label)
    if verdict.reason:
        return verdict
    if rules.refuse_card_numbers and content.surely_shows(record.value):
        return Verdict(IN_CLEAR, verdict.fields)
    ahead = math.inf if verdict.fields["source"] == "maturity" else rules.future_tolerance
    return Verdict(_believable(verdict.fields["known_at"], record, ahead), verdict.fields)


def is_card_number(text: bytes) -> bool:
    """13 to 19 digits that pass the Luhn check.

    >>> is_card_number(b"5555555555554444"), is_card_number(b"5555555555554445")
    (True, False)
    """
    if not _RUN.fullmatch(text):
        return False
    digits = [int(digit) for digit in text.decode()][::-1]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def may_be_masked(record: Record) -> bool:
    """Whether a dead letter of this record may hide digits of it."""
    return content.may_show(record.key) or content.may_show(record.value)


def seconds(text: str) -> float:
    """An RFC 3339 time as seconds since 1970, rounded to the microsecond.

    >>> seconds("1970-01-02T01:00:00.5+01:00")
    86400.5
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise _InvalidError("no time of RFC 3339")
    fraction, _, sign, hours, minutes = found.groups()[6:]
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise _InvalidError(str(error)) from error
    digits = (fraction or "").ljust(7, "0")
    micros = int(digits[:6]) + (digits[6] >= "5")
    offset = 0
    if sign:
        if int(hours) > 23 or int(minutes) > 59:
            raise _InvalidError("no offset of RFC 3339")
        offset = (int(hours) * 60 + int(minutes)) * (60 if sign == "+" else -60)
    whole = (moment - EPOCH) // timedelta(seconds=1) - offset
    return (whole * 1_000_000 + micros) / 1_000_000


def _read(record: Record, rules: Rules, checked: Any) -> Verdict:
    value = record.value
    if value is None:
        return Verdict("null_value", {})
    if len(value) > rules.max_event_bytes:
        return Verdict("too_large", {})
    fields: dict[str, Any] = {}
    try:
        found = json.loads(value.decode(), parse_constant=_no_constant)
        if b"\\u" in value:
            json.dumps(found, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        fields, reason = checked(found), ""
    except _InvalidError:
        reason = "invalid"
    except RecursionError:
        reason = "too_deep"
    except ValueError:
        reason = "not_json"
    return Verdict(reason, fields)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _transaction(found: Any) -> dict[str, Any]:
    _object(found)
    fields = {name: _text(found.get(name), 1, 128) for name in ("transaction_id", "card_id", "merchant_id")}
    fields["event_time"] = _time(found.get("event_time"))
    fields["amount_minor"] = _amount(found.get("amount_minor"))
    fields["currency"] = _currency(found.get("currency"))
    fields["device_id"] = _optional(found.get("device_id"), 1, 128)
    for name in ("ip", "country", "category", "channel"):
        fields[name] = _optional(found.get(name), 0, 256)
    fields["latitude"] = _degrees(found.get("latitude"), 90.0)
    fields["longitude"] = _degrees(found.get("longitude"), 180.0)
    fields["attributes"] = _attributes(found.get("attributes", {}))
    fields["content_digest"] = content.digest(fields)
    return fields


def _label(found: Any) -> dict[str, Any]:
    _object(found)
    is_fraud = found.get("is_fraud")
    if not isinstance(is_fraud, bool):
        raise _InvalidError("is_fraud")
    return {
        "transaction_id": _text(found.get("transaction_id"), 1, 128),
        "is_fraud": is_fraud,
        "known_at": _time(found.get("known_at")),
        "source": _text(found.get("source"), 0, 256),
    }


def _object(value: Any) -> None:
    if not isinstance(value, dict):
        raise _InvalidError("object")


def _text(value: Any, least: int, most: int) -> Any:
    if not isinstance(value, str) or not least <= len(value) <= most:
        raise _InvalidError("text")
    return value


def _optional(value: Any, least: int, most: int) -> Any:
    return None if value is None else _text(value, least, most)


def _time(value: Any) -> float:
    return seconds(_text(value, 0, 128))


def _amount(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_AMOUNT:
        raise _InvalidError("amount_minor")
    return value


def _currency(value: Any) -> str:
    if not isinstance(value, str) or re.fullmatch("[A-Z]{3}", value) is None:
        raise _InvalidError("currency")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1.7976931348623157e308:
        raise _InvalidError("number")
    return float(value)


def _degrees(value: Any, most: float) -> float | None:
    if value is None:
        return None
    number = _number(value)
    if abs(number) > most:
        raise _InvalidError("degrees")
    return number


def _attributes(value: Any) -> dict[str, str | float]:
    _object(value)
    if len(value) > 64:
        raise _InvalidError("attributes")
    return {_text(name, 0, 256): _text_or_number(each) for name, each in value.items()}


def _text_or_number(value: Any) -> str | float:
    return str(_text(value, 0, 256)) if isinstance(value, str) else _number(value)


def _believable(time: float, record: Record, tolerance: float) -> str:
    if not FIRST <= time < LAST:
        return "implausible_time"
    return "future_time" if time - record.timestamp_ms / 1000.0 > tolerance else ""
