"""Card numbers in clear are refused, hashed ones leave as hashes, and no message tells one."""

from __future__ import annotations

from pathlib import Path

import pytest

from producers.files.dataset import read_dataset
from producers.files.rows import CardNumberInClear
from stream.messages import encode
from tests.unit.producers.files.dataset_files import (
    COLUMNS,
    mapping_of,
    read_rows,
    row_of,
    write_csv,
    write_parquet,
)

PANS = ("4111111111111111", "5500005555555559", "4012888888881881", "30569309025904", "6011111111111117")


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("column", ["card", "device", "note"])
def test_card_numbers_in_clear_are_refused_without_telling_one(
    tmp_path: Path, form: str, column: str
) -> None:
    rows = [row_of(number, device="d", note="n") | {column: PANS[number % 5]} for number in range(20)]
    if form == "parquet":
        path = write_parquet(tmp_path, rows)
    else:
        lines = [",".join(rows[0]), *(",".join(str(each) for each in row.values()) for row in rows)]
        path = write_csv(tmp_path, "\n".join(lines))
    mapping = mapping_of(columns=COLUMNS | {"device_id": "device"}, attributes={"note": "note"})
    with pytest.raises(CardNumberInClear) as error:
        list(read_dataset(path, mapping))
    assert f"`{column}`" in str(error.value)
    assert "[hash]" in str(error.value)
    assert not any(number[-4:] in str(error.value) for number in PANS)


def test_one_card_number_among_many_cards_is_refused_too(tmp_path: Path) -> None:
    rows = [row_of(number, card=f"card-{number}") for number in range(50)]
    rows[40]["card"] = "4111-1111-1111-1111"
    with pytest.raises(CardNumberInClear):
        list(read_dataset(write_parquet(tmp_path, rows), mapping_of()))


def test_hashed_card_numbers_leave_as_hashes_everywhere(tmp_path: Path) -> None:
    rows = [
        row_of(number, card=PANS[number % 5], note=PANS[number % 5], amount=0 if number == 3 else 5)
        for number in range(20)
    ]
    mapping = mapping_of(attributes={"note": "note"}, hash={"columns": ["card_id", "note"]})
    transactions, _, cleaning = read_rows(write_parquet(tmp_path, rows), mapping)
    out = b"".join(encode(each) for each in transactions).decode() + "".join(cleaning.lines())
    assert len(transactions) == 19
    assert len({each.card_id for each in transactions}) == 5
    assert transactions[0].attributes["note"] == transactions[0].card_id
    assert not any(number in out for number in PANS)


def test_numbers_that_are_no_card_numbers_pass(tmp_path: Path) -> None:
    rows = [
        row_of(number, card=4_111_111_111_111_112 + 0 * number, shop=10**14 + number) for number in range(9)
    ]
    assert len(read_rows(write_parquet(tmp_path, rows), mapping_of())[0]) == 9
