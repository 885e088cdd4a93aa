"""What a replay goes through: a file as `riverwatch produce` would publish it, or a simulated world."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow.parquet as pq

from producers.files.cleaning import Cleaning
from producers.files.dataset import read_dataset
from producers.files.mapping import load_mapping
from producers.sources.sources import SIMULATED, SourceError, open_source
from stream.messages import Label, Transaction

_MAGIC = b"PAR1"


class ReplaySource(NamedTuple):
    """Transactions and labels in order of time.

    Attributes:
        items: can be gone through once.
        rows: how many transactions there are about; None where nobody knows before the end.
        cleaning: counts what happens to the rows of a file; None for simulated ones.
        identity: by name, what the items are a function of.
    """

    items: Iterator[Transaction | Label]
    rows: int | None
    cleaning: Cleaning | None
    identity: dict[str, str]


def open_replay_source(
    data: str,
    *,
    schema: Path | None,
    label_delay: float | None,
    seed: int,
    environ: Mapping[str, str] | None = None,
) -> ReplaySource:
    """Open data for one pass.

    Args:
        data: a parquet or CSV file, or `simulated:N`.
        schema: what the columns of a file mean (MAP.toml).
        label_delay: seconds after its transaction at which a label is known; None: as the mapping says.
        seed: of a simulated world.
        environ: where the key of hashed columns is looked for.

    Raises:
        SourceError, DatasetError, MappingError: it cannot be used.
    """
    if data.startswith(SIMULATED):
        found = open_source(data, schema=None, label_delay=label_delay, seed=seed)
        identity = {"data": data, "seed": str(seed), "label delay": str(found.label_delay)}
        return ReplaySource(found.items, found.rows, None, identity)
    path = Path(data)
    if not path.is_file():
        raise SourceError(f"{data}: there is no such file (for a simulated world write simulated:20000)")
    if schema is None:
        raise SourceError(
            f"{data}: say what its columns mean: --schema MAP.toml (docs/producing.md shows one)"
        )
    mapping = load_mapping(schema, environ=os.environ if environ is None else environ)
    if label_delay is not None:
        rules = msgspec.structs.replace(mapping.labels, delay=timedelta(seconds=label_delay))
        mapping = msgspec.structs.replace(mapping, labels=rules)
    cleaning = Cleaning()
    identity = {
        "data": f"{path.name} ({_digest(path)})",
        "schema": f"{schema.name} ({_digest(schema)})",
        "label delay": str(mapping.labels.delay.total_seconds()),
        "hash key": mapping.hash("riverwatch")[:16] if mapping.hash else "none",
    }
    return ReplaySource(read_dataset(path, mapping, cleaning=cleaning), _rows(path), cleaning, identity)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _rows(path: Path) -> int | None:
    with path.open("rb") as file:
        if file.read(4) != _MAGIC:
            return None
    with pq.ParquetFile(path) as parquet:
        return int(parquet.metadata.num_rows)
