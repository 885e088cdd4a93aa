"""The second judge shares nothing with what it judges, and agrees with it where nothing is wrong."""

from __future__ import annotations

import ast
import json
import math
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.features.compute import entities_of, event_of, features_of, label_delta_of
from models.features.currencies import EXPONENTS
from models.features.profiles import ProfileSnapshot, apply_event, apply_label, empty, no_labels
from models.features.spec import DEFAULT_SPEC
from stream.adapters.redis.codec import Codec
from stream.admission import Limits, Rejected, admit_label, admit_transaction
from stream.decisions import content_digest
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
TEXT_EDGES = [
    "",
    "c1",
    "x" * 128,
    "x" * 129,
    "x" * 256,
    "x" * 257,
    CARD_NUMBER,
    "4111111111111112",
    "é" * 128,
]
TIME_EDGES = [
    "2026-01-04t23:00:00z", "2026-01-04 23:00:00.1234565Z", "2026-01-04T23:00:00.9999999+0100",
    "2026-01-04T23:00:00.1234564999Z", "2026-01-05T02:00:00+01:00", "2026-01-05T02:00:01+01:00",
    "2026-01-05T01:00:00.000001Z", "2026-01-04T23:00:00", "2026-01-04T23:00:60Z", "2026-01-04T24:00:00Z",
    "2026-02-29T00:00:00Z", "2026-01-04T23:00:00+24:00", "2026-01-04T23:00:00+23:59", "1989-12-31T23:59:59Z",
    "1990-01-01T00:00:00Z", "2200-01-01T00:00:00Z", "2199-12-31T23:59:59.999999Z", "2026-01-04",
    "2026-01-04T23:00Z", "2026-01-04T23:00:00.Z", "2026-01-04T23:00:00-00:00",
]  # fmt: skip
ODD_EDGES: list[Any] = [None, True, 0, 1, 1.0, 0.5, "", "c1", [], {}, {"a": None}, 10**400]
EDGES: dict[str, list[Any]] = {
    "event_time": [*TIME_EDGES, *ODD_EDGES],
    "known_at": [*TIME_EDGES, *ODD_EDGES],
    "is_fraud": [True, False, *ODD_EDGES],
    "amount_minor": [0, 1, 10**15, 10**15 + 1, 1.0, -1, 2**70, *ODD_EDGES],
    "currency": ["EUR", "eur", "EURO", "XAU", "XXX", "JPY", "HRK", *ODD_EDGES],
    "latitude": [90, -90.0, 90.1, -91, *ODD_EDGES],
    "longitude": [180, -180.0, 180.1, -181, *ODD_EDGES],
    "attributes": [
        *({str(number): number for number in range(many)} for many in (64, 65)),
        *({"a": each} for each in ODD_EDGES),
        *({"a": "x" * length} for length in (256, 257)),
        *({key: 1} for key in ("", "x" * 256, "x" * 257)),
        *ODD_EDGES,
    ],
    **{f"{name}_id": [*TEXT_EDGES, *ODD_EDGES] for name in ("transaction", "card", "merchant", "device")},
    **{field: [*TEXT_EDGES, *ODD_EDGES] for field in ("ip", "country", "category", "channel")},
    "source": ["maturity", *TEXT_EDGES, *ODD_EDGES],
    "unknown": ODD_EDGES,
}
ODD = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.floats(), st.text(max_size=5))
TIMES = st.datetimes(datetime(1989, 12, 1), datetime(2201, 1, 1)).map(lambda each: each.isoformat() + "Z")  # noqa: DTZ001 - the Z says it


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(list(EDGES)), max_size=2))
    return {name: draw(st.one_of(st.sampled_from(EDGES[name]), ODD, TIMES)) for name in names}


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


def both_of_fields(changed: dict[str, Any], key: bytes | None, *, refuse: bool) -> None:
    for value in ({**GOOD, **changed}, {**LABEL, **changed}):
        text = json.dumps(value)
        if "\\ud" not in text.lower():  # half of a surrogate pair in a field nobody reads is nobody's matter
            both(Record("t", 0, 0, CAME, key, text.encode()), (65_536, 3600.0, refuse))


@pytest.mark.parametrize("field", EDGES)
def test_both_draw_the_same_limits_of_a_field(field: str) -> None:
    for value in EDGES[field]:
        key = value.encode() if field == "card_id" and isinstance(value, str) else b"c1"
        for refuse in (True, False):
            both_of_fields({field: value}, key, refuse=refuse)
    both_of_fields({field: None}, b"c1", refuse=True)
    for good in (GOOD, LABEL):
        less = {name: value for name, value in good.items() if name != field}
        both(Record("t", 0, 0, CAME, b"c1", json.dumps(less).encode()))


@given(changes(), st.sampled_from([b"c1", b"c2", None, CARD_NUMBER.encode()]), st.booleans())
def test_both_admit_the_same_records(changed: dict[str, Any], key: bytes | None, refuse: bool) -> None:
    both_of_fields(changed, key, refuse=refuse)


