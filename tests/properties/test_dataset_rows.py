"""Whatever a file holds: every row is published or counted, and what is published keeps the contract."""

from __future__ import annotations

import csv
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.files.card_numbers import looks_like_card_number
from producers.files.cleaning import Cleaning
from producers.files.dataset import read_dataset
from producers.files.mapping import parse_mapping
from producers.files.rows import CardNumberInClear
from stream.messages import Label, Transaction, encode, label_decoder, transaction_decoder

HEADER = ("id", "time", "card", "shop", "amount", "fraud", "lat", "note")
TABLES = {
    "columns": {
        "transaction_id": "id",
        "event_time": "time",
        "card_id": "card",
        "merchant_id": "shop",
        "amount": "amount",
        "is_fraud": "fraud",
        "latitude": "lat",
    },
    "attributes": {"note": "note"},
    "defaults": {"currency": "EUR"},
    "times": {"window": "2h"},
    "clean": {"discard": ["note == drop"], "clip": {"amount": [0.0, 100.0]}},
}
PAN = "4111111111111111"

times = st.integers(0, 600).map(
    lambda minutes: (datetime(2018, 4, 1, tzinfo=UTC) + timedelta(minutes=minutes)).isoformat()
)
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
odd = st.one_of(
    anything, st.sampled_from(["", "nan", "inf", "-1", "1e400", "0", "9999-12-31T23:59:59-12:00"])
)


def _mostly(usual: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.integers(0, 9).flatmap(lambda chance: odd if chance == 0 else usual)


rows = st.lists(
    st.tuples(
        _mostly(st.integers(0, 999).map(str)),
        _mostly(times),
        _mostly(st.integers(0, 9).map(str)),
        _mostly(st.integers(0, 9).map(str)),
        _mostly(st.floats(0.01, 200).map(str)),
        _mostly(st.sampled_from(["0", "1"])),
        _mostly(st.floats(-100, 100).map(str)),
        _mostly(st.sampled_from(["", "drop", "5"])),
    ),
    max_size=40,
)


def _write(folder: str, table: list[tuple[str, ...]]) -> Path:
    path = Path(folder) / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *table])
    return path


@settings(max_examples=100, deadline=None)
@given(table=rows)
def test_every_row_is_published_or_counted_and_published_rows_are_valid(table: list[tuple[str, ...]]) -> None:
    mapping = parse_mapping(TABLES, name="MAP.toml", environ={})
    cleaning = Cleaning()
    with TemporaryDirectory() as folder:
        items = list(read_dataset(_write(folder, list(table)), mapping, cleaning=cleaning))
    assert cleaning.rows == len(table)
    assert cleaning.rows == cleaning.transactions + sum(found.count for found in cleaning.discarded.values())
    made: dict[str, datetime] = {}
    for item in items:
        if isinstance(item, Transaction):
            assert transaction_decoder.decode(encode(item)) == item
            assert item.amount_minor <= 10_000
            assert item.attributes.get("note") != "drop"
            made.setdefault(item.transaction_id, item.event_time)
        else:
            assert isinstance(item, Label)
            assert label_decoder.decode(encode(item)) == item
            assert item.known_at >= made[item.transaction_id]
    paid = [item.event_time for item in items if isinstance(item, Transaction)]
    if not cleaning.late:
        assert paid == sorted(paid)


@settings(max_examples=100, deadline=None)
@given(
    table=rows, place=st.integers(0, 40), gaps=st.lists(st.integers(1, 15), max_size=4), dash=st.booleans()
)
def test_a_card_number_never_leaves_in_clear(
    table: list[tuple[str, ...]], place: int, gaps: list[int], dash: bool
) -> None:
    number = PAN
    for gap in sorted(set(gaps), reverse=True):
        number = number[:gap] + ("-" if dash else " ") + number[gap:]
    bad = ("x", "2018-04-01T00:00:00Z", number, "m", "5", "0", "", "")
    hashed = {**TABLES, "hash": {"columns": ["card_id"]}}
    with TemporaryDirectory() as folder:
        path = _write(folder, [*table[:place], bad, *table[place:]])
        with pytest.raises(CardNumberInClear) as error:
            list(read_dataset(path, parse_mapping(TABLES, name="MAP.toml", environ={})))
        assert "4111" not in str(error.value)
        mapping = parse_mapping(hashed, name="M", environ={"RIVERWATCH_HASH_KEY": "a key of some length"})
        cards = [item.card_id for item in read_dataset(path, mapping) if isinstance(item, Transaction)]
    assert cards
    assert all(re.fullmatch("[0-9a-f]{64}", card) and not looks_like_card_number(card) for card in cards)
