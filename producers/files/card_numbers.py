"""Card numbers never leave in clear: they are found, and turned into keyed hashes (HMAC-SHA256, RFC 2104)."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from stream.card_numbers import looks_like_card_number as looks_alike

HASH_KEY_VARIABLE: Final = "RIVERWATCH_HASH_KEY"
_SHORTEST_KEY: Final = 16
_SEPARATORS: Final = str.maketrans("", "", " -")
_SHORTEST_NUMBER: Final = 13
_TELLING: Final = 5
_REMEMBERED: Final = 100_000


def looks_like_card_number(text: str) -> bool:
    """13 to 19 digits that pass the Luhn check (ISO/IEC 7812-1), spaces and dashes aside.

    >>> looks_like_card_number("4111 1111 1111 1111"), looks_like_card_number("4111111111111112")
    (True, False)
    """
    return len(text) >= _SHORTEST_NUMBER and looks_alike(text.translate(_SEPARATORS).encode())


def are_card_numbers(values: Iterable[str]) -> bool:
    """Whether a column holds card numbers: several different values, and each looks like one.

    One number in ten passes the check by chance, so one such value says little of a column of numbers.
    """
    different = set(values)
    return len(different) >= _TELLING and all(map(looks_like_card_number, different))


def hash_key(environ: Mapping[str, str], key_file: Path | None) -> bytes:
    """The key: from the file where one is named, else from the environment.

    Raises:
        ValueError: there is none, or it is shorter than 16 bytes.
    """
    where = HASH_KEY_VARIABLE if key_file is None else str(key_file)
    try:
        key = environ.get(where, "").encode() if key_file is None else key_file.read_bytes().strip()
    except OSError as error:
        raise ValueError(f"the hash key cannot be read from {where}: {error.strerror}") from None
    if len(key) < _SHORTEST_KEY:
        raise ValueError(f"[hash] needs a key of at least {_SHORTEST_KEY} bytes in {where}")
    return key


class KeyedHash:
    """Hashes values with a key. The same number with or without spaces or dashes has one hash."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._known: dict[str, str] = {}

    def __call__(self, value: str) -> str:
        """The hash, 64 hexadecimal digits."""
        found = self._known.get(value)
        if found is None:
            bare = value.translate(_SEPARATORS)
            number = bare if bare.isdigit() else value
            found = hmac.digest(self._key, number.encode(), "sha256").hex()
            if len(self._known) >= _REMEMBERED:
                # Cards come again and again; starting over now and then bounds the memory.
                self._known.clear()
            self._known[value] = found
        return found
