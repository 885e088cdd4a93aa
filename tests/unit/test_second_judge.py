"""The second judge shares nothing with what it judges, and agrees with it where nothing is wrong."""

from __future__ import annotations

import ast
import json
import math
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.feature_spec import DEFAULT_SPEC
from models.features import entities_of, event_of, features_of, knowledge_of
from models.profiles import Reading, empty, informed, no_labels, updated
from stream.adapters.redis_codec import Codec
from stream.admission import Limits, Rejected, admit_label, admit_transaction
from stream.currencies import EXPONENTS
from stream.messages import Transaction, encode
from stream.records import Record
from tests.second_judge import admission, arithmetic, features, topics
from tests.second_judge.currencies import DECIMALS

JUDGE = Path(arithmetic.__file__).parent
ALLOWED = {*sys.stdlib_module_names, "confluent_kafka", "numpy", "redis"}
START = datetime(2026, 1, 5, tzinfo=UTC)
CAME = int(START.timestamp() * 1000)
GOOD: dict[str, Any] = {
    "transaction_id": "t1",
    "event_time": "2026-01-04T23:00:00.25Z",
    "card_id": "c1",
    "merchant_id": "m1",
    "amount_minor": 4999,
    "currency": "EUR",
}
LABEL: dict[str, Any] = {
    "transaction_id": "t1",
    "is_fraud": True,
    "known_at": "2026-01-04T23:00:00Z",
    "source": "analyst",
}


def imported(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides where it leads"
            names.add(node.module or "")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            assert called not in {"__import__", "import_module", "exec", "eval"}, called
    return names


def test_second_judge_imports_nothing_of_what_it_judges() -> None:
    sources = sorted(JUDGE.glob("**/*.py"))
    assert len(sources) > 5
    for source in sources:
        for name in imported(source.read_text("utf-8")):
            root = name.partition(".")[0]
            assert root in ALLOWED or name.startswith("tests.second_judge"), f"{source.name} imports {name}"


def test_both_judges_know_the_same_currencies() -> None:
    assert DECIMALS == EXPONENTS


CARD_NUMBER = "4111111111111111"
TEXTS = st.one_of(
    st.sampled_from(["", "c1", "x" * 128, "x" * 129, "x" * 256, "x" * 257, CARD_NUMBER, "4111111111111112"]),
    st.text(max_size=5),
)
TIMES = st.one_of(
    st.sampled_from(
        [
            "2026-01-04t23:00:00z",
            "2026-01-04 23:00:00.1234565Z",
            "2026-01-04T23:00:00.9999999+0100",
            "2026-01-05T02:00:00+01:00",
            "2026-01-05T02:00:01+01:00",
            "2026-01-04T23:00:00",
            "2026-01-04T23:00:60Z",
            "2026-01-04T24:00:00Z",
            "2026-02-29T00:00:00Z",
            "1989-12-31T23:59:59Z",
            "1990-01-01T00:00:00Z",
            "2200-01-01T00:00:00Z",
            "2026-01-04",
            "2026-01-04T23:00Z",
            "2026-01-04T23:00:00.Z",
        ]
    ),
    st.datetimes(datetime(1989, 12, 1), datetime(2201, 1, 1)).map(lambda each: each.isoformat() + "Z"),  # noqa: DTZ001 - the Z says it
)
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.floats(), TEXTS, TIMES, st.just([]), st.just({"a": None})
)
VALUES = {
    "event_time": st.one_of(TIMES, ODD),
    "known_at": st.one_of(TIMES, ODD),
    "is_fraud": st.one_of(st.booleans(), ODD),
    "amount_minor": st.one_of(st.sampled_from([0, 1, 10**15, 10**15 + 1, 1.0, -1, 2**70]), ODD),
    "currency": st.one_of(st.sampled_from(["EUR", "eur", "EURO", "XAU", "XXX", "JPY", "HRK"]), ODD),
    "latitude": st.one_of(st.sampled_from([90, -90.0, 90.1]), ODD),
    "longitude": st.one_of(st.sampled_from([180, -180.0, 180.1]), ODD),
    "attributes": st.one_of(
        st.dictionaries(TEXTS, ODD, max_size=3),
        st.integers(63, 66).map(lambda many: {str(number): number for number in range(many)}),
        ODD,
    ),
}
TEXT_FIELDS = (
    "transaction_id", "card_id", "merchant_id", "device_id", "ip", "country", "category", "channel", "source",
    "unknown",
)  # fmt: skip


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from([*VALUES, *TEXT_FIELDS]), max_size=2))
    return {name: draw(VALUES.get(name, st.one_of(TEXTS, ODD))) for name in names}


def agree(record: Record, mine: admission.Verdict, theirs: Any) -> None:
    reason = theirs.reason if isinstance(theirs, Rejected) else ""
    if not {reason, mine.reason} <= admission.MALFORMED:
        assert mine.reason == reason, (record.value, theirs)


def both(record: Record, rules: tuple[int, float, bool] = (65_536, 3600.0, True)) -> None:
    seen = topics.Record(0, 0, record.timestamp_ms, record.key, record.value, ())
    mine = admission.transaction(seen, admission.Rules(*rules))
    theirs = admit_transaction(record, Limits(*rules))
    agree(record, mine, theirs)
    if isinstance(theirs, Transaction):
        assert mine.fields["event_time"] == theirs.event_time.timestamp()
    agree(record, admission.label(seen, admission.Rules(*rules)), admit_label(record, Limits(*rules)))


