"""The arithmetic of profiles as docs/arithmetic.md publishes it, and the bytes in which Redis holds them."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from math import floor, ldexp, log1p, nan, sqrt
from typing import NamedTuple

from tests.second_judge.currencies import DECIMALS

HOUR, DAY = 3_600.0, 86_400.0
HALF_LIVES = (HOUR, DAY, 7 * DAY, 30 * DAY)
KEPT = {"card": 10, "merchant": 0, "device": 10}
"""Events remembered one by one, by kind of entity."""
HISTORY = 5  # labels remembered one by one


class Payment(NamedTuple):
    """What the arithmetic needs of a valid transaction; `time` is seconds since 1970."""

    time: float
    amount_minor: int
    currency: str
    card: str
    merchant: str
    device: str | None
    country: str | None
    category: str | None
    channel: str | None
    latitude: float | None
    longitude: float | None

    @property
    def amount(self) -> float:
        """In major units."""
        return float(self.amount_minor / 10 ** DECIMALS[self.currency])

    def entities(self) -> dict[str, str]:
        """Kind and key of each entity that it updates."""
        keys = {"card": self.card, "merchant": self.merchant, "device": self.device}
        return {kind: key for kind, key in keys.items() if key}


def weight(time: float, half_life: float) -> tuple[int, float]:
    """2 ** (time / half_life) as exponent and mantissa.

    >>> weight(5.0, 2.0)
    (2, 1.4142135623730951)
    """
    halvings = time / half_life
    exponent = floor(halvings)
    return exponent, 2.0 ** (halvings - exponent)


def digest(text: str | None) -> int:
    """CRC-32 of a text, never 0; 0 for none."""
    return (zlib.crc32(text.encode()) or 1) if text else 0


class RecentEvent(NamedTuple):
    """One remembered event."""

    time: float
    amount_minor: int
    latitude: float
    longitude: float
    card: int
    device: int
    merchant: int
    merchant_id: bytes
    country: bytes

    @classmethod
    def of(cls, payment: Payment) -> RecentEvent:
        """What is remembered of a payment; coordinates are kept in single precision."""
        place = (payment.latitude, payment.longitude)
        latitude, longitude = nan, nan
        if None not in place:
            latitude, longitude = struct.unpack("<ff", struct.pack("<ff", *place))
        return cls(
            payment.time,
            payment.amount_minor,
            latitude,
            longitude,
            digest(payment.card),
            digest(payment.device),
            digest(payment.merchant),
            payment.merchant.encode()[:96].replace(b"\0", b" "),
            (payment.country or "").encode()[:32],
        )

    def packed(self) -> bytes:
        """As Redis holds it."""
        return struct.pack("<dQffIII", *self[:7]) + self.merchant_id + b"\0" + self.country


@dataclass
class Sums:
    """Decayed sums under one half-life, all in units of 2 ** scale."""

    scale: int = 0
    count: float = 0.0
    amounts: float = 0.0
    logs: float = 0.0
    squares: float = 0.0
    outliers: float = 0.0

    def norm(self) -> tuple[float, float]:
        """Mean and deviation of the log-amounts, the deviation at least 0.1."""
        mean = self.logs / self.count
        variance = self.squares / self.count - mean * mean
        return mean, sqrt(variance) if variance >= 0.1 * 0.1 else 0.1

    def add(self, exponent: int, mantissa: float, amount: float, log_amount: float) -> None:
        """Take in an event that weighs mantissa * 2 ** exponent."""
        if exponent > self.scale:
            shift = self.scale - exponent
            self.count = ldexp(self.count, shift)
            self.amounts = ldexp(self.amounts, shift)
            self.logs = ldexp(self.logs, shift)
            self.squares = ldexp(self.squares, shift)
            self.outliers = ldexp(self.outliers, shift)
            self.scale = exponent
        weighs = ldexp(mantissa, exponent - self.scale)
        if self.count / mantissa >= 3.0:
            mean, deviation = self.norm()
            if log_amount > mean + 2.0 * deviation:
                self.outliers += weighs
            log_amount = min(max(log_amount, mean - 3.0 * deviation), mean + 3.0 * deviation)
        weighted = weighs * log_amount
        self.count += weighs
        self.amounts += weighs * amount
        self.logs += weighted
        self.squares += weighted * log_amount

    def at(self, time: float, half_life: float) -> float:
        """What makes the sums what they are at a moment; one before them reads them as they are."""
        return _factor(self.scale, time, half_life)


def _factor(scale: int, time: float, half_life: float) -> float:
    exponent, mantissa = weight(time, half_life)
    return ldexp(1.0 / mantissa, min(scale - exponent, 0))


@dataclass
class Profile:
    """What the events of an entity amount to."""

    updates: int = 0
    first: float = 0.0
    last: float = 0.0
    sums: list[Sums] = field(default_factory=lambda: [Sums() for _ in HALF_LIVES])
    recent_events: list[RecentEvent] = field(default_factory=list)

    def add(self, payment: Payment, max_recent: int) -> None:
        """Take in an event."""
        amount = payment.amount
        for half_life, sums in zip(HALF_LIVES, self.sums, strict=True):
            exponent, mantissa = weight(payment.time, half_life)
            if not self.updates:
                sums.scale = exponent
            sums.add(exponent, mantissa, amount, log1p(amount))
        self.first = min(self.first, payment.time) if self.updates else payment.time
        self.last = max(self.last, payment.time) if self.updates else payment.time
        if max_recent:
            self.recent_events = [RecentEvent.of(payment), *self.recent_events[: max_recent - 1]]
        self.updates += 1

    def packed(self) -> bytes:
        """As Redis holds it."""
        recent_events = [recent_event.packed() for recent_event in self.recent_events]
        numbers = [float(self.updates), self.first, self.last]
        for each in self.sums:
            numbers += [each.scale, each.count, each.amounts, each.logs, each.squares, each.outliers]
        head = bytes([len(recent_events), *map(len, recent_events)])
        return head + struct.pack(f"<{len(numbers)}d", *numbers) + b"".join(recent_events)


class LabelDelta(NamedTuple):
    """What a label adds to each entity of its transaction; `time` is the transaction's own."""

    time: float
    is_fraud: bool
    corrects: bool


