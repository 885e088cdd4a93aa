"""The edge: whatever bytes arrive, they become a transaction, a label, or a reason; and nothing raises."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream.admission import (
    MOST_KEPT,
    WAITED,
    DeadLetter,
    Limits,
    Rejected,
    admit_label,
    admit_transaction,
    dead_letter,
    masked,
)
from stream.card_numbers import looks_like_card_number
from stream.messages import Label, Transaction
from stream.records import Record

NOW = datetime(2024, 5, 1, 10, 0, 30, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
OWN_HEADERS = ["reason", "detail", "topic", "partition", "offset", "failed_at"]
CARD_NUMBER = "4111111111111111"
PAYMENT: dict[str, Any] = {
    "transaction_id": "t1",
    "event_time": "2024-05-01T10:00:00Z",
    "card_id": "c1",
    "merchant_id": "m1",
    "amount_minor": 1250,
    "currency": "EUR",
}
LABEL: dict[str, Any] = {
    "transaction_id": "t1",
    "is_fraud": True,
    "known_at": "2024-05-01T10:00:00Z",
    "source": "chargeback",
}


def record(value: bytes | None, key: bytes | None = b"c1", timestamp_ms: int = NOW_MS) -> Record:
    return Record("transactions", 3, 41, timestamp_ms, key, value)


def payment(**changes: Any) -> bytes:
    return json.dumps(PAYMENT | changes).encode()


def without(field: str) -> bytes:
    return json.dumps({name: value for name, value in PAYMENT.items() if name != field}).encode()


def admitted(value: bytes | None, key: bytes | None = b"c1", limits: Limits | None = None) -> Transaction:
    found = admit_transaction(record(value, key), limits or Limits())
    assert isinstance(found, Transaction), found
    return found


def reason(value: bytes | None, key: bytes | None = b"c1", limits: Limits | None = None) -> str:
    found = admit_transaction(record(value, key), limits or Limits())
    assert isinstance(found, Rejected), found
    assert found.detail
    return found.reason


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


def test_the_dead_letter_of_a_card_number_holds_it_neither_in_key_nor_in_bytes() -> None:
    raw = payment(card_id=CARD_NUMBER, attributes={"pan": CARD_NUMBER, "note": f"paid by {CARD_NUMBER}."})
    letter = dead_letter(record(raw, CARD_NUMBER.encode()), Rejected("card_number_in_clear", "x"), "d", NOW)
    assert letter.key == b"411111******1111"
    assert letter.value is not None
    assert CARD_NUMBER.encode() not in letter.value
    assert letter.value.count(b"411111******1111") == 3


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (payment(card_id=CARD_NUMBER, amount_minor=-1), CARD_NUMBER.encode()),
        (payment(card_id=CARD_NUMBER), None),
        (payment(card_id=CARD_NUMBER)[:-2], b"c1"),
        (payment(card_id=int(CARD_NUMBER)), b"c1"),
        (None, CARD_NUMBER.encode()),
    ],
)
def test_a_card_number_is_masked_whatever_else_was_wrong(raw: bytes | None, key: bytes | None) -> None:
    arrived = record(raw, key)
    why = admit_transaction(arrived, Limits())
    assert isinstance(why, Rejected)
    letter = dead_letter(arrived, why, "d", NOW, mask_card_numbers=True)
    assert CARD_NUMBER.encode() not in (letter.key or b"") + (letter.value or b"")


def test_other_dead_letters_keep_their_bytes() -> None:
    digits = payment(transaction_id="4111111111111112", amount_minor=-1, merchant_id="1234567890123452")
    letter = dead_letter(record(digits), Rejected("invalid", "x"), "d", NOW)
    assert (letter.key, letter.value) == (b"c1", digits)


def test_where_card_numbers_are_allowed_a_dead_letter_keeps_its_bytes() -> None:
    shown = payment(card_id=CARD_NUMBER, amount_minor=-1)
    letter = dead_letter(record(shown), Rejected("invalid", "x"), "d", NOW, mask_card_numbers=False)
    assert letter.value == shown


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


@given(st.binary(max_size=60))
def test_masking_keeps_length_and_is_done_once(raw: bytes) -> None:
    once = masked(raw)
    assert once is not None
    assert len(once) == len(raw)
    assert masked(once) == once


# ---- dead letters


def test_a_dead_letter_says_what_was_wrong_and_where_it_came_from() -> None:
    letter = dead_letter(record(b"junk", b"k"), Rejected("not_json", "broken"), "dead-letters", NOW)
    assert (letter.topic, letter.key, letter.value) == ("dead-letters", b"k", b"junk")
    assert dict(letter.headers) == {
        "reason": b"not_json",
        "detail": b"broken",
        "topic": b"transactions",
        "partition": b"3",
        "offset": b"41",
        "failed_at": b"2024-05-01T10:00:30+00:00",
    }


def test_a_dead_letter_always_fits_where_its_original_did() -> None:
    usual_limit = 1024 * 1024
    huge = record(b"v" * (2 * usual_limit), b"k" * usual_limit)
    letter = dead_letter(huge, Rejected("too_large", "x"), "d", NOW)
    assert letter.value == b"v" * MOST_KEPT
    size = len(letter.value) + len(letter.key or b"") + sum(len(n) + len(v) for n, v in letter.headers)
    assert size < usual_limit - 1000
    assert dict(letter.headers)["size"] == b"%d" % (2 * usual_limit)


def test_a_dead_letter_keeps_the_headers_of_its_original_before_its_own() -> None:
    """Kafka's `lastHeader` finds the dead letter's own, whatever names the original's have."""
    original = (("trace", b"1"), ("reason", b"theirs"), ("trace", b"2"), ("offset", b""))
    arrived = record(b"junk")._replace(headers=original)
    letter = dead_letter(arrived, Rejected("not_json", "broken"), "d", NOW)
    assert letter.headers[:4] == original
    assert [name for name, _ in letter.headers[4:]] == OWN_HEADERS
    last = dict(letter.headers)
    assert (last["reason"], last["offset"]) == (b"not_json", b"41")


