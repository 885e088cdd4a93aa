"""A dead letter says what was wrong and whence it came, fits, is read back, and shows no card number."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream.admission import Limits, Rejected, admit_transaction
from stream.card_numbers import masked
from stream.dead_letters import MOST_KEPT, WAITED, DeadLetter, dead_letter
from stream.records import Record
from tests.unit.stream.arrivals import CARD_NUMBER, NOW, NOW_MS, payment, record

OWN_HEADERS = ["reason", "detail", "topic", "partition", "offset", "failed_at"]


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


@given(st.binary(max_size=60))
def test_masking_keeps_length_and_is_done_once(raw: bytes) -> None:
    once = masked(raw)
    assert once is not None
    assert len(once) == len(raw)
    assert masked(once) == once


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
