from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import linear_model

from models.scoring.snapshot import SnapshotHeader, SnapshotRefused, dump, load

KEY = b"\x07" * 32


def _blob() -> bytes:
    model = linear_model.LogisticRegression()
    model.learn_one({"a": 1.0, "b": -2.0}, True)
    return dump(model, key=KEY, header=SnapshotHeader(name="m", version="m@1", next_offset=1, learned=1))


BLOB = _blob()


def test_every_single_flipped_bit_is_refused() -> None:
    for position in range(len(BLOB)):
        for bit in range(8):
            changed = bytearray(BLOB)
            changed[position] ^= 1 << bit
            with pytest.raises(SnapshotRefused):
                load(bytes(changed), key=KEY)


def test_every_truncation_is_refused() -> None:
    for size in range(len(BLOB)):
        with pytest.raises(SnapshotRefused):
            load(BLOB[:size], key=KEY)


@given(extra=st.binary(min_size=1, max_size=64))
def test_appended_bytes_are_refused(extra: bytes) -> None:
    with pytest.raises(SnapshotRefused):
        load(BLOB + extra, key=KEY)


@given(key=st.binary(min_size=32, max_size=96).filter(lambda key: key != KEY))
def test_every_other_key_is_refused(key: bytes) -> None:
    # HMAC pads a key with zeros up to its block of 64 bytes, so those two are one key to it
    if key.rstrip(b"\0") == KEY:
        return
    with pytest.raises(SnapshotRefused):
        load(BLOB, key=key)


@given(data=st.binary(max_size=200))
def test_bytes_that_nobody_signed_are_refused(data: bytes) -> None:
    for blob in (data, BLOB[:8] + data, BLOB[:46] + data):
        if blob == BLOB:
            continue
        with pytest.raises(SnapshotRefused):
            load(blob, key=KEY)


@given(
    model=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    ),
    offset=st.integers(min_value=0, max_value=2**60),
    name=st.text(max_size=8),
)
def test_what_is_dumped_is_loaded(model: object, offset: int, name: str) -> None:
    header = SnapshotHeader(name=name, version=f"{name}@{offset}", next_offset=offset, learned=offset)
    assert load(dump(model, key=KEY, header=header), key=KEY) == (header, model)