@given(changes(), changes(), st.sampled_from([b"c1", b"c2", None, CARD_NUMBER.encode()]), st.booleans())
def test_both_admit_the_same_records(
    payment: dict[str, Any], label: dict[str, Any], key: bytes | None, refuse: bool
) -> None:
    for value in ({**GOOD, **payment}, {**LABEL, **label}):
        text = json.dumps(value)
        if "\\ud" not in text.lower():  # half of a surrogate pair in a field nobody reads is nobody's matter
            both(Record("t", 0, 0, CAME, key, text.encode()), (65_536, 3600.0, refuse))


@pytest.mark.parametrize(
    "raw",
    [
        None, b"", b"{not json", b"[]", b"1", b"{}", b"[" * 50_000, b'{"a":NaN}', b'{"a":1', b"\xff\xfe{}",
        b"\xef\xbb\xbf{}", b'{"a":"' + b"x" * 70_000 + b'"}', json.dumps(GOOD).encode() + b" ",
        json.dumps(GOOD).encode() + b"x", json.dumps(GOOD).encode("utf-16"),
        json.dumps(GOOD).replace("4999", "1, \"amount_minor\": 2").encode(),
        json.dumps(GOOD).replace("4999", "NaN").encode(), json.dumps(GOOD).replace('"c1"', '"\\ud800"').encode(),
    ],
)  # fmt: skip
def test_both_refuse_what_is_no_message(raw: bytes | None) -> None:
    for key in (b"c1", None):
        both(Record("t", 0, 0, CAME, key, raw))


PLACES = st.one_of(
    st.none(),
    st.tuples(st.floats(-90, 90, allow_subnormal=False), st.floats(-180, 180, allow_subnormal=False)),
)


@st.composite
def payments(draw: st.DrawFn) -> Transaction:
    place = draw(PLACES)
    return Transaction(
        transaction_id="t",
        event_time=START + timedelta(microseconds=draw(st.integers(-3 * 10**13, 3 * 10**13))),
        card_id=draw(st.sampled_from(["c1", "c2"])),
        merchant_id=draw(st.sampled_from(["m1", "m\0" + "é" * 90, "m3"])),
        amount_minor=draw(st.one_of(st.integers(1, 10_000), st.integers(1, 10**15))),
        currency=draw(st.sampled_from(["EUR", "JPY", "KWD", "CLF"])),
        device_id=draw(st.sampled_from([None, "d1", "d2"])),
        country=draw(st.sampled_from([None, "", "DE", "FR", "é" * 40])),
        channel=draw(st.sampled_from([None, "online"])),
        latitude=None if place is None else place[0],
        longitude=None if place is None else place[1],
    )


def seen(payment: Transaction) -> arithmetic.Payment:
    raw = encode(payment)
    record = topics.Record(0, 0, CAME + 10**15, payment.card_id.encode(), raw, ())
    fields = admission.transaction(record, admission.Rules(future_tolerance=math.inf)).fields
    assert fields == {
        **{name: value for name, value in msgspec.structs.asdict(payment).items() if name in fields},
        "event_time": payment.event_time.timestamp(),
    }
    return arithmetic.Payment(
        *(fields["event_time"], payment.amount_minor, payment.currency),
        *(payment.card_id, payment.merchant_id, payment.device_id),
        *(payment.country, payment.category, payment.channel, payment.latitude, payment.longitude),
    )


@given(st.lists(st.tuples(payments(), st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_both_give_the_same_profiles_and_features_to_the_bit(
    steps: list[tuple[Transaction, bool, bool, bool]],
) -> None:
    spec, codec = DEFAULT_SPEC, Codec(len(DEFAULT_SPEC.half_lives))
    theirs: dict[str, Reading] = {}
    mine: dict[str, tuple[arithmetic.Profile, arithmetic.LabelProfile]] = {}
    nothing = Reading(empty(4), no_labels(4))
    for payment, is_labelled, is_fraud, corrects in steps:
        own = seen(payment)
        found = entities_of(payment, spec)
        assert own.entities() == {kind: key for kind, key, _ in found}
        event = event_of(payment, spec)
        readings = tuple(theirs.get(f"{kind}:{key}", nothing) for kind, key, _ in found)
        served = features_of(payment, event, tuple(kind for kind, _, _ in found), readings, spec)
        told = features.of_payment(own)
        for (kind, key, keep), reading in zip(found, readings, strict=True):
            name = f"{kind}:{key}"
            profile, labels = mine.setdefault(name, (arithmetic.Profile(), arithmetic.LabelProfile()))
            told |= {
                f"{kind}.{each}": value
                for each, value in features.of_entity(kind, own, profile, labels).items()
            }
            profile.add(own, arithmetic.KEPT[kind])
            after, known = updated(reading.profile, event, keep), reading.labels
            if is_labelled:
                labels.add(arithmetic.Knowledge(own.time, is_fraud, corrects))
                adds = knowledge_of(own.time, is_fraud, spec)._replace(corrects=corrects)
                known = informed(known, adds)
                assert labels.packed() == codec.packed_labels(known)
            assert profile.packed() == codec.packed(after)
            theirs[name] = Reading(after, known)
        assert told == served
