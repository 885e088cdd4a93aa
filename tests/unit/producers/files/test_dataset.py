from __future__ import annotations

import gzip
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from producers.files.dataset import read_dataset
from producers.files.tables import BATCH_ROWS, DatasetError
from stream.messages import Label, Transaction
from tests.unit.producers.files.dataset_files import (
    COLUMNS,
    START,
    mapping_of,
    read_rows,
    row_of,
    write_csv,
    write_parquet,
)


def test_a_parquet_file_becomes_transactions_and_delayed_labels(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, [row_of(number) for number in range(30)])
    transactions, labels, cleaning = read_rows(path, mapping_of())
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
    rows = [row_of(number) for number in range(50)]
    lines = ["id,time,card,shop,amount,fraud"]
    lines += [",".join(str(value) for value in row.values()) for row in rows]
    csv = write_csv(tmp_path, "\n".join(lines))
    packed = tmp_path / "rows.csv.gz"
    packed.write_bytes(gzip.compress(csv.read_bytes()))
    expected = read_rows(write_parquet(tmp_path, rows), mapping_of())[:2]
    assert read_rows(csv, mapping_of())[:2] == expected
    assert read_rows(packed, mapping_of())[:2] == expected


def test_labels_come_in_event_time_order_among_the_transactions(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, [row_of(number) for number in range(200)])
    items = list(read_dataset(path, mapping_of(labels={"delay": "25m", "genuine": True})))
    times = [item.event_time if isinstance(item, Transaction) else item.known_at for item in items]
    assert times == sorted(times)
    assert sum(isinstance(item, Label) for item in items) == 200


def test_a_column_says_when_a_label_was_known_and_never_before_its_transaction(tmp_path: Path) -> None:
    rows = [
        row_of(1, fraud=1, known=START + timedelta(days=3)),
        row_of(2, fraud=1, known=START - timedelta(days=3)),
        row_of(3, fraud=1, known=None),
    ]
    transactions, labels, cleaning = read_rows(
        write_parquet(tmp_path, rows), mapping_of(columns=COLUMNS | {"known_at": "known"})
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
    path = write_csv(tmp_path, f"id,time,card,shop,amount,fraud\n1,{value},c,m,5,0\n")
    transactions, _, cleaning = read_rows(path, mapping_of(times=times))
    assert [each.event_time for each in transactions] == [expected], cleaning.lines()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamp_columns_are_read_in_any_unit_and_zone(tmp_path: Path, unit: str) -> None:
    for zone, shift in ((None, 2), ("America/New_York", 0)):
        times = pa.array([datetime(2018, 4, 1, 12)], pa.timestamp(unit, zone))  # noqa: DTZ001 - Arrow's zone
        table = pa.table({"id": ["t"], "time": times, "card": ["c"], "shop": ["m"], "amount": [5.0]})
        pq.write_table(table, tmp_path / "times.parquet")
        mapping = mapping_of(
            columns={ours: theirs for ours, theirs in COLUMNS.items() if ours != "is_fraud"},
            times={"timezone": "Europe/Berlin"},
        )
        transactions, _, _ = read_rows(tmp_path / "times.parquet", mapping)
        assert transactions[0].event_time == datetime(2018, 4, 1, 12 - shift, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [("57.16", "EUR", 5716), ("500", "jpy", 500), ("1.234", "KWD", 1234), ("0.29", "EUR", 29)],
)
def test_major_units_become_minor_by_the_currency(
    tmp_path: Path, amount: str, currency: str, minor: int
) -> None:
    path = write_csv(
        tmp_path, f"id,time,card,shop,amount,fraud,cur\n1,2018-04-01,c,m,{amount},0,{currency}\n"
    )
    transactions, _, _ = read_rows(path, mapping_of(columns=COLUMNS | {"currency": "cur"}, defaults={}))
    assert transactions[0].amount_minor == minor
    assert transactions[0].currency == currency.upper()


def test_minor_units_and_decimals_are_taken_as_they_are(tmp_path: Path) -> None:
    columns = {("amount_minor" if ours == "amount" else ours): theirs for ours, theirs in COLUMNS.items()}
    path = write_parquet(tmp_path, [row_of(1, amount=1234), row_of(2, amount=99)])
    assert [each.amount_minor for each in read_rows(path, mapping_of(columns=columns))[0]] == [1234, 99]
    decimal = write_parquet(tmp_path, [row_of(1, amount=Decimal("12.34"))])
    assert read_rows(decimal, mapping_of())[0][0].amount_minor == 1234


def test_decimal_commas_are_read_where_the_mapping_says_so(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "id;time;card;shop;amount;fraud\n1;2018-04-01;c;m;1.234,56;0\n")
    mapping = mapping_of(csv={"delimiter": ";", "decimal": ","})
    assert read_rows(path, mapping)[0][0].amount_minor == 123_456


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
    path = write_csv(
        tmp_path, "id,time,card,shop,amount,fraud\n" + good.format(1) + f"{line}\n" * 2 + good.format(3)
    )
    transactions, _, cleaning = read_rows(path, mapping_of())
    assert [each.transaction_id for each in transactions] == ["1", "3"]
    assert {why: (found.count, found.first_row) for why, found in cleaning.discarded.items()} == {
        reason: (2, 2)
    }
    assert any(reason in told and "2 rows discarded" in told and "row 2" in told for told in cleaning.lines())


def test_an_unknown_currency_is_counted(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "id,time,card,shop,amount,fraud,cur\n1,2018-04-01,c,m,5,0,XYZ\n")
    _, _, cleaning = read_rows(path, mapping_of(columns=COLUMNS | {"currency": "cur"}, defaults={}))
    assert list(cleaning.discarded) == ["currency is none of ISO 4217"]


def test_what_is_optional_never_costs_a_transaction(tmp_path: Path) -> None:
    rows = "1,2018-04-01,c,m,5,0,91.5,FR\n2,2018-04-01,c,m,5,maybe,north,DE\n3,2018-04-01,c,m,5,1,45.5,\n"
    path = write_csv(tmp_path, "id,time,card,shop,amount,fraud,lat,land\n" + rows)
    mapping = mapping_of(columns=COLUMNS | {"latitude": "lat", "country": "land"})
    transactions, labels, cleaning = read_rows(path, mapping)
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
    path = write_csv(
        tmp_path,
        "id,time,card,shop,amount,fraud,zip,lat,note\n"
        "1,2018-04-01,c,m,5,0,01067,51.5,gift\n2,2018-04-01,c,m,5,0,,,\n",
    )
    attributes = {"zip": {"column": "zip", "type": "text"}, "ship_latitude": "lat", "note": "note"}
    transactions, _, _ = read_rows(path, mapping_of(attributes=attributes))
    assert transactions[0].attributes == {"zip": "01067", "ship_latitude": 51.5, "note": "gift"}
    assert transactions[1].attributes == {}


def test_filling_clipping_and_discarding_are_counted_in_that_order(tmp_path: Path) -> None:
    rows = [
        row_of(1, land="FR", amount=10.0),
        row_of(2, land=None, amount=90_000.0),
        row_of(3, land="ZZ", amount=10.0),
        row_of(4, land=None, amount=0.0),
    ]
    mapping = mapping_of(
        columns=COLUMNS | {"country": "land"},
        clean={
            "fill": {"country": "XX"},
            "clip": {"amount": [1, 5000]},
            "discard": ["country == ZZ", "amount <= 0"],
        },
    )
    transactions, _, cleaning = read_rows(write_parquet(tmp_path, rows), mapping)
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
        row_of(1, land="DE", size=1),
        row_of(2, land="F R", fraud=1, size=7),
        row_of(3, land=None, size=None),
    ]
    mapping = mapping_of(
        columns=COLUMNS | {"country": "land"}, attributes={"size": "size"}, clean={"discard": [condition]}
    )
    assert [each.transaction_id for each in read_rows(write_parquet(tmp_path, rows), mapping)[0]] == kept


