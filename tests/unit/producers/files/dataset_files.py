"""Small files of payments in every form, and what is read of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from producers.files.cleaning import Cleaning
from producers.files.dataset import read_dataset
from producers.files.mapping import FileMapping, parse_mapping
from stream.messages import Label, Transaction

START = datetime(2018, 4, 1, tzinfo=UTC)
COLUMNS = {
    "transaction_id": "id",
    "event_time": "time",
    "card_id": "card",
    "merchant_id": "shop",
    "amount": "amount",
    "is_fraud": "fraud",
}
KEY = {"RIVERWATCH_HASH_KEY": "a key that is long enough"}


def mapping_of(**tables: Any) -> FileMapping:
    columns = tables.pop("columns", COLUMNS)
    defaults = tables.pop("defaults", {"currency": "EUR"})
    return parse_mapping({"columns": columns, "defaults": defaults, **tables}, name="MAP.toml", environ=KEY)


def row_of(number: int, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": number,
        "time": START + timedelta(minutes=number),
        "card": number % 7,
        "shop": number % 3,
        "amount": 10.0 + number,
        "fraud": int(number % 10 == 9),
    }
    return row | changes


def write_parquet(tmp_path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def write_csv(tmp_path: Path, lines: str, name: str = "rows.csv") -> Path:
    path = tmp_path / name
    path.write_text(lines, encoding="utf-8")
    return path


def read_rows(
    path: Path, mapping: FileMapping, **limits: datetime
) -> tuple[list[Transaction], list[Label], Cleaning]:
    cleaning = Cleaning()
    items = list(read_dataset(path, mapping, cleaning=cleaning, **limits))
    transactions = [item for item in items if isinstance(item, Transaction)]
    labels = [item for item in items if isinstance(item, Label)]
    discarded = sum(found.count for found in cleaning.discarded.values())
    # No row is lost without a count, whatever the file.
    assert cleaning.rows == len(transactions) + cleaning.outside + discarded
    assert (cleaning.transactions, cleaning.labels) == (len(transactions), len(labels))
    return transactions, labels, cleaning