@pytest.mark.parametrize(
    "raw",
    [
        None, b"", b"{not json", b"[]", b"1", b"{}", b"[" * 50_000, b'{"a":NaN}', b'{"a":1', b"\xff\xfe{}",
        b"\xef\xbb\xbf{}", b'{"a":"' + b"x" * 70_000 + b'"}', json.dumps(GOOD).encode() + b" ",
        json.dumps(GOOD).encode() + b"x", json.dumps(GOOD).encode("utf-16"),
        json.dumps(GOOD).replace("4999", '1, "amount_minor": 2').encode(),
        json.dumps(GOOD).replace("4999", "NaN").encode(),
        json.dumps(GOOD).replace('"c1"', '"\\ud800"').encode(),
    ],
)  # fmt: skip
def test_both_refuse_what_is_no_message(raw: bytes | None) -> None:
    for key in (b"c1", None):
        both(Record("t", 0, 0, CAME, key, raw))


def payments(chance: Random) -> Iterator[Transaction]:
    """Sixty payments: often at one moment or close together, now and then late, or after months."""
    time = START
    steps = (0, 0, 0, 1, 60, 4000, 90_000, 3_000_000, -20_000, -4_000_000, 400_000_000)
    for number in range(60):
        together = number < 4  # three at one moment are just enough for a norm
        time += timedelta(
            seconds=0 if together else chance.choice(steps),
            microseconds=0 if together else chance.choice((0, 1, 999_999)),
        )
        has_place = chance.random() < 0.7
        yield Transaction(
            transaction_id=f"t{number}",
            event_time=time,
            card_id="c1" if together else chance.choice(["c1", "c1", "c1", "c2"]),
            merchant_id=chance.choice(["m1", "m\0" + "é" * 90, "m" * 100]),
            amount_minor=chance.choice(
                [100, 100, 150, 5000, chance.randint(1, 10**6), chance.randint(1, 10**15)]
            ),
            currency=chance.choice(["EUR", "EUR", "JPY", "KWD", "CLF"]),
            device_id=chance.choice([None, None, "d1", "d2"]),
            country=chance.choice([None, "", "DE", "FR", "é" * 40]),
            channel=chance.choice([None, "online"]),
            latitude=chance.uniform(-90, 90) if has_place else None,
            longitude=chance.uniform(-180, 180) if has_place else None,
        )


def seen(payment: Transaction) -> arithmetic.Payment:
    raw = encode(payment)
    record = topics.Record(0, 0, CAME + 10**15, payment.card_id.encode(), raw, ())
    fields = admission.transaction(record, admission.Rules(future_tolerance=math.inf)).fields
    assert fields == {
        **{name: value for name, value in msgspec.structs.asdict(payment).items() if name in fields},
        "event_time": payment.event_time.timestamp(),
        "content_digest": content_digest(payment),
    }
    return arithmetic.Payment(
        fields["event_time"],
        payment.amount_minor,
        payment.currency,
        payment.card_id,
        payment.merchant_id,
        payment.device_id,
        payment.country,
        payment.category,
        payment.channel,
        payment.latitude,
        payment.longitude,
    )


@pytest.mark.parametrize("seed", range(40))
def test_both_give_the_same_profiles_and_features_to_the_bit(seed: int) -> None:
    chance = Random(seed)
    spec, codec = DEFAULT_SPEC, Codec(len(DEFAULT_SPEC.half_lives))
    theirs: dict[str, ProfileSnapshot] = {}
    mine: dict[str, tuple[arithmetic.Profile, arithmetic.LabelProfile]] = {}
    nothing = ProfileSnapshot(empty(4), no_labels(4))
    labelled: dict[str, tuple[arithmetic.Payment, bool]] = {}
    for payment in payments(chance):
        own = seen(payment)
        found = entities_of(payment, spec)
        assert own.entities() == {kind: key for kind, key, _ in found}
        event = event_of(payment, spec)
        snapshots = tuple(theirs.get(f"{kind}:{key}", nothing) for kind, key, _ in found)
        served = features_of(payment, event, tuple(kind for kind, _, _ in found), snapshots, spec)
        told = features.of_payment(own)
        for (kind, key, max_recent), snapshot in zip(found, snapshots, strict=True):
            name = f"{kind}:{key}"
            profile, labels = mine.setdefault(name, (arithmetic.Profile(), arithmetic.LabelProfile()))
            told |= {
                f"{kind}.{each}": value
                for each, value in features.of_entity(kind, own, profile, labels).items()
            }
            profile.add(own, arithmetic.KEPT[kind])
            after = apply_event(snapshot.profile, event, max_recent)
            assert profile.packed() == codec.packed(after)
            theirs[name] = ProfileSnapshot(after, snapshot.labels)
        assert told == served
        if chance.random() < 0.4:
            continue  # no label comes now
        number = (
            payment.transaction_id if chance.random() < 0.6 or not labelled else chance.choice([*labelled])
        )
        corrects = number in labelled
        about, before = labelled.get(number, (own, chance.random() < 0.5))
        labelled[number] = about, not before
        adds = label_delta_of(number, about.time, not before, spec)._replace(corrects=corrects)
        for entity in (f"{kind}:{key}" for kind, key in about.entities().items()):
            labels = mine[entity][1]
            labels.add(arithmetic.LabelDelta(number, about.time, not before, corrects))
            theirs[entity] = theirs[entity]._replace(labels=apply_label(theirs[entity].labels, adds))
            assert labels.packed() == codec.packed_labels(theirs[entity].labels)
