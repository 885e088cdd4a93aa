from __future__ import annotations

import os
import pickle
import random
import struct
import zlib
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from river import compose, linear_model, optim, preprocessing

from models.scoring import snapshot
from models.scoring.registry import build_model
from models.scoring.snapshot import SnapshotHeader, SnapshotRefused, dump, load

KEY = bytes(range(32))
HEADER = SnapshotHeader(
    name="card", version="card@42", next_offset=42, learned=40, event_time=datetime(2026, 1, 2, tzinfo=UTC)
)


def learned_model() -> Any:
    model = compose.Pipeline(
        preprocessing.StandardScaler(), linear_model.LogisticRegression(optim.AdaGrad(0.1))
    )
    for number in range(50):
        model.learn_one({"amount": number * 0.5, "night": float(number % 3)}, number % 2 == 0)
    return model


def resigned(blob: bytes, key: bytes = KEY) -> bytes:
    """The bytes with a signature that holds, as a holder of the key could make them."""
    unsigned = blob[:10] + bytes(32) + blob[42:46]
    return blob[:10] + snapshot._sign(key, unsigned, blob[46:]) + blob[42:]


def with_payload(payload: bytes) -> bytes:
    head = msgspec.json.encode(HEADER)
    return resigned(
        snapshot._PREFIX.pack(snapshot.MAGIC, snapshot.FORMAT, bytes(32), len(head)) + head + payload
    )


