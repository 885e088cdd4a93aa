"""Files as batches of columns, in constant memory: parquet and CSV, plain or gzipped."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from producers.files.mapping import Csv

BATCH_ROWS: Final = 8_192
_MICROSECONDS: Final = 1_000_000


class DatasetError(ValueError):
    """A file cannot be read; the message is one line that names it."""


class RowBatch(NamedTuple):
    """Some rows; `numbers` holds the number of each (1 is the first after the header)."""

    numbers: Sequence[int]
    columns: dict[str, list[Any]]


Discard = Callable[[int, str], None]
"""A row cannot be read: its number and why."""


def column_names(path: Path, form: Csv) -> list[str]:
    """The names of a file's columns.

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        if _is_parquet(path):
            with pq.ParquetFile(path) as file:
                return list(file.schema_arrow.names)
        with _open_csv(path, form) as lines:
            return next(csv.reader(lines, delimiter=form.delimiter), [])
    except (OSError, pa.ArrowException, csv.Error, UnicodeError, LookupError) as error:
        raise DatasetError(f"{path}: cannot be read: {_line(error)}") from None


def read_batches(path: Path, columns: Sequence[str], *, form: Csv, discard: Discard) -> Iterator[RowBatch]:
    """The rows of some columns. Rows that cannot be read go to `discard`.

    Raises:
        DatasetError: the file, or a part of it, cannot be read.
    """
    try:
        yield from _parquet(path, columns) if _is_parquet(path) else _csv(path, columns, form, discard)
    except (OSError, EOFError, pa.ArrowException, UnicodeError) as error:
        raise DatasetError(f"{path}: cannot be read further: {_line(error)}") from None


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[RowBatch]:
    first = 1
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=list(dict.fromkeys(columns))):
            names = batch.schema.names
            yield RowBatch(
                range(first, first + batch.num_rows),
                {name: _values(column) for name, column in zip(names, batch.columns, strict=True)},
            )
            first += batch.num_rows


def _values(column: pa.Array) -> list[Any]:
    if not pa.types.is_timestamp(column.type):
        return list(column.to_pylist())
    zone = None if column.type.tz is None else UTC
    micros = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
    if zone is None and not micros.null_count:
        times: list[Any] = micros.to_numpy().astype("datetime64[us]").tolist()
        if set(map(type, times)) == {datetime}:  # NumPy leaves a number where a year has five digits
            return times
    return [None if each is None else _time(each, zone) for each in micros.to_pylist()]


def _time(micros: int, zone: Any) -> datetime | str:
    try:
        return datetime.fromtimestamp(micros / _MICROSECONDS, UTC).replace(tzinfo=zone)
    except (ValueError, OverflowError, OSError):
        return "beyond what a time can be"


def _open_csv(path: Path, form: Csv) -> Any:
    # A byte order mark is no part of the first name; a broken character spoils its value, not the file.
    encoding = "utf-8-sig" if form.encoding.lower() in {"utf-8", "utf8"} else form.encoding
    opened = gzip.open if path.suffix == ".gz" else open
    return opened(path, "rt", encoding=encoding, errors="replace", newline="")


def _csv(path: Path, columns: Sequence[str], form: Csv, discard: Discard) -> Iterator[RowBatch]:
    with _open_csv(path, form) as lines:
        rows = csv.reader(lines, delimiter=form.delimiter)
        header = next(rows)
        places = {name: header.index(name) for name in columns}
        numbers: list[int] = []
        kept: list[list[str]] = []
        for number in count(1):
            try:
                row = next(rows)
            except StopIteration:
                break
            except csv.Error as error:
                discard(number, f"cannot be read: {error}")
                continue
            if len(row) != len(header):
                discard(number, f"has {len(row)} columns instead of {len(header)}")
                continue
            numbers.append(number)
            kept.append(row)
            if len(kept) == BATCH_ROWS:
                yield RowBatch(
                    numbers, {name: [row[place] for row in kept] for name, place in places.items()}
                )
                numbers, kept = [], []
        if kept:
            yield RowBatch(numbers, {name: [row[place] for row in kept] for name, place in places.items()})