def test_time_limits_are_from_and_before_and_keep_the_labels_of_what_is_in(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, [row_of(number) for number in range(30)])
    transactions, labels, cleaning = read_rows(
        path,
        mapping_of(),
        since=START + timedelta(minutes=5),
        until=datetime(2018, 4, 1, 2, 20, tzinfo=timezone(timedelta(hours=2))),
    )
    assert [each.transaction_id for each in transactions] == [str(number) for number in range(5, 20)]
    assert [label.transaction_id for label in labels] == ["9", "19"]
    assert cleaning.outside == 15


def test_rows_out_of_order_are_sorted_within_the_window_and_counted(tmp_path: Path) -> None:
    minutes = [0, 10, 5, 30, 20, 100, 1, 110]
    rows = [row_of(number, time=START + timedelta(minutes=each)) for number, each in enumerate(minutes)]
    transactions, _, cleaning = read_rows(write_parquet(tmp_path, rows), mapping_of(times={"window": "30m"}))
    assert [round((each.event_time - START).total_seconds() / 60) for each in transactions] == [
        *(0, 5, 10, 20, 30),
        *(1, 100, 110),
    ]
    assert (cleaning.out_of_order.count, cleaning.out_of_order.first_row, cleaning.late) == (3, 3, 1)
    assert cleaning.furthest == timedelta(minutes=99)


def test_rows_of_the_same_time_keep_the_order_of_the_file(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, [row_of(number, time=START) for number in range(50)])
    assert [int(each.transaction_id) for each in read_rows(path, mapping_of())[0]] == list(range(50))


def test_a_missing_column_is_one_line_with_the_nearest(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, [row_of(1)])
    with pytest.raises(DatasetError) as error:
        read_dataset(path, mapping_of(columns=COLUMNS | {"amount": "amuont"}))
    assert str(error.value) == (
        f"{path}: has no column `amuont`, which MAP.toml maps to `amount`; did you mean `amount`?"
    )


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone\.csv: cannot be read"):
        read_dataset(tmp_path / "gone.csv", mapping_of())
    whole = write_parquet(tmp_path, [row_of(number) for number in range(100)]).read_bytes()
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"broken\.parquet: cannot be read"):
        list(read_dataset(broken, mapping_of()))
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(b"id,time,card,shop,amount,fraud\n" + b"1,2018-04-01,c,m,5,0\n" * 99)[:-12])
    with pytest.raises(DatasetError, match=r"cut\.csv\.gz: cannot be read further"):
        list(read_dataset(cut, mapping_of()))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(batches: int) -> int:
        path = write_parquet(tmp_path, [row_of(number) for number in range(batches * BATCH_ROWS)])
        mapping = mapping_of(labels={"delay": "1h", "genuine": True})
        tracemalloc.start()
        for _ in read_dataset(path, mapping):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(6) < 1.2 * peak(2)
