from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from producers.files.cleaning import Cleaning
from producers.files.dataset import read_dataset
from producers.files.mapping import FileMapping, parse_mapping
from producers.files.rows import CardNumberInClear
from producers.files.tables import BATCH_ROWS, DatasetError
from stream.messages import Label, Transaction, encode

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
PANS = ("4111111111111111", "5500005555555559", "4012888888881881", "30569309025904", "6011111111111117")


def _mapping(**tables: Any) -> FileMapping:
    columns = tables.pop("columns", COLUMNS)
    defaults = tables.pop("defaults", {"currency": "EUR"})
    return parse_mapping({"columns": columns, "defaults": defaults, **tables}, name="MAP.toml", environ=KEY)


def _row(number: int, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": number,
        "time": START + timedelta(minutes=number),
        "card": number % 7,
        "shop": number % 3,
        "amount": 10.0 + number,
        "fraud": int(number % 10 == 9),
    }
    return row | changes


def _parquet(tmp_path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def _csv(tmp_path: Path, lines: str, name: str = "rows.csv") -> Path:
    path = tmp_path / name
    path.write_text(lines, encoding="utf-8")
    return path


def _read(
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


def test_a_parquet_file_becomes_transactions_and_delayed_labels(tmp_path: Path) -> None:
    path = _parquet(tmp_path, [_row(number) for number in range(30)])
    transactions, labels, cleaning = _read(path, _mapping())
    assert transactions[3] == Transaction(
        transaction_id="3",
        event_time=START + timedelta(minutes=3),
        card_id="3",
        merchant_id="0",
        amount_minor=1300,
        currency="EUR",
    )
    assert [label.transaction_id for label in labels] == ["9", "19", "29"]
    assert labels[0] == Label(
        transaction_id="9",
        is_fraud=True,
        known_at=START + timedelta(days=7, minutes=9),
        source="chargeback",
    )
    assert not cleaning.discarded


def test_csv_says_the_same_as_parquet(tmp_path: Path) -> None:
    rows = [_row(number) for number in range(50)]
    lines = ["id,time,card,shop,amount,fraud"]
    lines += [",".join(str(value) for value in row.values()) for row in rows]
    csv = _csv(tmp_path, "\n".join(lines))
    packed = tmp_path / "rows.csv.gz"
    packed.write_bytes(gzip.compress(csv.read_bytes()))
    expected = _read(_parquet(tmp_path, rows), _mapping())[:2]
    assert _read(csv, _mapping())[:2] == expected
    assert _read(packed, _mapping())[:2] == expected


def test_labels_come_in_event_time_order_among_the_transactions(tmp_path: Path) -> None:
    path = _parquet(tmp_path, [_row(number) for number in range(200)])
    items = list(read_dataset(path, _mapping(labels={"delay": "25m", "genuine": True})))
    times = [item.event_time if isinstance(item, Transaction) else item.known_at for item in items]
    assert times == sorted(times)
    assert sum(isinstance(item, Label) for item in items) == 200


def test_a_column_says_when_a_label_was_known_and_never_before_its_transaction(tmp_path: Path) -> None:
    rows = [
        _row(1, fraud=1, known=START + timedelta(days=3)),
        _row(2, fraud=1, known=START - timedelta(days=3)),
        _row(3, fraud=1, known=None),
    ]
    transactions, labels, cleaning = _read(
        _parquet(tmp_path, rows), _mapping(columns=COLUMNS | {"known_at": "known"})
    )
    assert len(transactions) == 3
    assert [label.known_at for label in labels] == [
        START + timedelta(days=3),
        START + timedelta(minutes=3, days=7),
    ]
    assert cleaning.left_out["label: known before its transaction"].first_row == 2


@pytest.mark.parametrize(
    ("times", "value", "expected"),
    [
        ({}, "2018-04-01 12:00:00", datetime(2018, 4, 1, 12, tzinfo=UTC)),
        ({}, "2018-04-01T12:00:00+02:00", datetime(2018, 4, 1, 10, tzinfo=UTC)),
        ({}, "1522584000", datetime(2018, 4, 1, 12, tzinfo=UTC)),
        ({"unit": "ms"}, "1522584000250", datetime(2018, 4, 1, 12, 0, 0, 250_000, tzinfo=UTC)),
        ({"timezone": "Europe/Berlin"}, "2018-04-01 12:00:00", datetime(2018, 4, 1, 10, tzinfo=UTC)),
        ({"timezone": "Europe/Berlin"}, "2018-02-01 12:00:00", datetime(2018, 2, 1, 11, tzinfo=UTC)),
        ({"timezone": "Europe/Berlin"}, "2018-04-01T12:00:00Z", datetime(2018, 4, 1, 12, tzinfo=UTC)),
        ({"format": "%d/%m/%Y %H.%M"}, "01/04/2018 12.30", datetime(2018, 4, 1, 12, 30, tzinfo=UTC)),
    ],
)
def test_times_are_read_as_text_or_seconds_in_their_zone(
    tmp_path: Path, times: dict[str, str], value: str, expected: datetime
) -> None:
    path = _csv(tmp_path, f"id,time,card,shop,amount,fraud\n1,{value},c,m,5,0\n")
    transactions, _, cleaning = _read(path, _mapping(times=times))
    assert [each.event_time for each in transactions] == [expected], cleaning.lines()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamp_columns_are_read_in_any_unit_and_zone(tmp_path: Path, unit: str) -> None:
    for zone, shift in ((None, 2), ("America/New_York", 0)):
        times = pa.array([datetime(2018, 4, 1, 12)], pa.timestamp(unit, zone))  # noqa: DTZ001 - Arrow's zone
        table = pa.table({"id": ["t"], "time": times, "card": ["c"], "shop": ["m"], "amount": [5.0]})
        pq.write_table(table, tmp_path / "times.parquet")
        mapping = _mapping(
            columns={ours: theirs for ours, theirs in COLUMNS.items() if ours != "is_fraud"},
            times={"timezone": "Europe/Berlin"},
        )
        transactions, _, _ = _read(tmp_path / "times.parquet", mapping)
        assert transactions[0].event_time == datetime(2018, 4, 1, 12 - shift, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [("57.16", "EUR", 5716), ("500", "jpy", 500), ("1.234", "KWD", 1234), ("0.29", "EUR", 29)],
)
def test_major_units_become_minor_by_the_currency(
    tmp_path: Path, amount: str, currency: str, minor: int
) -> None:
    path = _csv(tmp_path, f"id,time,card,shop,amount,fraud,cur\n1,2018-04-01,c,m,{amount},0,{currency}\n")
    transactions, _, _ = _read(path, _mapping(columns=COLUMNS | {"currency": "cur"}, defaults={}))
    assert transactions[0].amount_minor == minor
    assert transactions[0].currency == currency.upper()


def test_minor_units_and_decimals_are_taken_as_they_are(tmp_path: Path) -> None:
    columns = {("amount_minor" if ours == "amount" else ours): theirs for ours, theirs in COLUMNS.items()}
    path = _parquet(tmp_path, [_row(1, amount=1234), _row(2, amount=99)])
    assert [each.amount_minor for each in _read(path, _mapping(columns=columns))[0]] == [1234, 99]
    decimal = _parquet(tmp_path, [_row(1, amount=Decimal("12.34"))])
    assert _read(decimal, _mapping())[0][0].amount_minor == 1234


def test_decimal_commas_are_read_where_the_mapping_says_so(tmp_path: Path) -> None:
    path = _csv(tmp_path, "id;time;card;shop;amount;fraud\n1;2018-04-01;c;m;1.234,56;0\n")
    mapping = _mapping(csv={"delimiter": ";", "decimal": ","})
    assert _read(path, mapping)[0][0].amount_minor == 123_456


BAD_ROWS = [
    ("event_time is not a time", "2,yesterday,c,m,5,0"),
    ("event_time is empty", "2,,c,m,5,0"),
    ("event_time is not of this age", "2,1970-01-01,c,m,5,0"),
    ("event_time is not of this age", "2,9998-01-01,c,m,5,0"),
    ("amount is not a number", "2,2018-04-01,c,m,five,0"),
    ("amount is empty", "2,2018-04-01,c,m,,0"),
    ("amount is empty", "2,2018-04-01,c,m,NaN,0"),
    ("amount is not finite", "2,2018-04-01,c,m,inf,0"),
    ("amount is not above 0", "2,2018-04-01,c,m,0,0"),
    ("amount is not above 0", "2,2018-04-01,c,m,-5,0"),
    ("amount is wrong: expected `int` <= 1000000000000000", "2,2018-04-01,c,m,1e20,0"),
    ("amount is wrong: expected `int` <= 1000000000000000", "2,2018-04-01,c,m,1e308,0"),
    ("amount is not above 0", "2,2018-04-01,c,m,-1e308,0"),
    ("card_id is empty", "2,2018-04-01, ,m,5,0"),
    ("merchant_id is empty", "2,2018-04-01,c,,5,0"),
    ("transaction_id is empty", ",2018-04-01,c,m,5,0"),
    ("card_id is wrong: expected `str` of length <= 128", f"2,2018-04-01,{'c' * 200},m,5,0"),
    ("has 5 columns instead of 6", "2,2018-04-01,c,m,5"),
    ("has 7 columns instead of 6", "2,2018-04-01,c,m,5,0,0"),
]


@pytest.mark.parametrize(("reason", "line"), BAD_ROWS)
def test_a_bad_row_is_counted_with_its_reason_and_the_next_one_goes_on(
    tmp_path: Path, reason: str, line: str
) -> None:
    good = "{},2018-04-01,c,m,5,0\n"
    path = _csv(
        tmp_path, "id,time,card,shop,amount,fraud\n" + good.format(1) + f"{line}\n" * 2 + good.format(3)
    )
    transactions, _, cleaning = _read(path, _mapping())
    assert [each.transaction_id for each in transactions] == ["1", "3"]
    assert {why: (found.count, found.first_row) for why, found in cleaning.discarded.items()} == {
        reason: (2, 2)
    }
    assert any(reason in told and "2 rows discarded" in told and "row 2" in told for told in cleaning.lines())


def test_an_unknown_currency_is_counted(tmp_path: Path) -> None:
    path = _csv(tmp_path, "id,time,card,shop,amount,fraud,cur\n1,2018-04-01,c,m,5,0,XYZ\n")
    _, _, cleaning = _read(path, _mapping(columns=COLUMNS | {"currency": "cur"}, defaults={}))
    assert list(cleaning.discarded) == ["currency is none of ISO 4217"]


def test_what_is_optional_never_costs_a_transaction(tmp_path: Path) -> None:
    rows = "1,2018-04-01,c,m,5,0,91.5,FR\n2,2018-04-01,c,m,5,maybe,north,DE\n3,2018-04-01,c,m,5,1,45.5,\n"
    path = _csv(tmp_path, "id,time,card,shop,amount,fraud,lat,land\n" + rows)
    mapping = _mapping(columns=COLUMNS | {"latitude": "lat", "country": "land"})
    transactions, labels, cleaning = _read(path, mapping)
    assert [(each.latitude, each.country) for each in transactions] == [
        (None, "FR"),
        (None, "DE"),
        (45.5, None),
    ]
    assert len(labels) == 1
    assert {why: found.first_row for why, found in cleaning.left_out.items()} == {
        "latitude is wrong: expected `float` <= 90.0": 1,
        "latitude is not a number": 2,
        "label: is_fraud is neither fraud (1, true, yes) nor genuine (0, false, no)": 2,
    }


def test_attributes_are_numbers_where_they_read_as_numbers_and_text_where_asked(tmp_path: Path) -> None:
    path = _csv(
        tmp_path,
        "id,time,card,shop,amount,fraud,zip,lat,note\n"
        "1,2018-04-01,c,m,5,0,01067,51.5,gift\n2,2018-04-01,c,m,5,0,,,\n",
    )
    attributes = {"zip": {"column": "zip", "type": "text"}, "ship_latitude": "lat", "note": "note"}
    transactions, _, _ = _read(path, _mapping(attributes=attributes))
    assert transactions[0].attributes == {"zip": "01067", "ship_latitude": 51.5, "note": "gift"}
    assert transactions[1].attributes == {}


def test_filling_clipping_and_discarding_are_counted_in_that_order(tmp_path: Path) -> None:
    rows = [
        _row(1, land="FR", amount=10.0),
        _row(2, land=None, amount=90_000.0),
        _row(3, land="ZZ", amount=10.0),
        _row(4, land=None, amount=0.0),
    ]
    mapping = _mapping(
        columns=COLUMNS | {"country": "land"},
        clean={
            "fill": {"country": "XX"},
            "clip": {"amount": [1, 5000]},
            "discard": ["country == ZZ", "amount <= 0"],
        },
    )
    transactions, _, cleaning = _read(_parquet(tmp_path, rows), mapping)
    assert [(each.transaction_id, each.country, each.amount_minor) for each in transactions] == [
        ("1", "FR", 1000),
        ("2", "XX", 500_000),
    ]
    assert cleaning.filled == {"country": 2}
    assert cleaning.clipped == {"amount": 1}
    assert {why: found.first_row for why, found in cleaning.discarded.items()} == {
        "country == ZZ": 3,
        "amount <= 0": 4,
    }


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("amount < 12", ["2", "3"]),
        ("amount >= 12", ["1"]),
        ("card_id == 2", ["1", "3"]),
        ("merchant_id != 0", ["3"]),
        ("event_time > 2018-04-01T00:01:30", ["1"]),
        ("country is empty", ["1", "2"]),
        ('country == "F R"', ["1", "3"]),
        ("is_fraud == 1", ["1", "3"]),
        ("size > 5", ["1", "3"]),
    ],
)
def test_conditions_compare_numbers_times_and_text(tmp_path: Path, condition: str, kept: list[str]) -> None:
    rows = [
        _row(1, land="DE", size=1),
        _row(2, land="F R", fraud=1, size=7),
        _row(3, land=None, size=None),
    ]
    mapping = _mapping(
        columns=COLUMNS | {"country": "land"}, attributes={"size": "size"}, clean={"discard": [condition]}
    )
    assert [each.transaction_id for each in _read(_parquet(tmp_path, rows), mapping)[0]] == kept


