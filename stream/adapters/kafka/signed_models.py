"""One published model: how it is written into a message, and whom it takes to be read out of it again.

Whoever may write to the topic may write anything. Here it becomes a model that a trusted key signed for this
installation, or a refusal, and nothing else: no path is taken from a message, nothing is parsed or inflated
before its signature holds, and whatever is raised on the way is a refusal too.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from models.scoring.snapshot import (
    MAX_SIZE,
    Classes,
    SnapshotHeader,
    SnapshotRefused,
    TrustedKeys,
    Verified,
    verified,
)
from stream.messages import ModelManifest, encode, manifest_decoder
from stream.ports import Message, Outbox

MAX_INLINE = 5_000_000  # bytes: what Base64 leaves of the 8 MB that the topic is made for

_DIGEST = re.compile(r"[0-9a-f]{64}")
_OPEN = (
    os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
)  # a FIFO is opened and seen, not waited for


class Trust(NamedTuple):
    """What a model is measured by before it is taken.

    Attributes:
        keys: whose signature it must have.
        name: of the model: another's is not taken for it.
        installation: that it must have been signed for.
        blob_dir: where large ones are; empty: nowhere.
        classes: what a pickle in it may hold; None: it may hold no pickle.
    """

    keys: TrustedKeys
    name: str
    installation: str
    blob_dir: str = ""
    classes: Classes | None = None


class PublishedModel(msgspec.Struct, frozen=True):
    """A model that was read, verified and built.

    Attributes:
        value: the message it was read from.
    """

    manifest: ModelManifest
    model: Any
    value: bytes = b""


def publish(outbox: Outbox, topic: str, manifest: ModelManifest, blob: bytes, blob_dir: str) -> bytes:
    """Publish a snapshot, durably: inline where a message can hold it, else as a file that all workers share.

    Returns:
        The message's value, which `opened` reads.

    Raises:
        ValueError: it is too large for a message and there is no folder for it.
        OSError: the folder takes no more.
        DependencyDown: Kafka does not answer.
    """
    if len(blob) <= MAX_INLINE:
        manifest = msgspec.structs.replace(manifest, blob=blob)
    elif not blob_dir:
        raise ValueError(
            f"the model {manifest.version} has {len(blob)} bytes, too many for a message: set "
            "RIVERWATCH_MODEL_BLOB_DIR to a folder that all workers share"
        )
    else:
        _write_blob(_blob_file(blob_dir, manifest.sha256), blob)
    value = encode(manifest)
    outbox.send([Message(topic, manifest.name.encode(), value)])
    return value


def opened(value: bytes, trust: Trust) -> PublishedModel:
    """The model of a message.

    Raises:
        SnapshotRefused: it is not to be trusted.
    """
    manifest, snapshot = trusted(value, trust)
    return PublishedModel(manifest, snapshot.model(trust.classes), value)


def trusted(value: bytes, trust: Trust) -> tuple[ModelManifest, Verified]:
    """What a message says of its model, as the one who signed it said; the model is not built.

    Raises:
        SnapshotRefused: it is not to be trusted.
    """
    try:
        return _trusted(value, trust)
    except SnapshotRefused:
        raise
    except Exception as error:  # nobody but who signs a model may end a worker by what they write
        raise SnapshotRefused(
            f"the message on the models topic cannot be read ({type(error).__name__}: {error})"
        ) from error


def _trusted(value: bytes, trust: Trust) -> tuple[ModelManifest, Verified]:
    try:
        manifest = manifest_decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SnapshotRefused(f"the message on the models topic is no manifest: {error}") from error
    blob = manifest.blob if manifest.blob is not None else _read_blob(manifest, trust.blob_dir)
    snapshot = verified(blob, keys=trust.keys)
    header = snapshot.header
    if header.installation != trust.installation:
        raise SnapshotRefused(
            f"model {header.version}: was signed for the installation '{header.installation}', and this is "
            f"'{trust.installation}' (the setting installation): its labels are not the ones of here"
        )
    if header.name != trust.name:
        raise SnapshotRefused(
            f"model {header.version}: the snapshot holds {header.name}, and these workers run {trust.name} "
            "(the setting model): publish each model under its own name"
        )
    if _signed_of(header) != _signed_of(manifest):
        raise SnapshotRefused(
            f"the manifest says {_short(manifest.version)}, the signed snapshot {header.version}: it was "
            "changed"
        )
    if hashlib.sha256(blob).hexdigest() != manifest.sha256:
        raise SnapshotRefused(f"model {header.version}: the snapshot is not the one its manifest names")
    return msgspec.structs.replace(manifest, blob=None), snapshot


def _signed_of(said: ModelManifest | SnapshotHeader) -> tuple[object, ...]:
    return said.name, said.version, said.next_offset, said.learned, said.event_time


def _short(text: str) -> str:
    """What somebody wrote, short enough for a line of a log."""
    return ascii(text[:80])


# ---- large snapshots


def _blob_file(blob_dir: str, digest: str) -> Path:
    return Path(blob_dir) / f"{digest}.model"


def _write_blob(path: Path, blob: bytes) -> None:
    part = path.with_suffix(".part")
    try:
        part.write_bytes(blob)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()  # half a model takes room and is of no use
        raise OSError(error.errno, error.strerror, str(part)) from error  # a failed write names no file


def _read_blob(manifest: ModelManifest, blob_dir: str) -> bytes:
    """The file of a snapshot: named by its digest, in the folder of the settings, whatever a message says."""
    name = _short(manifest.version)
    if not _DIGEST.fullmatch(manifest.sha256):
        raise SnapshotRefused(
            f"model {name}: its digest {_short(manifest.sha256)} is none, and names no file"
        )
    if not blob_dir:
        raise SnapshotRefused(
            f"model {name} is in a file: set RIVERWATCH_MODEL_BLOB_DIR to the folder that all workers share"
        )
    path = _blob_file(blob_dir, manifest.sha256)
    try:
        number = os.open(path, _OPEN)
        with os.fdopen(number, "rb") as file:
            found = os.fstat(number)
            if not stat.S_ISREG(found.st_mode):
                raise SnapshotRefused(f"model {name}: {path} is no regular file")
            if found.st_size > MAX_SIZE:
                raise SnapshotRefused(
                    f"model {name}: {path} has {found.st_size} bytes, at most {MAX_SIZE} are read"
                )
            return file.read(MAX_SIZE)
    except OSError as error:
        raise SnapshotRefused(
            f"model {name}: its file {path} cannot be read ({error.strerror}); "
            "is RIVERWATCH_MODEL_BLOB_DIR the same folder for all workers?"
        ) from error
