"""Where an interrupted replay goes on: one file, signed, written whole or not at all.

    magic 8 | Ed25519 signature 64 | msgpack of what the output is a function of, and of the state

Nothing is built from the bytes before their signature has been verified; models in them are signed snapshots.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from models.snapshots.signing import SIGNATURE_BYTES, SigningKey
from stream.replay.replay import ReplayState

_MAGIC = b"rwreplay"
_FORMAT = "2"
_NAME = "replay.checkpoint"
_HEAD = len(_MAGIC) + SIGNATURE_BYTES


class CheckpointError(Exception):
    """A checkpoint cannot be gone on with; the message is one line that says why and what to do."""


class _Kept(msgspec.Struct, frozen=True):
    identity: dict[str, str]
    state: ReplayState


class _Named(msgspec.Struct, frozen=True):
    identity: dict[str, str]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Kept).decode
_named = msgspec.msgpack.Decoder(_Named).decode


class Checkpoints:
    """The checkpoint in a folder.

    Args:
        folder: made where it is missing.
        key: signs what is written.
        identity: by name, everything the output is a function of.
    """

    def __init__(self, folder: Path, key: SigningKey, identity: dict[str, str]) -> None:
        self.path = folder / _NAME
        self._folder = folder
        self._key = key
        self._identity = identity | {"format": _FORMAT}

    def write(self, state: ReplayState) -> None:
        """Keep a state, in place of the one before.

        Raises:
            CheckpointError: the folder takes no more.
        """
        body = _encode(_Kept(self._identity, state))
        part = self.path.with_suffix(".part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(_MAGIC + self._key.sign(_MAGIC + body) + body)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
        except OSError as error:
            raise CheckpointError(f"--checkpoint {self._folder}: {error.strerror}") from error

    def read(self) -> ReplayState | None:
        """The state to go on from; None where there is none.

        Raises:
            CheckpointError: it is damaged, was signed with another key, or is of another replay.
        """
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CheckpointError(f"--checkpoint {self._folder}: {error.strerror}") from error
        body = raw[_HEAD:]
        signature = raw[len(_MAGIC) : _HEAD]
        if raw[: len(_MAGIC)] != _MAGIC or not self._key.trusted.verify(
            self._key.id, signature, _MAGIC + body
        ):
            raise CheckpointError(
                f"{self.path}: is damaged, or was signed with another model key: use that key, or delete it "
                "to begin anew"
            )
        identity = _named(body).identity
        for name in sorted(self._identity.keys() | identity.keys()):
            if self._identity.get(name) != identity.get(name):
                raise CheckpointError(
                    f"--checkpoint {self._folder}: is of another replay: `{name}` was "
                    f"{identity.get(name)} and is {self._identity.get(name)}; name another folder, or delete "
                    f"{_NAME} in it"
                )
        return _decode(body).state