@dataclass
class LabelSums:
    """Decayed counts of labels under one half-life, in units of 2 ** scale."""

    scale: int = 0
    frauds: float = 0.0
    genuine: float = 0.0

    def add(self, exponent: int, mantissa: float, *, is_fraud: bool, corrects: bool) -> None:
        """Take in a label whose transaction weighs mantissa * 2 ** exponent."""
        if exponent > self.scale:
            shift = self.scale - exponent
            self.frauds, self.genuine = ldexp(self.frauds, shift), ldexp(self.genuine, shift)
            self.scale = exponent
        weighs = ldexp(mantissa, exponent - self.scale)
        taken = weighs if corrects else 0.0
        more, less = (weighs, -taken) if is_fraud else (-taken, weighs)
        self.frauds, self.genuine = max(self.frauds + more, 0.0), max(self.genuine + less, 0.0)

    def at(self, time: float, half_life: float) -> float:
        """As `Sums.at`."""
        return _factor(self.scale, time, half_life)


@dataclass
class LabelProfile:
    """What the labels of an entity amount to."""

    updates: int = 0
    frauds: int = 0
    genuine: int = 0
    first_fraud: float = 0.0
    last_fraud: float = 0.0
    last_genuine: float = 0.0
    run: int = 0
    run_since: float = 0.0
    history: list[bool] = field(default_factory=list)
    sums: list[LabelSums] = field(default_factory=lambda: [LabelSums() for _ in HALF_LIVES])

    def add(self, known: LabelDelta) -> None:
        """Take in a label."""
        time, is_fraud, corrects = known
        for half_life, sums in zip(HALF_LIVES, self.sums, strict=True):
            exponent, mantissa = weight(time, half_life)
            if not self.updates:
                sums.scale = exponent
            sums.add(exponent, mantissa, is_fraud=is_fraud, corrects=corrects)
        if is_fraud:
            self.frauds, self.genuine = self.frauds + 1, self.genuine - corrects
            self.first_fraud = min(self.first_fraud or time, time)
            self.last_fraud = max(self.last_fraud, time)
            self.run_since = min(self.run_since, time) if self.run else time
            self.run += 1
        else:
            self.frauds, self.genuine = self.frauds - corrects, self.genuine + 1
            self.last_genuine = max(self.last_genuine, time)
            self.run, self.run_since = 0, 0.0
        self.history = [is_fraud, *self.history[: HISTORY - 1]]
        self.updates += 1

    def packed(self) -> bytes:
        """As Redis holds it."""
        numbers: list[float] = [self.updates, self.frauds, self.genuine]
        numbers += [self.first_fraud, self.last_fraud, self.last_genuine, self.run, self.run_since]
        for each in self.sums:
            numbers += [each.scale, each.frauds, each.genuine]
        head = bytes([len(self.history), *self.history])
        return head + struct.pack(f"<{len(numbers)}d", *numbers)
