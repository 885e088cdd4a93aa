"""A model as signed bytes: nothing of it is read before the signature over its header was verified.

    magic 8 | format 2 | key id 8 | signature 64 | length of the header 4 | header, JSON | model, deflated

Integers are big-endian. The signature is Ed25519's, over magic, format, key id and header; the header holds
size and SHA-256 of the model's bytes. Our own models are data (`models.snapshots.states`); what is no data of
ours is a pickle in them, which nobody opens unless asked to (`models.snapshots.pickles`).
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from datetime import datetime
from importlib.metadata import version
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from models.snapshots import states
from models.snapshots.pickles import Classes
from models.snapshots.refused import SnapshotRefused
from models.snapshots.signing import ID_BYTES, SIGNATURE_BYTES, SigningKey, TrustedKeys

__all__ = [
    "FORMAT", "MAX_SIZE", "RIVER", "Classes", "SigningKey", "SnapshotHeader", "SnapshotRefused",
    "TrustedKeys", "Verified", "check_storable", "dump", "load", "verified",
]  # fmt: skip

MAGIC = b"rivrwtch"
FORMAT = 2
RIVER = version("river")
MAX_HEADER = 4096  # bytes
MAX_SIZE = 256 << 20  # bytes of a snapshot
MAX_MODEL = 1 << 30  # bytes of a model, no longer deflated

_PREFIX = struct.Struct(f">8sH{ID_BYTES}s{SIGNATURE_BYTES}sI")
_FIXED = 10 + ID_BYTES  # bytes before the signature
_DEFLATE = 1  # fast: what a model remembers of examples is mostly repetition


class SnapshotHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot says of its model. Unknown fields are ignored.

    Attributes:
        name: the model's name.
        version: which model this is; the version that decisions name.
        next_offset: of the labels: the first one the model has not seen, >= 0.
        learned: examples learned so far, >= 0.
        event_time: the latest knowledge in it; None before the first label.
        installation: whose labels `next_offset` counts; a snapshot of another is of no use here.
        size, sha256: of the model's bytes.
        river: the version of River whose objects it holds.
        format: of the layout.
    """

    name: str
    version: str
    next_offset: Annotated[int, Meta(ge=0)]
    learned: int
    event_time: datetime | None = None
    installation: str = ""
    size: int = 0
    sha256: str = ""
    river: str = RIVER
    format: int = FORMAT


_header_decoder = msgspec.json.Decoder(SnapshotHeader)
_header_encode = msgspec.json.Encoder().encode


def check_storable(model: object, *, classes: Classes | None = None) -> None:
    """See that a model can be published, before anything is learned.

    Raises:
        SnapshotRefused: it holds what no snapshot may hold.
    """
    _stored(model, classes)


def _stored(model: object, classes: Classes | None) -> bytes:
    raw = states.stored(model, classes)
    states.opened(raw, classes, probed=False)
    return zlib.compress(raw, _DEFLATE)


def dump(model: object, *, key: SigningKey, header: SnapshotHeader, classes: Classes | None = None) -> bytes:
    """The model as signed bytes.

    It is built once again from its bytes before they are returned: what is published can be loaded.

    Args:
        model: one of ours, or, with `classes`, any.
        key: signs it.
        header: what the bytes say of the model; `format`, `river`, `size` and `sha256` are filled in here.
        classes: what a pickle in it may hold beside River's; None: no pickle.

    Raises:
        SnapshotRefused: the model is one that `load` would refuse, or cannot be stored.
    """
    payload = _stored(model, classes)
    digest = hashlib.sha256(payload).hexdigest()
    filled = msgspec.structs.replace(header, format=FORMAT, river=RIVER, size=len(payload), sha256=digest)
    head = _header_encode(filled)
    signature = key.sign(_signed(MAGIC, FORMAT, key.id, head))
    return _PREFIX.pack(MAGIC, FORMAT, key.id, signature, len(head)) + head + payload


def _signed(magic: bytes, layout: int, key_id: bytes, head: bytes) -> bytes:
    return _PREFIX.pack(magic, layout, key_id, bytes(SIGNATURE_BYTES), len(head)) + head


class Verified(NamedTuple):
    """A snapshot whose signature holds; of its model nothing is built yet."""

    header: SnapshotHeader
    payload: bytes

    def model(self, classes: Classes | None = None) -> Any:
        """The model.

        Args:
            classes: what a pickle in it may hold beside River's; None: no pickle is opened.

        Raises:
            SnapshotRefused: it holds another, or is damaged.
        """
        inflater = zlib.decompressobj()
        try:
            raw = inflater.decompress(self.payload, MAX_MODEL)
        except zlib.error as error:
            raise SnapshotRefused(f"The model is damaged: {error}.") from error
        if not inflater.eof or inflater.unused_data:
            raise SnapshotRefused(f"The model is damaged, or has more than {MAX_MODEL} bytes.")
        return states.opened(raw, classes, probed=True)


def load(blob: bytes, *, keys: TrustedKeys, classes: Classes | None = None) -> tuple[SnapshotHeader, Any]:
    """The header and the model: see `verified` and `Verified.model`."""
    found = verified(blob, keys=keys)
    return found.header, found.model(classes)


def verified(blob: bytes, *, keys: TrustedKeys) -> Verified:
    """A snapshot, if the bytes are whole, signed by a trusted key, and of a format and a River known here.

    Args:
        blob: what `dump` returned.
        keys: whose signatures are trusted.

    Raises:
        SnapshotRefused: anything is wrong.
    """
    if len(blob) < _PREFIX.size:
        raise SnapshotRefused(f"The snapshot is cut off: {len(blob)} bytes are too few; fetch it again.")
    if len(blob) > MAX_SIZE:
        raise SnapshotRefused(f"The snapshot has {len(blob)} bytes, more than any model: {MAX_SIZE}.")
    magic, layout, key_id, signature, head_size = _PREFIX.unpack_from(blob)
    if magic != MAGIC:
        raise SnapshotRefused("These bytes are no snapshot: they do not begin like one.")
    if layout != FORMAT:
        # before the signature: another format may well be signed in another way
        age = "newer" if layout > FORMAT else "older"
        raise SnapshotRefused(
            f"The snapshot has format {layout}, {age} than format {FORMAT}, which this version reads; "
            "run the version that made it, or let this one publish a model of its own."
        )
    if head_size > MAX_HEADER:
        raise SnapshotRefused(f"The snapshot's header has {head_size} bytes: it is no header.")
    head = blob[_PREFIX.size : _PREFIX.size + head_size]
    payload = blob[_PREFIX.size + head_size :]
    if not keys.knows(key_id):
        raise SnapshotRefused(
            f"The snapshot was signed with the key {key_id.hex()}, which is not trusted here "
            f"({', '.join(keys.ids) or 'no key'} is): if it is the learner's, add its public key to "
            "model_public_keys."
        )
    if not keys.verify(key_id, signature, _signed(magic, layout, key_id, head)):
        raise SnapshotRefused("The signature does not match: the snapshot was changed or cut off.")
    try:
        header = _header_decoder.decode(head)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SnapshotRefused(f"The snapshot's header is not understood: {error}.") from error
    if len(payload) != header.size or hashlib.sha256(payload).hexdigest() != header.sha256:
        raise SnapshotRefused("The model is not the one whose digest was signed: it was changed or cut off.")
    if header.river != RIVER:
        raise SnapshotRefused(
            f"The model was made with River {header.river} and here is River {RIVER}; "
            "install the same version on learner and scorers."
        )
    return Verified(header, payload)