def test_no_header_of_a_dead_letter_shows_a_card_number() -> None:
    arrived = record(b"junk")._replace(headers=(("pan", CARD_NUMBER.encode()),))
    letter = dead_letter(arrived, Rejected("not_json", "broken"), "d", NOW)
    assert letter.headers[0] == ("pan", b"411111******1111")


def test_a_dead_letter_with_large_headers_fits_where_its_original_did() -> None:
    usual_limit = 1024 * 1024
    large = tuple((f"h{number}", b"x" * 200_000) for number in range(5))
    arrived = record(b"v" * 500_000)._replace(headers=large)
    letter = dead_letter(arrived, Rejected("not_json", "x"), "d", NOW)
    assert letter.headers[:4] == large[:4], "whole ones, from the first on"
    assert [name for name, _ in letter.headers[4:]] == [*OWN_HEADERS, "size"]
    assert dict(letter.headers)["size"] == b"500000"
    assert letter.value == b"v" * len(letter.value or b"")
    size = len(letter.value or b"") + sum(len(name) + len(value) for name, value in letter.headers)
    assert MOST_KEPT - 100 < size < usual_limit - 1000


@given(
    reason=st.text(min_size=1, max_size=40),
    detail=st.text(max_size=80),
    topic=st.text(min_size=1, max_size=40),
    partition=st.integers(0, 10_000),
    offset=st.integers(0, 2**48 - 1),
    waited=st.none() | st.integers(0, 2**48 - 1),
    original=st.lists(
        st.tuples(st.sampled_from(["topic", "partition", "offset", "reason", "x"]), st.binary())
    ),
)
def test_a_dead_letter_is_read_back_whatever_headers_its_original_had(
    reason: str,
    detail: str,
    topic: str,
    partition: int,
    offset: int,
    waited: int | None,
    original: list[tuple[str, bytes]],
) -> None:
    failed = Record(topic, partition, offset, NOW_MS, b"k", b"junk", tuple(original))
    headers = dead_letter(failed, Rejected(reason, detail), "dead-letters", NOW).headers
    own = () if waited is None else ((WAITED, b"%d" % waited),)
    last_waited = offset if waited is None else waited
    assert DeadLetter.parse((*headers, *own)) == DeadLetter(
        reason, detail, topic, partition, offset, last_waited
    )


@given(st.lists(st.tuples(st.sampled_from(["topic", "partition", "offset", "reason", WAITED]), st.binary())))
@example([("topic", b"t"), ("partition", b"0"), ("offset", b"9" * 5000)])
@example([("topic", b"t"), ("partition", b"0"), ("offset", b"-1")])
@example([("partition", b"0"), ("offset", b"1")])
def test_headers_of_others_are_no_dead_letter_and_raise_nothing(headers: list[tuple[str, bytes]]) -> None:
    found = DeadLetter.parse(headers)
    assert found is None or (found.partition >= 0 and found.offset >= 0)


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