def test_time_limits_are_from_and_before_and_keep_the_labels_of_what_is_in(tmp_path: Path) -> None:
    path = _parquet(tmp_path, [_row(number) for number in range(30)])
    transactions, labels, cleaning = _read(
        path,
        _mapping(),
        since=START + timedelta(minutes=5),
        until=datetime(2018, 4, 1, 2, 20, tzinfo=timezone(timedelta(hours=2))),
    )
    assert [each.transaction_id for each in transactions] == [str(number) for number in range(5, 20)]
    assert [label.transaction_id for label in labels] == ["9", "19"]
    assert cleaning.outside == 15


def test_rows_out_of_order_are_sorted_within_the_window_and_counted(tmp_path: Path) -> None:
    minutes = [0, 10, 5, 30, 20, 100, 1, 110]
    rows = [_row(number, time=START + timedelta(minutes=each)) for number, each in enumerate(minutes)]
    transactions, _, cleaning = _read(_parquet(tmp_path, rows), _mapping(times={"window": "30m"}))
    assert [round((each.event_time - START).total_seconds() / 60) for each in transactions] == [
        *(0, 5, 10, 20, 30),
        *(1, 100, 110),
    ]
    assert (cleaning.out_of_order.count, cleaning.out_of_order.first_row, cleaning.late) == (3, 3, 1)
    assert cleaning.furthest == timedelta(minutes=99)


