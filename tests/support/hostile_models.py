"""Records on the topic of models as anybody who may write there could write them, and good ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from models.scoring.registry import build_model
from models.scoring.snapshot import SigningKey, SnapshotHeader, dump
from stream.messages import ModelManifest, encode
from tests.support.model_keys import ANOTHER, INSTALLATION, SIGNING

NOW = datetime(2026, 1, 5, tzinfo=UTC)


def blob_of(
    offset: int, *, key: SigningKey = SIGNING, name: str = "default", installation: str = INSTALLATION
) -> bytes:
    """A signed snapshot."""
    header = SnapshotHeader(
        name=name, version=f"{name}@{offset}", next_offset=offset, learned=offset, installation=installation
    )
    return dump(build_model(), key=key, header=header)


def manifest_of(blob: bytes, offset: int, name: str = "default") -> ModelManifest:
    """What is published of a snapshot."""
    return ModelManifest(
        name=name,
        version=f"{name}@{offset}",
        next_offset=offset,
        learned=offset,
        created_at=NOW,
        event_time=None,
        sha256=hashlib.sha256(blob).hexdigest(),
        size=len(blob),
        blob=blob,
    )


def record(offset: int, **changed: Any) -> bytes:
    """A model as the learner publishes it, but for what is changed."""
    return encode(manifest_of(blob_of(offset, **changed), offset, changed.get("name", "default")))


def manifest(**changed: Any) -> bytes:
    """A manifest without a model, as anybody can write one."""
    fields = msgspec.to_builtins(manifest_of(b"", 900)) | {"blob": None} | changed
    return msgspec.json.encode(fields)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no JSON": lambda: b"\x00\xff rubbish",
    "deeply nested": lambda: b'{"name":' + b"[" * 200_000,
    "deeply nested where nobody looks": lambda: b'{"more":' + b"[" * 200_000,
    "a lone surrogate": lambda: b'{"name": "\\ud800"}',
    "a NUL in the location": lambda: manifest(location="a\x00b"),
    "a device as location": lambda: manifest(location="/dev/zero"),
    "a path as digest": lambda: manifest(sha256="../../../dev/zero"),
    "a NUL as digest": lambda: manifest(sha256="\x00" * 64),
    "a digest of another alphabet": lambda: manifest(sha256="٣" * 64),
    "a digest of nothing there": manifest,
    "an offset out of all numbers": lambda: manifest().replace(b"900,", b"9e999,"),
    "a huge integer": lambda: manifest().replace(b"900,", b"9" * 5000 + b","),
    "an empty blob": lambda: manifest(blob=""),
    "half a blob": lambda: encode(manifest_of(blob_of(9)[:50], 9)),
    "another key": lambda: record(10**6, key=ANOTHER),
    "another installation": lambda: record(10**6, installation="staging/"),
    "another model": lambda: encode(manifest_of(blob_of(10**6, name="anomaly"), 10**6)),
    "another offset than was signed": lambda: encode(
        msgspec.structs.replace(manifest_of(blob_of(5), 5), next_offset=10**6)
    ),
    "another version than was signed": lambda: encode(
        msgspec.structs.replace(manifest_of(blob_of(5), 5), version="default@6")
    ),
    "other examples than were signed": lambda: encode(
        msgspec.structs.replace(manifest_of(blob_of(5), 5), learned=10**6)
    ),
}
