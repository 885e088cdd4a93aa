"""SHA-256 digests of plain values: no name of a class or a module is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any


class Digest:
    """SHA-256 of parts, each under its length."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, *parts: bytes) -> None:
        for part in parts:
            self._hash.update(b"%d:%b," % (len(part), part))

    def told(self) -> str:
        return self._hash.hexdigest()


# The digests were stored when labels and counts were told in these words.
FORMER = {"duplicate": "repeat", "pending": "waiting", "duplicates": "copies"}


def plain(value: Any) -> Any:
    """Values without the names of their classes; `repr` of it says every bit of every number."""
    if isinstance(value, str):
        return FORMER.get(value, value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (tuple, list)):
        return [plain(each) for each in value]
    if isinstance(value, Mapping):
        return [[plain(key), plain(each)] for key, each in value.items()]
    return value


def digest_of(values: Iterable[Any]) -> str:
    """Of plain values."""
    digest = Digest()
    for value in values:
        digest.add(repr(plain(value)).encode())
    return digest.told()