def test_rows_of_the_same_time_keep_the_order_of_the_file(tmp_path: Path) -> None:
    path = _parquet(tmp_path, [_row(number, time=START) for number in range(50)])
    assert [int(each.transaction_id) for each in _read(path, _mapping())[0]] == list(range(50))


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("column", ["card", "device", "note"])
def test_card_numbers_in_clear_are_refused_without_telling_one(
    tmp_path: Path, form: str, column: str
) -> None:
    rows = [_row(number, device="d", note="n") | {column: PANS[number % 5]} for number in range(20)]
    if form == "parquet":
        path = _parquet(tmp_path, rows)
    else:
        lines = [",".join(rows[0]), *(",".join(str(each) for each in row.values()) for row in rows)]
        path = _csv(tmp_path, "\n".join(lines))
    mapping = _mapping(columns=COLUMNS | {"device_id": "device"}, attributes={"note": "note"})
    with pytest.raises(CardNumberInClear) as error:
        list(read_dataset(path, mapping))
    assert f"`{column}`" in str(error.value)
    assert "[hash]" in str(error.value)
    assert not any(number[-4:] in str(error.value) for number in PANS)


def test_one_card_number_among_many_cards_is_refused_too(tmp_path: Path) -> None:
    rows = [_row(number, card=f"card-{number}") for number in range(50)]
    rows[40]["card"] = "4111-1111-1111-1111"
    with pytest.raises(CardNumberInClear):
        list(read_dataset(_parquet(tmp_path, rows), _mapping()))