class Intruder:
    """Asks for a shell when it is built."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("exit 0",))


def test_loaded_model_predicts_and_learns_on_as_the_dumped_one() -> None:
    model = learned_model()
    header, loaded = load(dump(model, key=KEY, header=HEADER), key=KEY)
    assert header == HEADER
    example = {"amount": 3.25, "night": 1.0}
    assert loaded.predict_proba_one(example) == model.predict_proba_one(example)
    for either in (model, loaded):
        either.learn_one(example, True)
    assert loaded.predict_proba_one(example) == model.predict_proba_one(example)


def test_default_model_goes_through_and_learns_on_alike() -> None:
    chance = random.Random(3)
    examples = [
        ({"amount": chance.expovariate(0.02), "hour": float(number % 24)}, chance.random() < 0.2)
        for number in range(3000)
    ]
    model = build_model(negative_sampling_rate=0.5)
    for x, y in examples[:2000]:
        model.learn_one(x, y)
    _, loaded = load(dump(model, key=KEY, header=HEADER), key=KEY)
    for x, y in examples[2000:]:
        assert loaded.score_one(x) == model.score_one(x)
        model.learn_one(x, y)
        loaded.learn_one(x, y)


def test_same_model_gives_the_same_bytes() -> None:
    assert dump(learned_model(), key=KEY, header=HEADER) == dump(learned_model(), key=KEY, header=HEADER)


def test_snapshot_of_another_key_is_refused() -> None:
    blob = dump(learned_model(), key=KEY, header=HEADER)
    with pytest.raises(SnapshotRefused, match="another key"):
        load(blob, key=b"x" * 32)


def test_nothing_is_unpickled_before_the_signature_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[bytes] = []

    def record(payload: bytes, _allowed: object) -> None:
        opened.append(payload)

    blob = dump({}, key=KEY, header=HEADER)
    monkeypatch.setattr(snapshot, "_build", record)
    with pytest.raises(SnapshotRefused):
        load(blob[:-1], key=KEY)
    with pytest.raises(SnapshotRefused):
        load(blob, key=b"x" * 32)
    assert opened == []
    load(blob, key=KEY)
    assert len(opened) == 1


@pytest.mark.parametrize(
    "payload",
    [
        pickle.dumps(Intruder()),
        b"cos\nsystem\n(S'exit 0'\ntR.",
        b"cposix\nsystem\n(S'exit 0'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"\x80\x04\x8c\x0fmodels.snapshot\x8c\x06pickle\x93.",
        b"\x80\x04\x8c\x0fmodels.snapshot\x8c\x0epickle.loads.x\x93.",
        b"\x80\x04\x8c\x0fmodels.snapshot\x8c\x04load\x93.",
        b"\x80\x04\x8c\x0fmodels.snapshot\x8c\x06struct\x93.",
        b"\x80\x04\x8c\x11models.evaluate_x\x8c\x04load\x93.",
        b"criver.utils.pretty\nprint_table\n.",
    ],
)
def test_rightly_signed_pickle_of_a_forbidden_class_is_refused(payload: bytes) -> None:
    with pytest.raises(SnapshotRefused):
        load(with_payload(payload), key=KEY)


def test_forbidden_class_is_refused_when_dumped_too() -> None:
    with pytest.raises(SnapshotRefused, match=r"system.*model_classes"):
        dump(Intruder(), key=KEY, header=HEADER)


def test_allow_list_can_be_extended() -> None:
    allowed = (*snapshot.ALLOWED, ("decimal", "Decimal"))
    from decimal import Decimal  # noqa: PLC0415 - the one class of this test

    blob = dump(Decimal(1), key=KEY, header=HEADER, allowed=allowed)
    assert load(blob, key=KEY, allowed=allowed)[1] == Decimal(1)
    with pytest.raises(SnapshotRefused):
        load(blob, key=KEY)


def test_class_of_this_package_needs_no_entry() -> None:
    model = SnapshotHeader(name="a class of models", version="1", next_offset=0, learned=0)
    assert load(dump(model, key=KEY, header=HEADER), key=KEY)[1] == model


def test_broken_pickle_with_the_right_signature_is_refused() -> None:
    whole = pickle.dumps(learned_model())
    for payload in (b"", whole[: len(whole) // 2], b"\xff" * 20):
        with pytest.raises(SnapshotRefused, match="cannot be built"):
            load(with_payload(payload), key=KEY)


def test_newer_format_is_refused_with_what_to_do() -> None:
    blob = bytearray(dump({}, key=KEY, header=HEADER))
    struct.pack_into(">H", blob, 8, snapshot.FORMAT + 1)
    with pytest.raises(SnapshotRefused, match=r"format 2, newer than format 1.*run the version"):
        load(resigned(bytes(blob)), key=KEY)


def test_model_of_another_river_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    blob = dump({}, key=KEY, header=HEADER)
    monkeypatch.setattr("models.scoring.snapshot.RIVER", "9.9.9")
    with pytest.raises(SnapshotRefused, match=r"here is River 9\.9\.9"):
        load(blob, key=KEY)


def test_header_may_gain_fields() -> None:
    head = msgspec.json.encode({**msgspec.to_builtins(HEADER), "later": 1})
    blob = (
        snapshot._PREFIX.pack(snapshot.MAGIC, snapshot.FORMAT, bytes(32), len(head))
        + head
        + zlib.compress(pickle.dumps(1))
    )
    assert load(resigned(blob), key=KEY) == (HEADER, 1)


def test_header_that_is_none_is_refused() -> None:
    blob = snapshot._PREFIX.pack(snapshot.MAGIC, snapshot.FORMAT, bytes(32), 4) + b"{}  " + pickle.dumps(1)
    with pytest.raises(SnapshotRefused, match="header"):
        load(resigned(blob), key=KEY)


def test_foreign_bytes_are_refused() -> None:
    for blob in (b"", b"PK\x03\x04" + bytes(100), pickle.dumps({})):
        with pytest.raises(SnapshotRefused):
            load(blob, key=KEY)


def test_short_key_signs_and_opens_nothing() -> None:
    with pytest.raises(ValueError, match="31 bytes"):
        dump({}, key=KEY[:31], header=HEADER)
    with pytest.raises(ValueError, match="31 bytes"):
        load(dump({}, key=KEY, header=HEADER), key=KEY[:31])
