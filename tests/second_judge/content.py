"""What a decision records of its transaction's content, and card numbers, from docs/messages.md alone."""

from __future__ import annotations

import re
import struct
import unicodedata
from hashlib import blake2b
from typing import Any

_FIELDS = (
    *(
        "transaction_id",
        "event_time",
        "card_id",
        "merchant_id",
        "amount_minor",
        "currency",
        "device_id",
        "ip",
    ),
    *("country", "category", "channel", "latitude", "longitude", "attributes"),
)
_SIZES = ((b"\xcc", "B", 8), (b"\xcd", "H", 16), (b"\xce", "I", 32), (b"\xcf", "Q", 64))
_PLAIN = re.compile(r"(?<![0-9A-Za-z])[0-9]{13,19}(?![0-9A-Za-z])")
_LOOSE = re.compile(r"[0-9](?:[^0-9A-Za-z\"{}\[\]]{0,12}[0-9]){12,}")
_SURE = ("4", "51", "52", "53", "54", "55", "34", "37", "6011", "65")


def digest(fields: dict[str, Any]) -> str:
    """Of a transaction's fields, its event time in seconds since 1970.

    >>> written = b"\\x81\\xaetransaction_id\\xa1t"
    >>> digest({"transaction_id": "t"}) == blake2b(written, digest_size=16).hexdigest()
    True
    """
    present = {name: fields[name] for name in _FIELDS if fields.get(name) not in (None, {})}
    written = [_string(name) + _value(name, value) for name, value in present.items()]
    return blake2b(bytes([0x80 | len(written)]) + b"".join(written), digest_size=16).hexdigest()


def _value(name: str, value: Any) -> bytes:
    if name == "event_time":
        return _time(round(value * 1_000_000))
    if name == "attributes":
        names = sorted(value, key=str.encode)
        head = bytes([0x80 | len(names)]) if len(names) < 16 else b"\xde" + struct.pack(">H", len(names))
        return head + b"".join(_string(each) + _value("", value[each]) for each in names)
    if isinstance(value, str):
        return _string(value)
    return _integer(value) if name == "amount_minor" else b"\xcb" + struct.pack(">d", value)


def _string(text: str) -> bytes:
    raw = text.encode()
    size = len(raw)
    if size < 32:
        return bytes([0xA0 | size]) + raw
    return (b"\xd9" + bytes([size]) if size < 256 else b"\xda" + struct.pack(">H", size)) + raw


def _integer(value: int) -> bytes:
    if value < 128:
        return bytes([value])
    code, shape, _ = next(each for each in _SIZES if value < 1 << each[2])
    return code + struct.pack(">" + shape, value)


def _time(micros: int) -> bytes:
    seconds, rest = divmod(micros, 1_000_000)
    if rest == 0 and seconds < 1 << 32:
        return b"\xd6\xff" + struct.pack(">I", seconds)
    return b"\xd7\xff" + struct.pack(">Q", rest * 1000 << 34 | seconds)


def is_luhn(digits: str) -> bool:
    """Whether the check digit is right."""
    values = [int(digit) for digit in digits][::-1]
    return (sum(values[::2]) + sum(sum(divmod(2 * each, 10)) for each in values[1::2])) % 10 == 0


def surely_shows(raw: bytes | None) -> bool:
    """A card number stands there in one piece, of a length and brand that nobody doubts."""
    text = (raw or b"").decode(errors="replace")
    return any(
        len(found) == (15 if found[0] == "3" else 16) and found.startswith(_SURE) and is_luhn(found)
        for found in _PLAIN.findall(text)
    )


def may_show(raw: bytes | None) -> bool:
    """Digits stand there, together or in groups, some of which pass the check: it may be taken for one."""
    plain = (raw or b"").replace(b"\0", b"").decode(errors="replace")
    plain = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), plain)
    for region in _LOOSE.findall(unicodedata.normalize("NFKC", plain)):
        digits = re.sub("[^0-9]", "", region)
        for size in range(13, 20):
            if any(is_luhn(digits[at : at + size]) for at in range(len(digits) - size + 1)):
                return True
    return False
