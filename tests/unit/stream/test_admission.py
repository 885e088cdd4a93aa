"""The edge: whatever bytes arrive, they become a transaction, a label, or a reason; and nothing raises."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream.admission import Limits, Rejected, admit_label, admit_transaction
from stream.card_numbers import looks_like_card_number
from stream.dead_letters import dead_letter
from stream.messages import Label, Transaction
from tests.unit.stream.arrivals import (
    CARD_NUMBER,
    LABEL,
    NOW,
    NOW_MS,
    PAYMENT,
    admitted,
    payment,
    reason,
    record,
    without,
)


def test_what_the_contract_requires_is_enough() -> None:
    found = admitted(payment())
    assert (found.transaction_id, found.card_id, found.amount_minor, found.device_id) == (
        "t1",
        "c1",
        1250,
        None,
    )
    assert found.attributes == {}


def test_unknown_fields_are_ignored() -> None:
    assert admitted(payment(loyalty={"tier": [1, {"x": None}]}, score=0.99)) == admitted(payment())


@pytest.mark.parametrize(
    "raw",
    [b"", b" ", b"{", b"{]", b"hello", b"\xff\xfe\x00", payment()[:-5], payment() + b"x", b"\xef\xbb\xbf{}"],
)
def test_what_is_not_json_is_rejected(raw: bytes) -> None:
    assert reason(raw) == "not_json"


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("field", ["amount_minor", "latitude"])
def test_literals_that_json_does_not_have_are_rejected(literal: str, field: str) -> None:
    raw = payment(**{field: "?"}).replace(b'"?"', literal.encode())
    assert reason(raw) == "not_json"


@pytest.mark.parametrize("field", list(PAYMENT))
def test_each_required_field_is_required(field: str) -> None:
    assert reason(without(field)) == "invalid"
    assert reason(payment(**{field: None})) == "invalid"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("transaction_id", 7),
        ("transaction_id", ""),
        ("transaction_id", "x" * 129),
        ("event_time", 1714557600),
        ("event_time", "yesterday"),
        ("event_time", "2024-05-01"),
        ("event_time", "2024-05-01T10:00:00"),  # of which zone?
        ("event_time", "2024-02-30T10:00:00Z"),
        ("amount_minor", 12.5),
        ("amount_minor", "1250"),
        ("amount_minor", True),
        ("amount_minor", 0),
        ("amount_minor", -1),
        ("amount_minor", 10**15 + 1),
        ("amount_minor", 10**400),
        ("currency", "eur"),
        ("currency", "EURO"),
        ("latitude", 90.5),
        ("longitude", -180.5),
        ("attributes", [1]),
        ("attributes", {"a": {"b": 1}}),
        ("attributes", {"a": None}),
        ("attributes", {f"a{n}": 1 for n in range(65)}),
        ("country", "x" * 257),
    ],
)
def test_wrong_types_and_absurd_values_are_invalid(field: str, value: object) -> None:
    found = admit_transaction(record(payment(**{field: value})), Limits())
    assert isinstance(found, Rejected)
    assert found.reason == "invalid"
    assert f"$.{field}" in found.detail


def test_numbers_beyond_a_double_are_invalid() -> None:
    assert reason(payment(latitude="?").replace(b'"?"', b"1e999")) == "invalid"


@pytest.mark.parametrize("raw", [b"null", b"[]", b"1", b'"x"', b"true"])
def test_a_message_is_an_object(raw: bytes) -> None:
    assert reason(raw) == "invalid"


@pytest.mark.parametrize(
    "time",
    [
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00:00+23:59",
        "1970-01-01T00:00:00Z",
    ],
)
def test_times_of_another_age_are_implausible(time: str) -> None:
    assert reason(payment(event_time=time)) == "implausible_time"


def test_an_event_may_be_dated_after_its_arrival_only_by_the_tolerance() -> None:
    limits = Limits(future_tolerance=60.0)
    assert reason(payment(event_time="2024-05-01T10:01:31Z"), limits=limits) == "future_time"
    admitted(payment(event_time="2024-05-01T10:01:30Z"), limits=limits)


def test_the_future_is_judged_by_the_record_and_not_by_the_clock() -> None:
    late = payment(event_time="2024-05-01T12:00:00Z")
    later_ms = NOW_MS + 2 * 3600 * 1000
    assert isinstance(admit_transaction(record(late), Limits()), Rejected)
    assert isinstance(admit_transaction(record(late, timestamp_ms=later_ms), Limits()), Transaction)


def test_times_with_an_offset_are_the_same_instant() -> None:
    for text in ("2024-05-01T12:00:00+02:00", "2024-05-01T04:30:00-05:30", "2024-05-01T10:00:00.000Z"):
        assert admitted(payment(event_time=text)).event_time == datetime(2024, 5, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("currency", ["XXX", "ABC", "ZZZ"])
def test_a_currency_that_iso_4217_does_not_list_is_unknown(currency: str) -> None:
    assert reason(payment(currency=currency)) == "unknown_currency"


def test_a_currency_with_a_line_end_is_none() -> None:
    assert reason(payment(currency="EUR\n")) in {"invalid", "unknown_currency"}


def test_a_message_beyond_the_limit_is_too_large_and_is_not_read() -> None:
    assert reason(b"x" * (2 * 1024 * 1024)) == "too_large"
    assert reason(payment(merchant_id="m" * 2_000_000)) == "too_large"
    assert reason(payment(), limits=Limits(max_bytes=len(payment()) - 1)) == "too_large"
    admitted(payment(), limits=Limits(max_bytes=len(payment())))


def test_null_value_and_null_key_are_said() -> None:
    assert reason(None) == "null_value"
    assert reason(payment(), key=None) == "null_key"
    assert reason(None, key=None) == "null_key"


def test_the_key_is_the_card() -> None:
    assert reason(payment(), key=b"c2") == "key_mismatch"
    assert reason(payment(), key=b"") == "key_mismatch"
    admitted(payment(card_id="Zoë"), key="Zoë".encode())


def test_of_a_field_given_twice_one_counts_and_the_key_has_to_agree() -> None:
    twice = payment()[:-1] + b',"card_id":"c9"}'
    assert reason(twice) == "key_mismatch"
    assert admitted(twice, key=b"c9").card_id == "c9"


@pytest.mark.parametrize("opening", [b"[", b'{"x":', b'{"attributes":', b'{"x":['])
@pytest.mark.parametrize("depth", [10, 400, 1200, 4000])
def test_deep_nesting_is_rejected_and_never_raises(opening: bytes, depth: int) -> None:
    raw = opening * depth
    assert reason(raw) in {"too_deep", "not_json", "invalid"}
    nested = payment(x="?").replace(b'"?"', b"[" * depth + b"]" * depth)
    found = admit_transaction(record(nested), Limits())
    assert isinstance(found, (Transaction, Rejected))


# ---- card numbers


def test_a_card_number_as_card_id_is_refused_and_its_value_is_not_told() -> None:
    found = admit_transaction(record(payment(card_id=CARD_NUMBER), CARD_NUMBER.encode()), Limits())
    assert isinstance(found, Rejected)
    assert found.reason == "card_number_in_clear"
    assert CARD_NUMBER not in found.detail


def test_a_setting_admits_card_numbers() -> None:
    limits = Limits(refuse_card_numbers=False)
    assert admitted(payment(card_id=CARD_NUMBER), CARD_NUMBER.encode(), limits).card_id == CARD_NUMBER


def test_digits_that_fail_the_check_are_a_token() -> None:
    admitted(payment(card_id="4111111111111112"), b"4111111111111112")
    admitted(payment(card_id="12345678"), b"12345678")


@pytest.mark.parametrize(
    "change",
    [
        {"transaction_id": CARD_NUMBER},
        {"merchant_id": "4111-1111-1111-1111"},
        {"device_id": "PAN4111111111111111x"},
        {"ip": "4111 1111 1111 1111"},
        {"attributes": {"note": f";{CARD_NUMBER}=26121011000012300000?"}},
        {"attributes": {CARD_NUMBER: "x"}},
        {"unknown": {"deep": [1, {"pan": int(CARD_NUMBER)}]}},
    ],
)
def test_a_card_number_in_any_field_is_refused_and_not_told(change: dict[str, Any]) -> None:
    arrived = record(payment(**change))
    found = admit_transaction(arrived, Limits())
    assert isinstance(found, Rejected)
    assert found.reason == "card_number_in_clear"
    letter = dead_letter(arrived, found, "d", NOW)
    assert CARD_NUMBER not in str(letter).replace("-", "").replace(" ", "")
    assert admitted(payment(**change), limits=Limits(refuse_card_numbers=False))


def test_a_label_with_a_card_number_is_refused_and_not_told() -> None:
    for change in ({"transaction_id": CARD_NUMBER}, {"source": f"bank {CARD_NUMBER}"}):
        found = admit_label(record(json.dumps(LABEL | change).encode()), Limits())
        assert isinstance(found, Rejected)
        assert found.reason == "card_number_in_clear"


def test_exempt_fields_may_hold_digits_that_look_like_a_card_number() -> None:
    limits = Limits(card_number_exempt=frozenset({"transaction_id", "card_id"}))
    admitted(payment(transaction_id=CARD_NUMBER), limits=limits)
    for change in ({"card_id": CARD_NUMBER}, {"attributes": {"transaction_id": CARD_NUMBER}}):
        found = admit_transaction(record(payment(**change), CARD_NUMBER.encode()), limits)
        assert isinstance(found, Rejected)
        assert found.reason == "card_number_in_clear"


@given(st.text("0123456789", min_size=12, max_size=18))
def test_exactly_one_check_digit_makes_a_card_number(digits: str) -> None:
    found = [digit for digit in range(10) if looks_like_card_number(f"{digits}{digit}".encode())]
    assert len(found) == 1


# ---- labels


def test_a_label_is_admitted() -> None:
    found = admit_label(record(json.dumps(LABEL).encode()), Limits())
    assert isinstance(found, Label)
    assert (found.transaction_id, found.is_fraud, found.source) == ("t1", True, "chargeback")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"is_fraud": "yes"}, "invalid"),
        ({"is_fraud": 1}, "invalid"),
        ({"known_at": "9999-12-31T00:00:00Z"}, "implausible_time"),
        ({"known_at": "2025-05-01T00:00:00Z"}, "future_time"),
        ({"transaction_id": ""}, "invalid"),
    ],
)
def test_a_wrong_label_is_rejected_with_its_reason(change: dict[str, Any], why: str) -> None:
    found = admit_label(record(json.dumps(LABEL | change).encode()), Limits())
    assert isinstance(found, Rejected)
    assert found.reason == why


def test_assumed_label_may_be_dated_ahead_of_the_clock() -> None:
    silence = LABEL | {"source": "maturity", "is_fraud": False, "known_at": "2024-06-01T00:00:00Z"}
    assert isinstance(admit_label(record(json.dumps(silence).encode()), Limits()), Label)


@pytest.mark.parametrize("known_at", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
def test_assumed_label_is_of_this_age_all_the_same(known_at: str) -> None:
    silence = LABEL | {"source": "maturity", "is_fraud": False, "known_at": known_at}
    found = admit_label(record(json.dumps(silence).encode()), Limits())
    assert isinstance(found, Rejected)
    assert found.reason == "implausible_time"


# ---- anything at all


@given(value=st.none() | st.binary(max_size=300), key=st.none() | st.binary(max_size=20))
@example(value=b'{"x":' * 5000, key=b"c1")
def test_arbitrary_bytes_never_raise(value: bytes | None, key: bytes | None) -> None:
    arrived = record(value, key)
    for admit in (admit_transaction, admit_label):
        found = admit(arrived, Limits())
        assert isinstance(found, (Transaction, Label, Rejected))
        if isinstance(found, Rejected):
            dead_letter(arrived, found, "d", NOW, mask_card_numbers=True)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*PAYMENT, "latitude", "attributes", "device_id", "x"]), junk))
def test_mutated_fields_give_a_believable_transaction_or_a_reason(changes: dict[str, object]) -> None:
    found = admit_transaction(record(payment(**changes)), Limits())
    if isinstance(found, Rejected):
        assert found.reason
        assert found.detail
    else:
        assert 0 < found.amount_minor <= 10**15
        assert found.card_id == "c1"
        assert found.event_time.tzinfo is not None
        assert all(math.isfinite(v) for v in found.attributes.values() if isinstance(v, float))


@given(st.data())
def test_mutated_bytes_of_a_valid_message_never_raise(data: st.DataObject) -> None:
    raw = bytearray(payment(latitude=12.5, attributes={"a": 1.5, "b": "x"}))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    found = admit_transaction(record(bytes(raw)), Limits())
    assert isinstance(found, (Transaction, Rejected))
