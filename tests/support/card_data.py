"""Card numbers that brands publish for tests, in the shapes in which they get into texts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

NUMBERS: Final = (
    "4111111111111111",
    "4012888888881881",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "6011111111111117",
    "3530111333300000",
    "30569309025904",
    "6759649826438453",
    "4222222222222",
)


def _groups(number: str, between: str) -> str:
    sizes = {15: (4, 6, 5), 14: (4, 6, 4)}.get(len(number), (4, 4, 4, 4))
    parts, at = [], 0
    for size in sizes:
        parts.append(number[at : at + size])
        at += size
    return between.join(filter(None, parts))


SHAPES: Final[dict[str, Callable[[str], str]]] = {
    "plain": str,
    "dashes": lambda number: _groups(number, "-"),
    "spaces": lambda number: _groups(number, " "),
    "dots": lambda number: _groups(number, "."),
    "no-break spaces": lambda number: _groups(number, "\u00a0"),
    "thin spaces": lambda number: _groups(number, "\u2009"),
    "zero width": lambda number: _groups(number, "\u200b"),
    "spaced dashes": lambda number: _groups(number, " - "),
    "single digits": " ".join,
    "prefix": lambda number: f"PAN{number}",
    "suffix": lambda number: f"card:{number}x",
    "zeros": lambda number: f"{number:0>19}",
    "security code": lambda number: f"{number} 123",
    "full width": lambda number: "".join(chr(0xFF10 + int(digit)) for digit in number),
    "arabic": lambda number: "".join(chr(0x0660 + int(digit)) for digit in number),
    "mathematical": lambda number: "".join(chr(0x1D7CE + int(digit)) for digit in number),
    "track 1": lambda number: f"%B{number}^DOE/JOHN^26121011000012300000?",
    "track 2": lambda number: f";{number}=26121011000012300000?",
}


def traces_of(number: str, raw: bytes) -> bool:
    """Whether the digits of a number stand in bytes, in any of the shapes or with anything between them."""
    plain = raw.replace(b"\0", b"")
    if number.encode() in re.sub(rb"[^0-9A-Za-z\"',:{}()\[\]*=^]", b"", plain):
        return True
    return any(shape(number).encode() in raw for shape in SHAPES.values())
