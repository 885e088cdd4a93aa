"""Notes: what a profile remembers of one event, packed so that features can be read without unpacking all.

Layout: 32 bytes (time, amount in minor units, latitude, longitude, digests of card and device), then
merchant, a zero byte, country. The store never looks inside.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Final, NamedTuple

from models.payment import Payment

_HEAD: Final = struct.Struct("<dQffII")  # HEAD bytes
HEAD: Final = 32
CARD: Final = 24  # where the digest of the card begins, of four bytes
DEVICE: Final = 28  # and that of the device
MERCHANT_BYTES: Final = 96
COUNTRY_BYTES: Final = 32
NO_DIGEST: Final = b"\0\0\0\0"


class Note(NamedTuple):
    """One earlier event.

    Attributes:
        time: seconds since 1970.
        amount_minor: in minor units of its currency.
        merchant_id: cut to 96 bytes of UTF-8.
        country: empty where unknown.
        latitude, longitude: NaN where unknown.
    """

    time: float
    amount_minor: int
    merchant_id: str
    country: str
    latitude: float
    longitude: float


def digest(text: str | None) -> int:
    """A stable 32-bit digest, > 0; 0 for nothing."""
    return zlib.crc32(text.encode()) or 1 if text else 0


def merchant_tag(merchant_id: str) -> bytes:
    """What a note of this merchant has at `HEAD`."""
    return merchant_id.encode()[:MERCHANT_BYTES].replace(b"\0", b" ") + b"\0"


def pack_note(payment: Payment, time: float) -> bytes:
    """A note of at most 161 bytes of a payment at a time (seconds)."""
    latitude, longitude = payment.latitude, payment.longitude
    if latitude is None or longitude is None:
        latitude = longitude = math.nan
    head = _HEAD.pack(
        time, payment.amount_minor, latitude, longitude, digest(payment.card_id), digest(payment.device_id)
    )
    country = payment.country
    return head + merchant_tag(payment.merchant_id) + (country.encode()[:COUNTRY_BYTES] if country else b"")


def parse_note(note: bytes) -> Note:
    """The event behind a note."""
    time, amount_minor, latitude, longitude, _, _ = _HEAD.unpack_from(note)
    merchant, _, country = note[HEAD:].partition(b"\0")
    names = merchant.decode(errors="ignore"), country.decode(errors="ignore")
    return Note(time, amount_minor, *names, latitude, longitude)
