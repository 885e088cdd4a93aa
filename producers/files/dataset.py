"""A file of payments as transactions and labels in order of time, in constant memory."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from producers.files.cleaning import Cleaning
from producers.files.mapping import FileMapping, nearest
from producers.files.rows import Row, RowReader, Timed, wanted_columns
from producers.files.tables import DatasetError, column_names, read_batches
from stream.messages import Label, Transaction

MOST_WAITING: Final = 100_000
"""Rows that are held for sorting at most, however long the window is."""


class _Known(Timed):
    """A label where it becomes known."""

    __slots__ = ("label",)

    def __init__(self, time: datetime, number: int, label: Label) -> None:
        super().__init__(time, number)
        self.label = label


_Item = TypeVar("_Item", Row, _Known)


def read_dataset(
    path: Path,
    mapping: FileMapping,
    *,
    cleaning: Cleaning | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[Transaction | Label]:
    """Transactions by `event_time` and their labels by `known_at`, merged in order of time.

    Rows that are out of order by no more than the mapping's window are sorted; rows that are later still are
    published where they stand and counted. At most 100,000 rows wait for that.

    Args:
        path: parquet, or CSV with a header; gzipped where it ends in `.gz`.
        mapping: what its columns mean.
        cleaning: counts what happens to the rows, while they are read.
        since: transactions from this time on.
        until: transactions before this time; their labels come all the same.

    Raises:
        DatasetError: the file cannot be read, or lacks a column.
        CardNumberInClear: a column that is not hashed holds card numbers.
    """
    cleaning = Cleaning() if cleaning is None else cleaning
    cleaning.hashed = mapping.hashed
    _know_columns(path, mapping)
    return _merged(_ordered(_rows(path, mapping, cleaning, since, until), mapping, cleaning), cleaning)


def _know_columns(path: Path, mapping: FileMapping) -> None:
    there = column_names(path, mapping.csv)
    for field, column in wanted_columns(mapping).items():
        if column not in there:
            hint = nearest(column, there)
            raise DatasetError(
                f"{path}: has no column `{column}`, which {mapping.name} maps to `{field}`{hint}"
            )


def _rows(
    path: Path, mapping: FileMapping, cleaning: Cleaning, since: datetime | None, until: datetime | None
) -> Iterator[Row]:
    wanted = wanted_columns(mapping)
    cleaner = RowReader(path, mapping, cleaning)

    def unreadable(number: int, reason: str) -> None:
        cleaning.rows += 1
        cleaning.discard(number, reason)

    for batch in read_batches(path, list(wanted.values()), form=mapping.csv, discard=unreadable):
        for row in cleaner.rows(batch):
            if (since is not None and row.time < since) or (until is not None and row.time >= until):
                cleaning.outside += 1
            else:
                yield row


def _ordered(rows: Iterator[Row], mapping: FileMapping, cleaning: Cleaning) -> Iterator[Row]:
    window = mapping.times.window
    waiting: deque[Row] = deque()
    overtaken: list[Row] = []
    latest = gone = None
    for row in rows:
        time = row.time
        if latest is None or time >= latest:
            latest = time
            waiting.append(row)
        else:
            cleaning.out_of_order.add(row.number)
            cleaning.furthest = max(cleaning.furthest, latest - time)
            if gone is not None and time < gone:
                cleaning.late += 1
                yield row
                continue
            heapq.heappush(overtaken, row)
        due = latest - window
        while _has(waiting, overtaken, due) or len(waiting) + len(overtaken) > MOST_WAITING:
            first = _next(waiting, overtaken)
            gone = first.time
            yield first
    while waiting or overtaken:
        yield _next(waiting, overtaken)


def _merged(rows: Iterator[Row], cleaning: Cleaning) -> Iterator[Transaction | Label]:
    coming: deque[_Known] = deque()
    overtaken: list[_Known] = []
    for row in rows:
        while _has(coming, overtaken, row.time):
            cleaning.labels += 1
            yield _next(coming, overtaken).label
        cleaning.transactions += 1
        yield row.transaction
        label = row.label
        if label is not None:
            known = _Known(label.known_at, row.number, label)
            if not coming or coming[-1].time <= known.time:
                coming.append(known)
            else:
                heapq.heappush(overtaken, known)
    while coming or overtaken:
        cleaning.labels += 1
        yield _next(coming, overtaken).label


# Most of what waits comes in order, which a queue keeps for a tenth of a heap's cost; the rest is in a heap.
def _has(ordered: deque[_Item], others: list[_Item], until: datetime) -> bool:
    """Whether something of a time is due."""
    return bool((ordered and ordered[0].time <= until) or (others and others[0].time <= until))


def _next(ordered: deque[_Item], others: list[_Item]) -> _Item:
    """The first of both, by time and number."""
    return heapq.heappop(others) if others and (not ordered or others[0] < ordered[0]) else ordered.popleft()
