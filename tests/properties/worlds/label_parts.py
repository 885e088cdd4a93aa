"""What a world of labels is made of: a model that tells what it learned, and a store whose calls get lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from stream.adapters.memory.store import MemoryStore
from stream.ports import DependencyDown, LabelUpdate


class Crash(Exception):  # noqa: N818 - it is what happens, not an error
    """The process is gone."""


class Notebook:
    """A model that writes down what it learns."""

    def __init__(self) -> None:
        self.examples: list[tuple[float, bool]] = []

    def learn_one(self, x: dict[str, float], y: bool) -> None:
        self.examples.append((x["amount"], y))

    def bits(self) -> str:
        return repr(self.examples)


class Snapshot(NamedTuple):
    model: Any
    next_offset: int
    learned: int


class Labels(MemoryStore):
    """The store in memory, whose next call may be lost before or after it has its effect."""

    fault: tuple[str, str] | None = None

    def _lost(self, name: str, when: str) -> None:
        if self.fault == (name, when):
            self.fault = None
            raise DependencyDown(name)

    def apply_labels(self, labels: Sequence[LabelUpdate], *, learned: int, passed: int = -1) -> Any:
        self._lost("apply_labels", "before")
        found = super().apply_labels(labels, learned=learned, passed=passed)
        self._lost("apply_labels", "after")
        return found

    def remove_pending(self, entries: Sequence[tuple[str, bytes]]) -> None:
        self._lost("remove_pending", "before")
        super().remove_pending(entries)
        self._lost("remove_pending", "after")

    def decisions(self, transaction_ids: Sequence[str]) -> list[bytes | None]:
        self._lost("decisions", "before")
        return super().decisions(transaction_ids)
