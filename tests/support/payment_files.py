"""Files of payments and what their columns mean, for what reads them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

MAP = """
[columns]
transaction_id = "id"
event_time = "time"
card_id = "card"
merchant_id = "shop"
amount = "amount"
country = "country"
is_fraud = "fraud"
known_at = "known"
[defaults]
currency = "EUR"
[labels]
genuine = true
"""


def write_payments(
    folder: Path, rows: Iterable[Sequence[object]], *, name: str = "payments"
) -> tuple[Path, Path]:
    """A CSV file and its mapping.

    Args:
        folder: of both.
        rows: id, time, card, shop, amount, country, fraud, known.
        name: of the file.
    """
    data, schema = folder / f"{name}.csv", folder / "MAP.toml"
    schema.write_text(MAP)
    with data.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "time", "card", "shop", "amount", "country", "fraud", "known"])
        writer.writerows(rows)
    return data, schema
