"""A card number is found in every shape, hidden with its length kept, and leaves a worker nowhere."""

from __future__ import annotations

import json
import random
import unicodedata
import uuid
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.features.spec import DEFAULT_SPEC
from models.scoring.registry import build_model
from stream.adapters.memory.store import MemoryOutbox, MemoryStore
from stream.admission import Limits
from stream.card_numbers import card_number_field, masked, masked_text, shows_card_number
from stream.learning import Learner
from stream.messages import encode
from stream.pipeline import DecisionTopics, Pipeline
from stream.policy import Policy
from stream.records import Record
from stream.serving import first_model
from tests.support.builders import START, label, payment
from tests.support.card_data import NUMBERS, SHAPES, traces_of


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_is_found_in_every_shape(number: str, shape: str) -> None:
    text = SHAPES[shape](number)
    assert shows_card_number(text)
    hidden = masked(text.encode())
    assert hidden is not None
    assert len(hidden) == len(text.encode())
    assert not traces_of(number, hidden)
    assert not traces_of(number, masked_text(text).encode())
    assert masked(hidden) == hidden


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("shape", SHAPES)
def test_raw_bytes_of_any_unicode_encoding_are_masked(shape: str, encoding: str) -> None:
    for number in NUMBERS[:3]:
        raw = f"x {SHAPES[shape](number)} x".encode(encoding)
        hidden = masked(raw)
        assert hidden is not None
        assert len(hidden) == len(raw)
        digits = "".join(str(unicodedata.digit(c, "")) for c in hidden.decode(encoding, "replace"))
        assert number not in digits


def test_json_escapes_are_digits_too() -> None:
    escaped = "".join(f"\\u{ord(digit):04x}" for digit in NUMBERS[0])
    raw = f'{{"a":"{escaped}"}}'.encode()
    assert card_number_field(raw) == "a"
    hidden = masked(raw)
    assert hidden is not None
    assert json.loads(hidden)["a"] == NUMBERS[0][:6] + "*" * (len(NUMBERS[0]) - 10) + NUMBERS[0][-4:]


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",
        "1234567890123452",
        "41111111111111111111",
        "2026-01-14T09:30:12.250Z",
        "550e8400-e29b-41d4-a716-446655440000",
        "d4111111111111111abcdef012345678",
        "192.168.100.100",
        "1768383012250000000",
    ],
)
def test_what_only_resembles_a_number_stays(text: str) -> None:
    assert not shows_card_number(text)
    assert masked(text.encode()) == text.encode()


def test_random_ids_are_taken_for_numbers_very_rarely() -> None:
    chance = random.Random(15)
    ids = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(20_000)]
    ids += [f"{chance.getrandbits(128):032x}" for _ in range(20_000)]
    assert sum(map(shows_card_number, ids)) <= 3


@given(st.binary(max_size=80))
def test_any_bytes_are_masked_without_an_exception_and_once(raw: bytes) -> None:
    once = masked(raw)
    assert once is not None
    assert len(once) == len(raw)
    assert masked(once) == once


def hostile(chance: random.Random, count: int) -> list[tuple[str, bytes | None, bytes]]:
    """Topic, key and value of messages, each with a card number somewhere, and honest ones between them."""
    made: list[tuple[str, bytes | None, bytes]] = []
    fields: Final = ("transaction_id", "merchant_id", "device_id", "ip", "country", "category", "channel")
    for at in range(count):
        text = SHAPES[chance.choice(list(SHAPES))](chance.choice(NUMBERS))
        honest = json.loads(encode(payment(at, minutes=at)))
        report = json.loads(encode(label(at)))
        places: list[tuple[str, bytes | None, bytes]] = [
            ("transactions", b"c1", json.dumps(honest | {chance.choice(fields): text}).encode()),
            ("transactions", text.encode(), json.dumps(honest | {"card_id": text}).encode()),
            ("transactions", text.encode(), json.dumps(honest).encode()),
            ("transactions", b"c1", json.dumps(honest | {"attributes": {text: text}}).encode()),
            (
                "transactions",
                b"c1",
                json.dumps(honest | {"x": [{"y": text}]}, ensure_ascii=False).encode(),
            ),
            ("transactions", b"c1", f"{text} is no JSON".encode()),
            ("transactions", b"c1", f"{text}".encode("utf-16")),
            ("transactions", b"c1", (text + " " * 70_000 + text).encode()),
            ("labels", b"t1", json.dumps(report | {"source": text}).encode()),
            ("labels", text.encode(), json.dumps(report | {"transaction_id": text}).encode()),
            ("labels", text.encode(), f"{text}".encode()),
        ]
        made.append(chance.choice(places))
        made.append(("transactions", b"c1", json.dumps(honest).encode()))
    return made


def test_no_number_of_a_hostile_stream_leaves_a_worker_or_stays_in_its_store(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, outbox, said = MemoryStore(DEFAULT_SPEC.half_lives), MemoryOutbox(), list[str]()
    pipeline = Pipeline(
        store=store, outbox=outbox, model=lambda: first_model(Policy()), clock=lambda: START,
        spec=DEFAULT_SPEC, policy=Policy(), topics=DecisionTopics("scores", "alerts", "dead-letters"),
        limits=Limits(), on_conflicts=said.extend,
    )  # fmt: skip
    pipeline.on_assigned([0])
    model = build_model("default", negative_sampling_rate=0.5, seed=1, spec=DEFAULT_SPEC)
    learner = Learner(
        model=model, next_offset=0, decisions=store, labels=store, outbox=outbox, clock=lambda: START,
        spec=DEFAULT_SPEC, negative_sampling_rate=0.5, labels_topic="labels", dead_letters="dead-letters",
        limits=Limits(),
    )  # fmt: skip
    came = int(START.timestamp() * 1000) + 10**9
    stream = hostile(random.Random(15), 400)
    events = [(key, value) for topic, key, value in stream if topic == "transactions"]
    reports = [(key, value) for topic, key, value in stream if topic == "labels"]
    headers = (("pan", NUMBERS[0].encode()), (NUMBERS[1], b"x"))
    counts = pipeline.process(
        [Record("transactions", 0, at, came, *each, headers) for at, each in enumerate(events)]
    )
    learner.process([Record("labels", 0, at, came, *each, headers) for at, each in enumerate(reports)])
    assert counts.decided == 400
    assert counts.rejected > 200
    left = repr((outbox.sent, vars(store), said, caplog.text))
    raw = b" ".join(b"%b %b" % (each.key or b"", each.value or b"") for each in outbox.sent)
    assert [number for number in NUMBERS if traces_of(number, left.encode()) or traces_of(number, raw)] == []
