"""What a card number looks like, in text and in raw bytes, and how it is hidden. It stands alone.

Found are 13 to 19 digits that pass the Luhn check (ISO/IEC 7812-1) and begin as a card brand's numbers of
that length do: written in one piece or in groups, with spaces, dashes, dots or invisible characters between
them, in any decimal digits of Unicode, with letters before and behind, and on magnetic tracks 1 and 2. Not
found are numbers that further digits adjoin, and digits inside what is a hash or a UUID by all its signs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

SHORTEST: Final = 13
LONGEST: Final = 19
FIRST_SHOWN: Final = 6
LAST_SHOWN: Final = 4

_BRANDS: Final[tuple[tuple[Iterable[int], Iterable[int]], ...]] = (
    ((4,), (13, 16, 19)),  # Visa
    ((*range(51, 56), *range(2221, 2721)), (16,)),  # Mastercard
    ((34, 37), (15,)),  # American Express
    ((*range(300, 306), 3095, 36, 38, 39), range(14, 20)),  # Diners Club
    ((6011, *range(644, 650), 65), range(16, 20)),  # Discover
    (range(3528, 3590), range(16, 20)),  # JCB
    ((62, 81), range(16, 20)),  # UnionPay
    ((5018, 5020, 5038, 5893, 6304, 67), range(13, 20)),  # Maestro
    (range(2200, 2205), range(16, 20)),  # Mir
    ((60, 82, 508, 353, 356, 5019, 506, 509, 636, 9792), (16,)),  # RuPay, Dankort, Verve, Elo, Troy
)
_LENGTHS: Final = {str(prefix): frozenset(lengths) for prefixes, lengths in _BRANDS for prefix in prefixes}
_LONGEST_PREFIX: Final = 4
_GROUPINGS: Final = frozenset(
    {(4, 6, 5), (4, 6, 4), (4, 3, 3, 3), (4, 12), (6, 10), (6, 13), (6, 6, 4), (6, 4, 6), (4, 4, 5), (8, 8)}
)
_LARGEST_GROUP: Final = 5  # of a number in equal groups
_HASHES: Final = frozenset({24, 32, 40, 48, 56, 64, 96, 128})  # hexadecimal digits of ids and digests
_FEWEST_LETTERS: Final = 3

_DIGIT, _OTHER = ord("0"), ord("x")
_CLASSES: Final = bytes(_DIGIT if chr(each).isdigit() or each > 127 else _OTHER for each in range(256))  # noqa: PLR2004
_BETWEEN: Final = b" \t\r\n\0-_/"
_LEAST_RUN: Final = b"0" * SHORTEST
_BACKSLASH: Final = ord("\\")
_DOTTED: Final = re.compile(rb"[0-9]\.[0-9]{1,8}\.[0-9]")

_REGION: Final = re.compile(r"[0-9](?:[ \t\r\n\-._/]{0,3}[0-9]){12,}")
_GROUP: Final = re.compile("[0-9]+")
_ESCAPED: Final = re.compile(r"\\u[0-9a-fA-F]{4}|.", re.DOTALL)
_TRACK_2: Final = re.compile(r"[=D][0-9]{7,}")
_TRACK_1: Final = re.compile(r"\^[^^\r\n]{2,26}\^(?=[0-9]{7,})[0-9]+")
_LEFT: Final = re.compile(r"[0-9A-Za-z-]*\Z")
_RIGHT: Final = re.compile("[0-9A-Za-z-]*")
_HEXADECIMAL: Final = re.compile("[0-9A-Fa-f]+")
_REACH: Final = 160  # characters around digits that may make a hash of them
_SPACES: Final = frozenset({"Zs", "Zl", "Zp", "Pd", "Po", "Pc"})
_INVISIBLE: Final = frozenset({"Cf", "Mn", "Me"})
_MINUS: Final = "\u2212"


def looks_like_card_number(text: bytes) -> bool:
    """13 to 19 digits that pass the Luhn check (ISO/IEC 7812-1).

    >>> looks_like_card_number(b"4111111111111111"), looks_like_card_number(b"4111111111111112")
    (True, False)
    """
    if not (SHORTEST <= len(text) <= LONGEST and text.isdigit()):
        return False
    total = 0
    for place, digit in enumerate(reversed(text)):
        value = digit - 48
        if place % 2:
            value = value * 2 - 9 if value > 4 else value * 2  # noqa: PLR2004 - the cross sum of a doubled digit
        total += value
    return total % 10 == 0


def may_show_card_number(raw: bytes) -> bool:
    """Whether a closer look is needed; for nearly every message it is not, and this costs less than 1 us.

    >>> may_show_card_number(b"2026-01-14T09:30:12.250Z"), may_show_card_number(b"4111-1111-1111-1111")
    (False, True)
    """
    if _BACKSLASH in raw:
        return True
    if _LEAST_RUN not in raw.translate(_CLASSES, b".-_/ \t\r\n\0"):
        return False
    # Nearly all that is left are decimal fractions.
    return _LEAST_RUN in raw.translate(_CLASSES, _BETWEEN) or _DOTTED.search(raw) is not None


def shows_card_number(text: str) -> bool:
    """Whether a card number stands in a text.

    >>> shows_card_number("paid by 4111 1111-1111\u00a01111."), shows_card_number("41111111-1111-1111")
    (True, False)
    """
    return bool(_hidden(text))


def masked(raw: bytes | None) -> bytes | None:
    r"""Bytes of any kind with every card number in them hidden but for its first six and last four digits.

    The length is kept. What stands behind the number on a magnetic track is hidden whole.

    >>> masked(b'{"card_id":"4111111111111111"}'), masked(b"5500 0055 5555 5559")
    (b'{"card_id":"411111******1111"}', b'5500 00** **** 5559')
    >>> masked(";4111111111111111=26121011000?".encode("utf-16-le")).decode("utf-16-le")
    ';411111******1111=***********?'
    """
    if raw is None:
        return None
    is_plain = b"\0" not in raw and _is_utf_8(raw)
    if is_plain and not may_show_card_number(raw):
        return raw
    found = _masked(raw.decode("utf-8", "surrogateescape"), lambda unit: len(unit.encode("utf-8", "replace")))
    raw = found.encode("utf-8", "surrogateescape")
    return raw if is_plain else _masked_wide(raw)


def _is_utf_8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _masked_wide(raw: bytes) -> bytes:
    """What is no UTF-8 may be UTF-16 or UTF-32, with a byte order mark or without."""
    for encoding, size in (("utf-16-le", 2), ("utf-16-be", 2), ("utf-32-le", 4), ("utf-32-be", 4)):
        even = len(raw) - len(raw) % size
        try:
            text = raw[:even].decode(encoding, "surrogatepass")
        except UnicodeDecodeError:
            continue
        units = _masked(text, lambda unit: len(unit.encode(encoding, "surrogatepass")) // size)  # noqa: B023
        raw = units.encode(encoding, "surrogatepass") + raw[even:]
    return raw


def masked_text(text: str) -> str:
    """The same of text.

    >>> masked_text("paid by 4111111111111111")
    'paid by 411111******1111'
    """
    return _masked(text, len)


def card_number_field(value: bytes, exempt: frozenset[str] = frozenset()) -> str | None:
    """The field of a JSON message that shows a card number; None where none does.

    Args:
        value: valid JSON.
        exempt: fields of the message itself that may hold digits that look like one.

    >>> card_number_field(b'{"attributes":{"note":"4111 1111 1111 1111"}}')
    'attributes.note'
    """
    if not may_show_card_number(value):
        return None
    try:
        found: list[tuple[str, Any]] = [("", msgspec.json.decode(value))]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "the message" if masked(value) != value else None
    while found:
        path, part = found.pop()
        if isinstance(part, dict):
            for name, inner in part.items():
                if shows_card_number(name):
                    return f"a name in {path}" if path else "the name of a field"
                if path or name not in exempt:
                    found.append((f"{path}.{name}" if path else name, inner))
        elif isinstance(part, list):
            found += [(path, inner) for inner in part]
        elif _text_of(part) is not None and shows_card_number(_text_of(part) or ""):
            return path or "the message"
    return None


def _text_of(part: Any) -> str | None:
    """The text, or the digits of a whole number."""
    if isinstance(part, str):
        return part
    if isinstance(part, float) and part.is_integer() and abs(part) < 10.0**LONGEST:
        part = int(part)
    return str(part) if isinstance(part, int) else None


def _masked(text: str, width: Callable[[str], int]) -> str:
    units: Sequence[str] = _ESCAPED.findall(text) if "\\u" in text else text
    hidden = _hidden(units)
    if not hidden:
        return text
    kept = list(units)
    for place in hidden:
        unit = kept[place]
        kept[place] = "\\u002a" if len(unit) > 1 else "*" * width(unit)
    return "".join(kept)


def _hidden(units: Sequence[str]) -> set[int]:
    """The places of the digits that must not be shown."""
    shape, places = _shape(units)
    hidden: set[int] = set()
    for region in _REGION.finditer(shape):
        groups = [found.span() for found in _GROUP.finditer(shape, *region.span())]
        for first in range(len(groups)):
            hidden.update(_hidden_from(shape, groups, first))
    return hidden if places is None else {places[each] for each in hidden}


def _hidden_from(shape: str, groups: Sequence[tuple[int, int]], first: int) -> list[int]:
    """What must be hidden of the numbers that begin with a group of digits."""
    hidden: list[int] = []
    digits: list[int] = []
    sizes: list[int] = []
    for start, end in groups[first:]:
        sizes.append(end - start)
        if len(digits) + sizes[-1] > LONGEST and len(sizes) > 1:
            break
        digits += range(start, end)
        number = "".join([shape[place] for place in digits]) if len(sizes) > 1 else shape[start:end]
        if len(sizes) == 1 and len(number) > SHORTEST:  # filled up with zeros in front
            digits = digits[len(number) - len(number.lstrip("0")) :]
            number = number.lstrip("0")
        if len(number) > LONGEST:
            break
        if _is_card_number(number) and _is_grouping(sizes) and not _is_hash(shape, digits[0], end):
            hidden += digits[FIRST_SHOWN:-LAST_SHOWN]
            track = _TRACK_2.match(shape, end) or _TRACK_1.match(shape, end)
            if track:
                last = _GROUP.search(shape, max(track.start(), track[0].rfind("^") + track.start()))
                hidden += range(*last.span()) if last else ()
    return hidden


def _shape(units: Sequence[str]) -> tuple[str, Sequence[int] | None]:
    """A plain character for each visible unit; and the place of each, where units are left out."""
    if isinstance(units, str) and units.isascii() and "\0" not in units:
        return units, None
    plain = {unit: _plain(unit) for unit in set(units)}
    places = [place for place, unit in enumerate(units) if plain[unit]]
    return "".join([plain[units[place]] for place in places]), places


def _plain(unit: str) -> str:
    char = chr(int(unit.removeprefix("\\u"), base=16)) if len(unit) > 1 else unit
    digit = unicodedata.digit(char, None)
    if digit is not None:
        return str(digit)
    category = unicodedata.category(char)
    if char == "\0" or category in _INVISIBLE:
        return ""
    if not char.isascii() and (category in _SPACES or char == _MINUS):
        return " "
    return char


def _is_card_number(number: str) -> bool:
    lengths = (_LENGTHS.get(number[:size], ()) for size in range(1, _LONGEST_PREFIX + 1))
    return any(len(number) in each for each in lengths) and looks_like_card_number(number.encode())


def _is_grouping(sizes: Sequence[int]) -> bool:
    """In one piece, in equal groups with a rest, or as brands print it."""
    if len(sizes) == 1 or tuple(sizes) in _GROUPINGS:
        return True
    return sizes[-1] <= sizes[0] <= _LARGEST_GROUP and set(sizes[:-1]) == {sizes[0]}


def _is_hash(shape: str, start: int, end: int) -> bool:
    """Whether digits stand in what is a UUID or a hexadecimal digest."""
    left = _LEFT.search(shape, max(0, start - _REACH), start)
    right = _RIGHT.match(shape, end, end + _REACH)
    word = f"{left[0] if left else ''}{shape[start:end]}{right[0] if right else ''}".replace("-", "")
    if len(word) not in _HASHES or not _HEXADECIMAL.fullmatch(word):
        return False
    return sum(map(str.isalpha, word)) >= _FEWEST_LETTERS
