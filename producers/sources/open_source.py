"""Opens what is gone through from beginning to end: a file of payments, or a simulated world."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import pyarrow.parquet as pq

from producers.files.cleaning import Cleaning
from producers.files.dataset import read_dataset
from producers.files.mapping import FileMapping, load_mapping
from producers.simulator.simulate import DEMO, simulate_with_truth
from producers.sources.simulated import first_transactions, labelled
from stream.messages import Label, Transaction

SIMULATED: Final = "simulated:"
DELAY: Final = timedelta(days=7)


class SourceError(ValueError):
    """Data cannot be used; the message is one line that says what to do."""


class Source(NamedTuple):
    """Transactions and labels in order of time, each label at the moment it becomes known.

    Attributes:
        name: of the data, without its folder.
        items: can be gone through once.
        rows: how many transactions there are about; None where nobody knows before the end.
        cleaning: counts what happens to the rows of a file; None for others.
        label_delay: seconds until a label is known, where the data do not say.
        mapping: what the columns of a file mean; None for others.
    """

    name: str
    items: Iterator[Transaction | Label]
    rows: int | None
    cleaning: Cleaning | None
    label_delay: float
    mapping: FileMapping | None = None


def open_source(
    data: str,
    *,
    schema: Path | None,
    label_delay: float | None,
    seed: int,
    every_label: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Source:
    """Open data for one pass.

    Args:
        data: a parquet or CSV file, or `simulated:N` for N transactions of the demo world.
        schema: what the columns of a file mean (MAP.toml).
        label_delay: seconds after its transaction at which a label is known; None: as the mapping says.
        seed: of a simulated world.
        every_label: genuine transactions have labels, too, whatever the mapping says, and a file without
            labels is refused: to measure against. A simulated world has them in any case.
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
    rules = mapping.labels
    if every_label:
        if "is_fraud" not in mapping.columns:
            raise SourceError(f"{schema}: [columns] lacks `is_fraud`: an experiment measures against labels")
        rules = msgspec.structs.replace(rules, genuine=True)
    if label_delay is not None:
        rules = msgspec.structs.replace(rules, delay=timedelta(seconds=label_delay))
    mapping = msgspec.structs.replace(mapping, labels=rules)
    cleaning = Cleaning()
    items = read_dataset(path, mapping, cleaning=cleaning)
    return Source(path.name, items, _rows(path), cleaning, rules.delay.total_seconds(), mapping)


def _rows(path: Path) -> int | None:
    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            return None
    with pq.ParquetFile(path) as parquet:
        return int(parquet.metadata.num_rows)
