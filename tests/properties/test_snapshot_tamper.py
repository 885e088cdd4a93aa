from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.scoring.registry import build_model
from models.scoring.snapshot import SigningKey, SnapshotHeader, SnapshotRefused, dump, load
from models.snapshots import states

KEY = SigningKey(b"\x07" * 32)
HEADER = SnapshotHeader(name="m", version="m@1", next_offset=1, learned=1)


def _blob() -> bytes:
    model = build_model("ensemble")
    del model.members["hoeffding-tree"], model.weights["hoeffding-tree"]
    model.learn_one({"a": 1.0, "b": -2.0}, True)
    return dump(model, key=KEY, header=HEADER)


BLOB = _blob()


def test_every_single_flipped_bit_is_refused() -> None:
    for position in range(len(BLOB)):
        for bit in range(8):
            changed = bytearray(BLOB)
            changed[position] ^= 1 << bit
            with pytest.raises(SnapshotRefused):
                load(bytes(changed), keys=KEY.trusted)


def test_every_truncation_is_refused() -> None:
    for size in range(len(BLOB)):
        with pytest.raises(SnapshotRefused):
            load(BLOB[:size], keys=KEY.trusted)


@given(extra=st.binary(min_size=1, max_size=64))
def test_appended_bytes_are_refused(extra: bytes) -> None:
    with pytest.raises(SnapshotRefused):
        load(BLOB + extra, keys=KEY.trusted)


@given(seed=st.binary(min_size=32, max_size=32).filter(lambda seed: seed != b"\x07" * 32))
def test_every_other_key_is_refused(seed: bytes) -> None:
    with pytest.raises(SnapshotRefused):
        load(BLOB, keys=SigningKey(seed).trusted)


@given(data=st.binary(max_size=200))
def test_bytes_that_nobody_signed_are_refused(data: bytes) -> None:
    for blob in (data, BLOB[:8] + data, BLOB[:86] + data):
        if blob == BLOB:
            continue
        with pytest.raises(SnapshotRefused):
            load(blob, keys=KEY.trusted)


names = st.text(max_size=6) | st.sampled_from(["amount", "card.count.1h", "country=7"])
numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)
rows = st.dictionaries(names, numbers, max_size=6)


@given(
    learned=st.lists(st.tuples(rows, st.booleans()), max_size=30),
    base=st.integers(0, 900),
    then=st.lists(st.tuples(rows, st.booleans()), max_size=10),
)
@settings(max_examples=40, deadline=None)
def test_stored_model_scores_learns_on_and_is_stored_again_to_the_same_bits(
    learned: list[tuple[dict[str, float], bool]],
    base: int,
    then: list[tuple[dict[str, float], bool]],
) -> None:
    chance = random.Random(base)
    model = build_model(negative_sampling_rate=0.5)
    for _ in range(base):
        model.learn_one({"amount": chance.gauss(0.0, 1.0), "hour": chance.random()}, chance.random() < 0.3)
    for x, y in learned:
        model.learn_one(x, y)
    raw = states.stored(model, None)
    copy = states.opened(raw, None, probed=True)
    assert states.stored(copy, None) == raw
    for x, y in then:
        assert copy.score_one(x).hex() == model.score_one(x).hex()
        model.learn_one(x, y)
        copy.learn_one(x, y)
    assert states.stored(copy, None) == states.stored(model, None)


@given(raw=st.binary(max_size=300))
def test_no_payload_does_more_than_be_refused(raw: bytes) -> None:
    with pytest.raises(SnapshotRefused):
        states.opened(raw, None, probed=True)
