"""The arithmetic of profiles as docs/arithmetic.md publishes it, and the bytes in which Redis holds them."""

from __future__ import annotations

import struct
import zlib
from bisect import insort
from collections import Counter
from dataclasses import dataclass, field
from math import floor, ldexp, log1p, nan, sqrt
from typing import NamedTuple

from tests.second_judge.currencies import DECIMALS

HOUR, DAY = 3_600.0, 86_400.0
HALF_LIVES = (HOUR, DAY, 7 * DAY, 30 * DAY)
KEPT = {"card": 10, "merchant": 0, "device": 10}
"""Events remembered one by one, by kind of entity."""
WEEK, WEEKS = 604_800, 26  # a week's seconds, and how many weeks back frauds are counted
LATEST = 32  # labelled transactions remembered one by one
BLOCK = 12  # half-lives whose labels are summed together
UNIT = 1 << 16  # what an event at the beginning of a block weighs


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
    """What a label says of a transaction to each of its entities; `time` is the transaction's own."""

    transaction: str
    time: float
    is_fraud: bool
    corrects: bool


@dataclass
class LabelBlocks:
    """What frauds and genuine weigh under one half-life, in each block of twelve; none is forgotten."""

    half_life: float
    frauds: Counter[int] = field(default_factory=Counter)
    genuine: Counter[int] = field(default_factory=Counter)
    block: int | None = None

    def add(self, known: LabelDelta) -> None:
        """Take in a label."""
        exponent, mantissa = weight(known.time, self.half_life)
        block, halvings = divmod(exponent, BLOCK)
        weighs = floor(mantissa * UNIT + 0.5) << halvings
        this, other = (self.frauds, self.genuine) if known.is_fraud else (self.genuine, self.frauds)
        this[block] += weighs
        if known.corrects:
            other[block] -= weighs
        self.block = block if self.block is None else max(self.block, block)

    def kept(self) -> list[int]:
        """The latest block, and what Redis holds of it and of the one before."""
        block = self.block or 0
        return [
            block,
            self.frauds[block],
            self.genuine[block],
            self.frauds[block - 1],
            self.genuine[block - 1],
        ]

    def sums(self) -> tuple[float, float]:
        """Frauds and genuine in units of 2 ** scale."""
        _, frauds, genuine, frauds_before, genuine_before = self.kept()
        return (
            (frauds + frauds_before * 2.0**-BLOCK) / UNIT,
            (genuine + genuine_before * 2.0**-BLOCK) / UNIT,
        )

    def at(self, time: float) -> float:
        """As `Sums.at`."""
        return _factor((self.block or 0) * BLOCK, time, self.half_life)


@dataclass
class LabelProfile:
    """What the labels of an entity amount to: its labelled transactions, each with its latest label."""

    updates: int = 0
    frauds: int = 0
    genuine: int = 0
    labelled: dict[tuple[float, int], bool] = field(default_factory=dict)
    order: list[tuple[float, int]] = field(default_factory=list)
    weeks: dict[int, tuple[int, int]] = field(default_factory=dict)
    blocks: list[LabelBlocks] = field(default_factory=lambda: [LabelBlocks(each) for each in HALF_LIVES])

    def add(self, known: LabelDelta) -> None:
        """Take in a label."""
        for blocks in self.blocks:
            blocks.add(known)
        self.frauds += 1 if known.is_fraud else -known.corrects
        self.genuine += -known.corrects if known.is_fraud else 1
        place = known.time, zlib.crc32(known.transaction.encode()) & ~1
        if place not in self.labelled:
            insort(self.order, place)
        self.labelled[place] = known.is_fraud
        week, seconds = divmod(floor(known.time), WEEK)
        more = 1 if known.is_fraud else -known.corrects
        count, total = self.weeks.get(week, (0, 0))
        self.weeks[week] = count + more, total + more * seconds
        self.updates += 1

    def fraud_weeks(self) -> list[tuple[int, int, int]]:
        """The weeks of the last half year with frauds, the latest first: number, frauds, their seconds."""
        latest = floor(self.order[-1][0]) // WEEK if self.order else 0
        found = (
            (week, *self.weeks[week]) for week in range(latest, latest - WEEKS, -1) if week in self.weeks
        )
        return [each for each in found if each[1]]

    def latest(self) -> list[tuple[float, int, bool]]:
        """Time, digest and label of the latest transactions, the latest first."""
        return [(*place, self.labelled[place]) for place in self.order[: -LATEST - 1 : -1]]

    def packed(self) -> bytes:
        """As Redis holds it."""
        latest, weeks = self.latest(), self.fraud_weeks()
        numbers: list[float] = [self.updates, self.frauds, self.genuine]
        for blocks in self.blocks:
            numbers += blocks.kept()
        numbers += [number for each in weeks for number in each]
        numbers += [time for time, _, _ in latest]
        codes = [number + is_fraud for _, number, is_fraud in latest]
        return bytes([len(latest), len(weeks)]) + struct.pack(
            f"<{len(numbers)}d{len(codes)}I", *numbers, *codes
        )
