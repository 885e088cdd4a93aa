"""What a profile remembers of each recent event, packed so that features are read without unpacking all.

Layout: 36 bytes (time, amount in minor units, latitude, longitude; digests of card, device, merchant), then
merchant, a zero byte, country. The store never looks inside.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

from models.features.payment import Payment

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int to Python; compiled, it is a number of the machine

_HEAD: Final = struct.Struct("<dQffIII")  # HEAD bytes
HEAD: Final = 36
CARD: Final = 24  # where the digest of the card begins, of four bytes
DEVICE: Final = 28  # that of the device
MERCHANT: Final = 32  # and that of the merchant
MERCHANT_BYTES: Final = 96
COUNTRY_BYTES: Final = 32


class RecentEvent(NamedTuple):
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


def digest_at(recent_event: bytes, place: i64) -> i64:
    """The digest that a packed event has at `CARD`, `DEVICE` or `MERCHANT`."""
    return (
        recent_event[place]
        | recent_event[place + 1] << 8
        | recent_event[place + 2] << 16
        | recent_event[place + 3] << 24
    )


def pack_recent_event(payment: Payment, time: float) -> bytes:
    """At most 165 bytes of a payment at a time (seconds)."""
    latitude, longitude = payment.latitude, payment.longitude
    if latitude is None or longitude is None:
        latitude = longitude = math.nan
    merchant, country = payment.merchant_id, payment.country
    head = _HEAD.pack(
        time,
        payment.amount_minor,
        latitude,
        longitude,
        digest(payment.card_id),
        digest(payment.device_id),
        digest(merchant),
    )
    name = merchant.encode()[:MERCHANT_BYTES].replace(b"\0", b" ")
    return head + name + b"\0" + (country.encode()[:COUNTRY_BYTES] if country else b"")


def parse_recent_event(recent_event: bytes) -> RecentEvent:
    """The event that was packed."""
    time, amount_minor, latitude, longitude, _, _, _ = _HEAD.unpack_from(recent_event)
    merchant, _, country = recent_event[HEAD:].partition(b"\0")
    names = merchant.decode(errors="ignore"), country.decode(errors="ignore")
    return RecentEvent(time, amount_minor, *names, latitude, longitude)
