"""A model as signed bytes: nothing is built from them before their signature has been verified.

River models hold objects in Rust and functions of their own, so they are stored by pickle, and pickle runs
what it is told to. Two checks stand before it: an HMAC-SHA256 over all bytes, checked first, and an unpickler
that knows a short list of classes by their exact names and builds nothing else.

    magic 8 | format 2 | HMAC-SHA256 32 | length of the header 4 | header, JSON | model, pickle, deflated

Integers are big-endian. The signature covers everything but itself.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import pickle
import struct
import zlib
from collections.abc import Collection
from datetime import datetime
from importlib.metadata import version
from typing import Any, NamedTuple

import msgspec

MAGIC = b"rivrwtch"
FORMAT = 1
RIVER = version("river")
MIN_KEY = 32  # bytes; as long as the digest, a shorter key would weaken it (RFC 2104, section 3)

_PREFIX = struct.Struct(">8sH32sI")
_SIGNATURE = slice(10, 42)
_PICKLE_PROTOCOL = 5
_DEFLATE = 1  # fast: what a model remembers of examples is mostly repetition

ALLOWED: tuple[tuple[str, str], ...] = (
    ("builtins", "float"),
    ("builtins", "int"),
    ("builtins", "tuple"),
    ("collections", "Counter"),
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("collections", "deque"),
    ("functools", "partial"),  # calls what is on this list, and can be given nothing else
    ("msgspec._utils", "rebuild"),  # calls a struct with its fields by name
    ("random", "Random"),
    ("river._river_rust.drift", "AdaptiveWindowing"),
    ("river._river_rust.vectordict", "VectorDict"),
    ("river.anomaly.hst", "HalfSpaceTrees"),
    ("river.compose.pipeline", "Pipeline"),
    ("river.drift.adwin", "ADWIN"),
    ("river.forest.adaptive_random_forest", "ARFClassifier"),
    ("river.forest.adaptive_random_forest", "BaseTreeClassifier"),
    ("river.linear_model.log_reg", "LogisticRegression"),
    ("river.metrics.accuracy", "Accuracy"),
    ("river.metrics.confusion", "ConfusionMatrix"),
    ("river.optim.ada_grad", "AdaGrad"),
    ("river.optim.adam", "Adam"),
    ("river.optim.initializers", "Zeros"),
    ("river.optim.losses", "Log"),
    ("river.optim.schedulers", "Constant"),
    ("river.optim.sgd", "SGD"),
    ("river.preprocessing.scale", "StandardScaler"),
    ("river.proba.gaussian", "Gaussian"),
    ("river.stats.mean", "Mean"),
    ("river.stats.var", "Var"),
    ("river.tree.hoeffding_tree_classifier", "HoeffdingTreeClassifier"),
    ("river.tree.nodes.arf_htc_nodes", "RandomLeafNaiveBayesAdaptive"),
    ("river.tree.nodes.branch", "NumericBinaryBranch"),
    ("river.tree.nodes.htc_nodes", "LeafNaiveBayesAdaptive"),
    ("river.tree.padded", "PaddedBranch"),
    ("river.tree.padded", "PaddedLeaf"),
    ("river.tree.splitter.gaussian_splitter", "GaussianSplitter"),
)
"""The classes a model may be made of, beside the classes of this package; `(module, name)`, exactly."""


class SnapshotRefused(Exception):  # noqa: N818 - an outcome that callers handle: they keep the model they have
    """The bytes are no model to be trusted here.

    Attributes:
        reason: a sentence: what is wrong and what to do.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SnapshotHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot says of its model. Unknown fields are ignored.

    Attributes:
        name: the model's name.
        version: which model this is; the version that decisions name.
        next_offset: of the labels: the first one the model has not seen, >= 0.
        learned: examples learned so far, >= 0.
        event_time: the latest knowledge in it; None before the first label.
        river: the version of River whose objects it holds.
        format: of the layout.
    """

    name: str
    version: str
    next_offset: int
    learned: int
    event_time: datetime | None = None
    river: str = RIVER
    format: int = FORMAT


_header_decoder = msgspec.json.Decoder(SnapshotHeader)
_header_encode = msgspec.json.Encoder().encode


class _ExactUnpickler(pickle.Unpickler):
    """Builds the listed classes and those defined in `models`, and nothing else."""

    def __init__(self, payload: bytes, allowed: Collection[tuple[str, str]]) -> None:
        super().__init__(io.BytesIO(payload))
        self._allowed = allowed

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """The class of that exact name.

        Raises:
            SnapshotRefused: it is not on the list.
        """
        if (module_name, global_name) in ALLOWED:
            return super().find_class(module_name, global_name)
        if (module_name, global_name) in self._allowed:
            found = super().find_class(module_name, global_name)
            if isinstance(found, type):  # what an installation adds are the classes of a model of its own
                return found
        if module_name.startswith("models.") and "." not in global_name:
            found = super().find_class(module_name, global_name)
            # a class that is defined there: not a function, and not what the module merely imports
            if isinstance(found, type) and found.__module__ == module_name:
                return found
        raise SnapshotRefused(
            f"The model holds {module_name}.{global_name}, which is not on the list of classes that may be "
            "loaded; if it is a class of a model of your own, name it in the setting model_classes."
        )


def _build(payload: bytes, allowed: Collection[tuple[str, str]]) -> Any:
    try:
        return _ExactUnpickler(zlib.decompress(payload), allowed).load()
    except SnapshotRefused:
        raise
    except Exception as error:  # a pickle can fail with anything, and none of it may reach a worker
        raise SnapshotRefused(
            f"The model cannot be built here ({type(error).__name__}: {error}); "
            "it was made by other code: publish it again from this version."
        ) from error


def check_storable(model: object, *, allowed: Collection[tuple[str, str]] = ALLOWED) -> None:
    """See that a model can be published, before anything is learned.

    Raises:
        SnapshotRefused: it holds what no snapshot may hold.
    """
    _stored(model, allowed)


def _stored(model: object, allowed: Collection[tuple[str, str]]) -> bytes:
    try:
        payload = zlib.compress(pickle.dumps(model, protocol=_PICKLE_PROTOCOL), _DEFLATE)
    except Exception as error:  # an object may raise anything while it is pickled
        raise SnapshotRefused(
            f"The model cannot be stored ({type(error).__name__}: {error}); a lambda or an open file is no "
            "part of a model."
        ) from error
    _build(payload, allowed)
    return payload


def _sign(key: bytes, fixed: bytes, body: bytes | memoryview) -> bytes:
    mac = hmac.new(key, fixed, hashlib.sha256)
    mac.update(body)
    return mac.digest()


def _check_key(key: bytes) -> None:
    if len(key) < MIN_KEY:
        raise ValueError(f"The signing key has {len(key)} bytes and needs at least {MIN_KEY}.")


def dump(
    model: object,
    *,
    key: bytes,
    header: SnapshotHeader,
    allowed: Collection[tuple[str, str]] = ALLOWED,
) -> bytes:
    """The model as signed bytes.

    It is built once again from its bytes before they are returned: what is published can be loaded.

    Args:
        model: made of the allowed classes.
        key: secret, at least 32 bytes.
        header: what the bytes say of the model; `format` and `river` are those of this process.
        allowed: the classes it may be made of.

    Raises:
        ValueError: the key is too short.
        SnapshotRefused: the model holds a class that `load` would refuse, or cannot be stored.

    >>> head = SnapshotHeader(name="card", version="card@7", next_offset=7, learned=3)
    >>> blob = dump({"weights": [1.0]}, key=b"k" * 32, header=head)
    >>> load(blob, key=b"k" * 32)[1]
    {'weights': [1.0]}
    """
    _check_key(key)
    payload = _stored(model, allowed)
    head = _header_encode(msgspec.structs.replace(header, format=FORMAT, river=RIVER))
    body = head + payload
    prefix = bytearray(_PREFIX.pack(MAGIC, FORMAT, bytes(32), len(head)))
    prefix[_SIGNATURE] = _sign(key, bytes(prefix), body)
    return bytes(prefix) + body


class Verified(NamedTuple):
    """A snapshot whose signature holds; of its model nothing is built yet."""

    header: SnapshotHeader
    payload: bytes

    def model(self, allowed: Collection[tuple[str, str]] = ALLOWED) -> Any:
        """The model.

        Args:
            allowed: the classes it may be made of.

        Raises:
            SnapshotRefused: it holds another, or is damaged.
        """
        return _build(self.payload, allowed)


def load(
    blob: bytes, *, key: bytes, allowed: Collection[tuple[str, str]] = ALLOWED
) -> tuple[SnapshotHeader, Any]:
    """The header and the model: see `verified` and `Verified.model`."""
    found = verified(blob, key=key)
    return found.header, found.model(allowed)


def verified(blob: bytes, *, key: bytes) -> Verified:
    """A snapshot, if the bytes are whole, signed with this key, and of a format and a River known here.

    Args:
        blob: what `dump` returned.
        key: the one it was signed with, at least 32 bytes.

    Raises:
        ValueError: the key is too short.
        SnapshotRefused: anything else is wrong.
    """
    _check_key(key)
    if len(blob) < _PREFIX.size:
        raise SnapshotRefused(f"The snapshot is cut off: {len(blob)} bytes are too few; fetch it again.")
    magic, layout, signature, head_size = _PREFIX.unpack_from(blob)
    if magic != MAGIC:
        raise SnapshotRefused("These bytes are no snapshot: they do not begin like one.")
    if layout != FORMAT:
        # before the signature: another format may well be signed in another way
        age = "newer" if layout > FORMAT else "older"
        raise SnapshotRefused(
            f"The snapshot has format {layout}, {age} than format {FORMAT}, which this version reads; "
            "run the version that made it, or let this one publish a model of its own."
        )
    unsigned = bytearray(blob[: _PREFIX.size])
    unsigned[_SIGNATURE] = bytes(32)
    body = memoryview(blob)[_PREFIX.size :]
    if not hmac.compare_digest(signature, _sign(key, bytes(unsigned), body)):
        raise SnapshotRefused(
            "The signature does not match: the snapshot was changed, cut off, or signed with another key; "
            "check that learner and scorers have the same key."
        )
    try:
        header = _header_decoder.decode(body[:head_size])
    except msgspec.DecodeError as error:
        raise SnapshotRefused(f"The snapshot's header is not understood: {error}.") from error
    if header.river != RIVER:
        raise SnapshotRefused(
            f"The model was made with River {header.river} and here is River {RIVER}; "
            "install the same version on learner and scorers."
        )
    return Verified(header, bytes(body[head_size:]))