def test_hashed_card_numbers_leave_as_hashes_everywhere(tmp_path: Path) -> None:
    rows = [
        _row(number, card=PANS[number % 5], note=PANS[number % 5], amount=0 if number == 3 else 5)
        for number in range(20)
    ]
    mapping = _mapping(attributes={"note": "note"}, hash={"columns": ["card_id", "note"]})
    transactions, _, cleaning = _read(_parquet(tmp_path, rows), mapping)
    out = b"".join(encode(each) for each in transactions).decode() + "".join(cleaning.lines())
    assert len(transactions) == 19
    assert len({each.card_id for each in transactions}) == 5
    assert transactions[0].attributes["note"] == transactions[0].card_id
    assert not any(number in out for number in PANS)


def test_numbers_that_are_no_card_numbers_pass(tmp_path: Path) -> None:
    rows = [
        _row(number, card=4_111_111_111_111_112 + 0 * number, shop=10**14 + number) for number in range(9)
    ]
    assert len(_read(_parquet(tmp_path, rows), _mapping())[0]) == 9


def test_a_missing_column_is_one_line_with_the_nearest(tmp_path: Path) -> None:
    path = _parquet(tmp_path, [_row(1)])
    with pytest.raises(DatasetError) as error:
        read_dataset(path, _mapping(columns=COLUMNS | {"amount": "amuont"}))
    assert str(error.value) == (
        f"{path}: has no column `amuont`, which MAP.toml maps to `amount`; did you mean `amount`?"
    )


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone\.csv: cannot be read"):
        read_dataset(tmp_path / "gone.csv", _mapping())
    whole = _parquet(tmp_path, [_row(number) for number in range(100)]).read_bytes()
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"broken\.parquet: cannot be read"):
        list(read_dataset(broken, _mapping()))
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(b"id,time,card,shop,amount,fraud\n" + b"1,2018-04-01,c,m,5,0\n" * 99)[:-12])
    with pytest.raises(DatasetError, match=r"cut\.csv\.gz: cannot be read further"):
        list(read_dataset(cut, _mapping()))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(batches: int) -> int:
        path = _parquet(tmp_path, [_row(number) for number in range(batches * BATCH_ROWS)])
        mapping = _mapping(labels={"delay": "1h", "genuine": True})
        tracemalloc.start()
        for _ in read_dataset(path, mapping):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(6) < 1.2 * peak(2)
