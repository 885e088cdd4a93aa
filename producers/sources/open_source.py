"""Where an experiment's transactions and labels come from: a file, or a simulated world.

Topics are read by `stream.experiment.topics.source`.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import pyarrow.parquet as pq

from producers.files.cleaning import Cleaning
from producers.files.dataset import read_dataset
from producers.files.mapping import load_mapping
from producers.simulator.simulate import DEMO, Truth, simulate_with_truth
from stream.messages import Label, Transaction

if TYPE_CHECKING:
    from stream.experiment.topics.source import TopicSource

SIMULATED: Final = "simulated:"
DELAY: Final = timedelta(days=7)


class SourceError(ValueError):
    """Data cannot be used for an experiment; the message is one line that says what to do."""


class Source(NamedTuple):
    """Transactions and labels in order of time, each label at the moment it becomes known.

    Attributes:
        name: of the data, without its folder.
        items: can be gone through once.
        rows: how many transactions there are about; None where nobody knows before the end.
        cleaning: counts what happens to the rows of a file; None for simulated ones.
        label_delay: seconds until a label is known, where the data do not say.
        topics: counts what happens to the messages of topics; None for other data.
    """

    name: str
    items: Iterator[Transaction | Label]
    rows: int | None
    cleaning: Cleaning | None
    label_delay: float
    topics: TopicSource | None = None


def open_source(
    data: str,
    *,
    schema: Path | None,
    label_delay: float | None,
    seed: int,
    environ: Mapping[str, str] | None = None,
) -> Source:
    """Open data for one pass.

    Args:
        data: a parquet or CSV file, or `simulated:N` for N transactions of the demo world.
        schema: what the columns of a file mean (MAP.toml).
        label_delay: seconds after its transaction at which a label is known; None: as the mapping says.
        seed: of a simulated world.
        environ: where the key of hashed columns is looked for.

    Raises:
        SourceError, DatasetError, MappingError: it cannot be used.
    """
    if data.startswith(SIMULATED):
        count = data.removeprefix(SIMULATED)
        if not count.isdecimal() or int(count) == 0:
            raise SourceError(f"{data}: write simulated:N, with N transactions, such as simulated:20000")
        delay = DELAY if label_delay is None else timedelta(seconds=label_delay)
        items = labelled(simulate_with_truth(msgspec.structs.replace(DEMO, days=None), seed=seed), delay)
        return Source(data, first_transactions(items, int(count)), int(count), None, delay.total_seconds())
    path = Path(data)
    if not path.is_file():
        raise SourceError(f"{data}: there is no such file (for a simulated world write simulated:20000)")
    if schema is None:
        raise SourceError(
            f"{data}: say what its columns mean: --schema MAP.toml (docs/producing.md shows one)"
        )
    mapping = load_mapping(schema, environ=os.environ if environ is None else environ)
    if "is_fraud" not in mapping.columns:
        raise SourceError(f"{schema}: [columns] lacks `is_fraud`: an experiment measures against labels")
    rules = msgspec.structs.replace(
        mapping.labels,
        genuine=True,
        delay=mapping.labels.delay if label_delay is None else timedelta(seconds=label_delay),
    )
    cleaning = Cleaning()
    found = read_dataset(path, msgspec.structs.replace(mapping, labels=rules), cleaning=cleaning)
    return Source(path.name, found, _rows(path), cleaning, rules.delay.total_seconds())


def _rows(path: Path) -> int | None:
    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            return None
    with pq.ParquetFile(path) as parquet:
        return int(parquet.metadata.num_rows)


def labelled(items: Iterator[Transaction | Label | Truth], delay: timedelta) -> Iterator[Transaction | Label]:
    """Transactions, and the truth of each as a label that is known after a delay."""
    coming: list[tuple[datetime, int, Label]] = []
    order = 0
    transaction: Transaction | None = None
    for item in items:
        if isinstance(item, Transaction):
            while coming and coming[0][0] <= item.event_time:
                yield heapq.heappop(coming)[2]
            transaction = item
            yield item
        elif isinstance(item, Truth) and transaction is not None:
            known = transaction.event_time + delay
            label = Label(
                transaction_id=item.transaction_id, is_fraud=item.is_fraud, known_at=known, source="truth"
            )
            heapq.heappush(coming, (known, order, label))
            order += 1
    while coming:
        yield heapq.heappop(coming)[2]


def first_transactions(items: Iterator[Transaction | Label], count: int) -> Iterator[Transaction | Label]:
    """The items up to the count-th transaction, then the labels of those that were there."""
    waiting: set[str] = set()
    left = count
    for item in items:
        if isinstance(item, Transaction):
            if left:
                left -= 1
                waiting.add(item.transaction_id)
                yield item
        elif item.transaction_id in waiting:
            waiting.discard(item.transaction_id)
            yield item
        if not left and not waiting:
            return
