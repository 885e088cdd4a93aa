"""Batches of raw columns to rows: read, cleaned, protected, judged; what is wrong is counted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from models.features.currencies import EXPONENTS, minor_units
from producers.files.card_numbers import are_card_numbers, looks_like_card_number
from producers.files.cleaning import Cleaning
from producers.files.mapping import REQUIRED, FileMapping
from producers.files.tables import DatasetError, RowBatch
from producers.files.values import Reader, Unreadable, holds, reader
from stream.messages import EARLIEST, LATEST, MAX_AMOUNT_MINOR, Label, Transaction

RECURRING: Final = 0.7
"""Share of new values in a batch from which a column is taken for one whose values do not recur."""
MOST_KNOWN: Final = 200_000
"""Values of a column that are remembered at most."""
_LABEL_FIELDS: Final = ("is_fraud", "known_at")
_NEVER_EMPTY: Final = frozenset({*REQUIRED, "amount", "amount_minor"})
_PLACE: Final = re.compile(r"(.*?)(?: - at `\$\.(\w+).*`)?", re.DOTALL)


class CardNumberInClear(DatasetError):  # noqa: N818 - what was found
    """A column holds card numbers and the mapping does not hash it: nothing of its batch was published."""


class _Bad(NamedTuple):
    reason: str


class Timed:
    """What stands at a moment; of the same time in order of the file."""

    __slots__ = ("number", "time")

    def __init__(self, time: datetime, number: int) -> None:
        self.time = time
        self.number = number

    def __lt__(self, other: Timed) -> bool:
        return self.time < other.time or (self.time == other.time and self.number < other.number)


class Row(Timed):
    """A transaction, and its label where it has one."""

    __slots__ = ("label", "transaction")

    def __init__(self, time: datetime, number: int, transaction: Transaction, label: Label | None) -> None:
        super().__init__(time, number)
        self.transaction = transaction
        self.label = label


def wanted_columns(mapping: FileMapping) -> dict[str, str]:
    """The columns that a mapping reads, by the field or the attribute that each becomes."""
    return mapping.columns | {name: attribute.column for name, attribute in mapping.attributes.items()}


class RowReader:
    """Batches of raw columns to rows."""

    def __init__(self, path: Path, mapping: FileMapping, cleaning: Cleaning) -> None:
        self._path = path
        self._mapping = mapping
        self._cleaning = cleaning
        self._wanted = wanted_columns(mapping)
        self._readers = {field: reader(field, mapping) for field in self._wanted}
        self._known: dict[str, dict[Any, Any] | None] = {field: {} for field in self._wanted}
        self._fill = {field: self._filling(field, value) for field, value in mapping.clean.fill.items()}
        self._conditions = [(each, holds(each, mapping)) for each in mapping.clean.discard]
        self._message_fields = [field for field in mapping.columns if field not in {*_LABEL_FIELDS, "amount"}]
        self._major = "amount" in mapping.columns or "amount" in mapping.defaults
        self._factors: dict[Any, int] = {}
        self._sampled: set[str] = set()

    def rows(self, batch: RowBatch) -> Iterator[Row]:
        """The rows that remain."""
        self._cleaning.rows += len(batch.numbers)
        columns = {field: self._read(field, batch) for field in self._wanted}
        kept = self._discard(columns, batch.numbers)
        for field in self._mapping.clean.clip:
            self._clip(field, columns[field], kept)
        self._protect(columns)
        defaults, size = self._mapping.defaults, len(batch.numbers)
        nothing: list[Any] = [None] * size
        is_fraud, known = (columns.get(field, nothing) for field in _LABEL_FIELDS)
        given = [(field, columns[field]) for field in self._message_fields]
        if self._major:
            amounts = columns.get("amount") or [defaults.get("amount")] * size
            currencies = columns.get("currency") or [defaults.get("currency")] * size
            given.append(("amount_minor", list(map(self._minor, amounts, currencies))))
        attributes = [(name, columns[name]) for name in self._mapping.attributes]
        constant = {field: value for field, value in defaults.items() if field != "amount"}
        for place, number in enumerate(batch.numbers):
            if not kept[place]:
                continue
            raw: dict[str, Any] = constant.copy()
            for field, values in given:
                raw[field] = values[place]
            if attributes:
                facts = {name: values[place] for name, values in attributes}
                raw["attributes"] = {name: fact for name, fact in facts.items() if fact is not None}
            transaction = self._transaction(number, raw)
            if transaction is not None:
                label = self._label(number, transaction, is_fraud[place], known[place])
                yield Row(transaction.event_time, number, transaction, label)

    def _filling(self, field: str, value: float | str) -> Any:
        try:
            return self._readers[field](value)
        except Unreadable as error:
            raise DatasetError(f"{self._mapping.name}: [clean] fill: `{field}` {error}") from None

    def _read(self, field: str, batch: RowBatch) -> list[Any]:
        read, raw = self._readers[field], batch.columns[self._wanted[field]]
        known = self._known[field]
        try:
            values = list(map(read, raw)) if known is None else self._recall(field, known, read, raw)
        except (Unreadable, TypeError):  # TypeError: values that cannot be looked up, as lists
            values = [_readable(read, each) for each in raw]
        if field in self._fill:
            empty = [place for place, value in enumerate(values) if value is None]
            filled = self._cleaning.filled
            filled[field] = filled.get(field, 0) + len(empty)
            for place in empty:
                values[place] = self._fill[field]
        return values

    def _recall(self, field: str, known: dict[Any, Any], read: Reader, raw: list[Any]) -> list[Any]:
        """Values that recur (of cards, of merchants) are read once, and are then the same objects."""
        values = []
        news = 0
        for each in raw:
            value = known.get(each)
            if value is None:
                value = known[each] = read(each)
                news += 1
            values.append(value)
        if news > len(raw) * RECURRING or len(known) > MOST_KNOWN:
            self._known[field] = None if news > len(raw) * RECURRING else {}
        return values

    def _discard(self, columns: dict[str, list[Any]], numbers: Any) -> list[bool]:
        kept = [True] * len(numbers)
        for condition, met in self._conditions:
            for place, value in enumerate(columns[condition.field]):
                if kept[place] and not isinstance(value, _Bad) and met(value):
                    kept[place] = False
                    self._cleaning.discard(numbers[place], condition.text)
        return kept

    def _clip(self, field: str, values: list[Any], kept: list[bool]) -> None:
        low, high = self._mapping.clean.clip[field]
        clipped = 0
        for place, value in enumerate(values):
            if kept[place] and isinstance(value, int | float) and not low <= value <= high:
                values[place] = type(value)(min(max(value, low), high))
                clipped += 1
        self._cleaning.clipped[field] = self._cleaning.clipped.get(field, 0) + clipped

    def _protect(self, columns: dict[str, list[Any]]) -> None:
        hashed = self._mapping.hash
        for field, values in columns.items():
            if field in self._mapping.hashed and hashed is not None:
                values[:] = [hashed(value) if isinstance(value, str) else value for value in values]
            elif field == "card_id":
                if any(looks_like_card_number(each) for each in set(values) if isinstance(each, str)):
                    self._refuse(field)
            elif field not in _LABEL_FIELDS and field not in self._sampled:
                # One batch tells: a column holds card numbers or it does not.
                shown = [_shown(each) for each in values if isinstance(each, str | float)]
                if are_card_numbers(shown):
                    self._refuse(field)
                if shown:
                    self._sampled.add(field)

    def _refuse(self, field: str) -> None:
        raise CardNumberInClear(
            f'{self._path}: column `{self._wanted[field]}` holds card numbers: add columns = ["{field}"] '
            f"under [hash] in {self._mapping.name} (and a key), or map a token"
        )

    def _minor(self, amount: Any, currency: Any) -> Any:
        if not isinstance(amount, int | float):
            return amount
        factor = self._factors.get(currency)
        if factor is None:
            # An unknown currency is found, and counted, when the row is judged.
            factor = self._factors[currency] = minor_units(currency) if currency in EXPONENTS else 1
        # What is out of all bounds, infinite in minor units, is found out when the row is judged, too.
        return round(min(max(float(amount) * factor, 0.0), 10.0 * MAX_AMOUNT_MINOR))

    def _transaction(self, number: int, raw: dict[str, Any]) -> Transaction | None:
        while True:
            try:
                transaction = msgspec.convert(raw, Transaction)
            except msgspec.ValidationError as error:
                field, reason = _why(error, raw)
            else:
                wrong = _implausible(transaction)
                if wrong is not None:
                    self._cleaning.discard(number, wrong)
                    return None
                return transaction
            if field in _NEVER_EMPTY or field not in raw:
                told = "amount" if field == "amount_minor" and self._major else field
                self._cleaning.discard(number, f"{told} {reason}")
                return None
            # What is optional never costs a transaction.
            self._cleaning.leave_out(number, f"{field} {reason}")
            del raw[field]

    def _label(self, number: int, transaction: Transaction, is_fraud: Any, known: Any) -> Label | None:
        rules = self._mapping.labels
        for field, value in zip(_LABEL_FIELDS, (is_fraud, known), strict=True):
            if isinstance(value, _Bad):
                self._cleaning.leave_out(number, f"label: {field} {value.reason}")
                return None
        if is_fraud is None or not (is_fraud or rules.genuine):
            return None
        if known is None:
            known = transaction.event_time + rules.delay
        elif known < transaction.event_time:
            self._cleaning.leave_out(number, "label: known before its transaction")
            return None
        return Label(
            transaction_id=transaction.transaction_id,
            is_fraud=is_fraud,
            known_at=known,
            source=rules.source,
        )


def _implausible(transaction: Transaction) -> str | None:
    if transaction.currency not in EXPONENTS:
        return "currency is none of ISO 4217"
    if not EARLIEST <= transaction.event_time < LATEST:
        return "event_time is not of this age"
    return None


def _shown(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.0f}"


def _readable(read: Any, value: Any) -> Any:
    try:
        return read(value)
    except Unreadable as error:
        return _Bad(str(error))


def _why(error: msgspec.ValidationError, raw: dict[str, Any]) -> tuple[str, str]:
    found = _PLACE.fullmatch(str(error))
    message, field = (found[1], found[2] or "row") if found else (str(error), "row")
    if isinstance(raw.get(field), _Bad):
        return field, raw[field].reason
    if field in raw and raw[field] is None:
        return field, "is empty"
    if field == "amount_minor" and raw[field] < 1:
        return field, "is not above 0"
    return field, f"is wrong: {message[:1].lower()}{message[1:]}"
