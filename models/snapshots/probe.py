"""A process that builds a pickle and ends: what harms it harms nobody. `models.snapshots.pickles` asks it."""

from __future__ import annotations

import io
import pickle
import resource
import sys
from contextlib import suppress
from types import ModuleType
from typing import Any, ClassVar

from models.snapshots.pickles import Classes, class_of
from models.snapshots.refused import SnapshotRefused

MEMORY = 4 << 30  # bytes of address space; River and numpy alone take one
PROCESSOR = 60  # seconds
_MARK_OF_REFUSAL = 3


class _WatchedUnpickler(pickle._Unpickler):  # noqa: SLF001 - the one in Python: its steps can be watched
    """Builds classes known by name, and lets nothing be written into a class."""

    def __init__(self, payload: bytes, classes: Classes) -> None:
        super().__init__(io.BytesIO(payload))
        self._classes = classes

    def find_class(self, module: str, name: str) -> Any:
        """The class of that exact name."""
        return class_of(module, name, self._classes)

    def load_build(self) -> None:
        """Give an object its state: a class keeps its own, or a pickle could rewrite what opens the next."""
        if isinstance(self.stack[-2], (type, ModuleType)):  # type: ignore[attr-defined] # not in its stubs
            raise SnapshotRefused("The pickle writes into a class: it is a program, and no model.")
        super().load_build()  # type: ignore[misc] # the same

    dispatch: ClassVar[dict[int, Any]] = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build}  # noqa: SLF001 - as above


def build(payload: bytes, classes: Classes) -> Any:
    """What a pickle builds, each step watched.

    Raises:
        SnapshotRefused: it does what no model needs, or fails.
    """
    try:
        return _WatchedUnpickler(payload, classes).load()
    except SnapshotRefused:
        raise
    except Exception as error:  # a pickle can fail with anything
        raise SnapshotRefused(
            f"The model cannot be built here ({type(error).__name__}: {error}); "
            "it was made by other code: publish it again from this version."
        ) from error


def limit() -> None:
    """From here on: no file is written, no process started, and little used."""
    for what, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, PROCESSOR),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError, OSError):  # a system without this limit, or with a tighter one
            resource.setrlimit(what, (most, most))


def main(classes: list[list[str]]) -> int:
    """Build what standard input holds; says `built`, or why not."""
    payload = sys.stdin.buffer.read()
    limit()
    try:
        build(payload, {(module, name) for module, name in classes})
    except SnapshotRefused as refusal:
        sys.stdout.write(refusal.reason)
        return _MARK_OF_REFUSAL
    sys.stdout.write("built")
    return 0
