"""Readers of single values: what a column holds, as the type that a message needs. None is an empty value."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from producers.files.mapping import NUMBERS, Condition, FileMapping, Times

Reader = Callable[[Any], Any]

_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000}
_TRUE: Final = frozenset({"1", "true", "t", "yes", "y", "fraud"})
_FALSE: Final = frozenset({"0", "false", "f", "no", "n", "genuine", "legit"})
_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}


class Unreadable(ValueError):  # noqa: N818 - a value, and the message says what it is not
    """A value is not what its column should hold. The message does not tell it: it may be a card number."""


def reader(field: str, mapping: FileMapping) -> Reader:
    """How values of a field, or of an attribute, are read."""
    if field in {"event_time", "known_at"}:
        return time_reader(mapping.times)
    attribute = mapping.attributes.get(field)
    if attribute is not None:
        return number_or_text if attribute.type == "auto" and field not in mapping.hashed else text
    numbers = comma_number if mapping.csv.decimal == "," else number
    special: dict[str, Reader] = dict.fromkeys(NUMBERS, numbers)
    special |= {"amount_minor": whole, "is_fraud": truth, "currency": upper}
    return special.get(field, text)


def text(value: Any) -> str | None:
    """Text without blanks around it; whole numbers without a point (5.0 is `5`)."""
    if isinstance(value, str):
        return value.strip() or None
    if value is None or value != value:  # noqa: PLR0124 - only NaN differs from itself
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip() or None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def upper(value: Any) -> str | None:
    """Text in capitals."""
    found = text(value)
    return found and found.upper()


def number(value: Any) -> float | None:
    """A finite number; NaN is an empty value."""
    if value is None or value == "":
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise Unreadable("is not a number") from None
    if math.isfinite(found):
        return found
    if math.isnan(found):
        return None
    raise Unreadable("is not finite")


def comma_number(value: Any) -> float | None:
    """A number whose decimals follow a comma: 1.234,56."""
    return number(value.replace(".", "").replace(",", ".") if isinstance(value, str) else value)


def whole(value: Any) -> int | None:
    """A whole number."""
    found = number(value)
    if found is None:
        return None
    if not found.is_integer():
        raise Unreadable("is not a whole number")
    return int(value) if isinstance(value, int) else int(found)


def number_or_text(value: Any) -> float | str | None:
    """A number where it reads as one, else text."""
    try:
        return number(value)
    except Unreadable:
        return value.isoformat() if isinstance(value, datetime) else text(value)


def truth(value: Any) -> bool | None:
    """Fraud or not: 1, true, yes, fraud; 0, false, no, genuine."""
    found = (text(value) or "").lower()
    if found in _TRUE:
        return True
    if found in _FALSE:
        return False
    if not found:
        return None
    raise Unreadable("is neither fraud (1, true, yes) nor genuine (0, false, no)")


def time_reader(times: Times) -> Reader:
    """Times in UTC, from timestamps, text or numbers."""
    zone = UTC if times.timezone == "UTC" else ZoneInfo(times.timezone)
    scale = _PER_SECOND[times.unit]

    def read(value: Any) -> datetime | None:
        if value is None or value != value:  # noqa: PLR0124 - only NaN differs from itself
            return None
        try:
            if isinstance(value, datetime):
                found = value
            elif isinstance(value, str):
                bare = value.strip()
                if not bare:
                    return None
                found = _parse(bare, times.format, scale)
            else:
                found = datetime.fromtimestamp(float(value) / scale, UTC)
            if found.tzinfo is None:
                found = found.replace(tzinfo=zone)
            return found if found.tzinfo is UTC else found.astimezone(UTC)
        except (TypeError, ValueError, OverflowError, OSError):
            raise Unreadable("is not a time") from None

    return read


def _parse(value: str, form: str | None, scale: int) -> datetime:
    if form is not None:
        return datetime.strptime(value, form)  # noqa: DTZ007 - the caller adds the mapping's time zone
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return datetime.fromtimestamp(float(value) / scale, UTC)


def holds(condition: Condition, mapping: FileMapping) -> Callable[[Any], bool]:
    """Whether a value meets a condition; an empty value meets only `is empty`.

    Raises:
        ValueError: a time is compared with what is none.
    """
    if condition.operator is None or condition.value is None:
        return lambda value: value is None
    compare = _OPERATORS[condition.operator]
    wanted: Any = condition.value
    if condition.field in {"event_time", "known_at"}:
        try:
            wanted = time_reader(Times(timezone=mapping.times.timezone))(wanted)
        except Unreadable:
            raise ValueError(
                f"[clean] discard: {condition.text!r} compares a time with what is none"
            ) from None
    elif condition.field in {*NUMBERS, "is_fraud"}:
        wanted = float(wanted)
    elif condition.field in mapping.attributes:
        wanted = number_or_text(wanted)

    def judge(value: Any) -> bool:
        try:
            return value is not None and compare(value, wanted)
        except TypeError:
            # Text beside a number in one column: they are not equal, and neither comes first.
            return False

    return judge
