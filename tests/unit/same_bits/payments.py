"""Payments and labels for digests: made here alone, and always the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

START: Final = datetime(2026, 1, 5, tzinfo=UTC)
CURRENCIES: Final = ("EUR", "EUR", "EUR", "USD", "JPY", "BHD")
COUNTRIES: Final = ("DE", "FR", "US", "BR", None)
CATEGORIES: Final = ("grocery", "travel", "games", "fuel", "jewelry", None)
CHANNELS: Final = ("pos", "online", None)


class Paid(NamedTuple):
    """A payment, and when it became known whether it was fraud (None: never)."""

    fields: dict[str, Any]
    time: datetime
    is_fraud: bool
    known_at: datetime | None
    source: str


def paid(seed: int, count: int) -> Iterator[Paid]:
    """Payments of 60 days by the time of their arrival; cards are stolen for a day, and some are late.

    Only `random()` and whole numbers: the same on every machine and in every Python.
    """
    chance = Random(seed)

    def below(limit: int) -> int:
        return int(chance.random() * limit)

    cards, shops = max(count // 40, 20), max(count // 200, 8)
    stolen: dict[int, float] = {}
    step = 60 * 86_400_000 // count
    for number in range(count):
        ms = number * step + below(step)
        if chance.random() < 0.002:
            stolen[below(cards)] = ms + 86_400_000
        card = below(cards) if chance.random() < 0.8 else below(max(cards // 20, 1))
        thieves = [each for each, until in stolen.items() if until > ms]
        if thieves and chance.random() < 0.03:
            card = thieves[below(len(thieves))]
        is_fraud = stolen.get(card, 0.0) > ms and chance.random() < 0.7
        shop = below(shops // 4 if is_fraud else shops)
        scale = 90_000 if is_fraud else 9_000 + 900 * (card % 7)
        size = chance.random()
        time = START + timedelta(milliseconds=ms - (below(7_200_000) if chance.random() < 0.02 else 0))
        fields: dict[str, Any] = {
            "transaction_id": f"t{number}",
            "event_time": time.isoformat(),
            "card_id": f"c{card}",
            "merchant_id": f"m{shop}",
            "amount_minor": 1 + int(scale * size * size * size),
            "currency": CURRENCIES[card % len(CURRENCIES)],
            "device_id": None if card % 9 == 0 else f"d{below(cards) if is_fraud else card // 2}",
            "country": COUNTRIES[below(5) if is_fraud else card % 5],
            "category": CATEGORIES[(shop + (below(6) if chance.random() < 0.1 else 0)) % 6],
            "channel": CHANNELS[1 if is_fraud else below(3)],
        }
        if card % 4:
            far = below(16_000) / 100 - 80 if is_fraud else card % 60
            fields |= {"latitude": far + below(100) / 128, "longitude": shop % 170 - below(100) / 128}
        delay = None
        if is_fraud and chance.random() < 0.9:
            delay, source = 86_400 + below(5 * 86_400), "chargeback"
        elif not is_fraud and chance.random() < 0.4:
            delay, source = 6 * 86_400, "analyst" if chance.random() < 0.1 else "maturity"
        known = None if delay is None else START + timedelta(milliseconds=ms, seconds=delay)
        yield Paid(
            {k: v for k, v in fields.items() if v is not None}, time, is_fraud, known, source if delay else ""
        )


def wire(fields: Mapping[str, Any]) -> bytes:
    """A message as it stands on the wire."""
    return json.dumps(fields, separators=(",", ":")).encode()


class Arrived(NamedTuple):
    """A payment (or something else in its place) in `transactions`, or a label in `labels`."""

    at: datetime
    key: bytes
    value: bytes
    is_label: bool


class LabelState:
    """Labels on their way."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._coming: list[tuple[datetime, int, Arrived]] = []
        self._told = 0

    def tell(self, payment: Paid) -> None:
        """Send what is known of a payment; some change their mind, or say it twice, or mean another one."""
        if payment.known_at is None:
            return
        name = payment.fields["transaction_id"]
        self._send(name, payment.known_at, payment.source, is_fraud=payment.is_fraud)
        if self._chance.random() < 0.03:
            later = payment.known_at + timedelta(hours=int(self._chance.random() * 60) - 12)
            other = self._chance.random() < 0.7
            self._send(name, later, "customer", is_fraud=payment.is_fraud ^ other)
        if self._chance.random() < 0.002:
            self._send(f"nobody-{name}", payment.known_at, "customer", is_fraud=True)

    def _send(self, name: str, at: datetime, source: str, *, is_fraud: bool) -> None:
        self._told += 1
        told = {"transaction_id": name, "is_fraud": is_fraud, "known_at": at.isoformat(), "source": source}
        heappush(self._coming, (at, self._told, Arrived(at, name.encode(), wire(told), is_label=True)))

    def until(self, now: datetime) -> Iterator[Arrived]:
        """Those that came."""
        while self._coming and self._coming[0][0] <= now:
            yield heappop(self._coming)[2]


def broken(luck: float, now: datetime, fields: Mapping[str, Any]) -> Arrived | None:
    """Something that cannot be processed in the place of a payment, if one is so unlucky."""
    key = fields["card_id"].encode()
    if luck < 0.002:
        number = "4111111111111111"  # an issuer's test number
        return Arrived(now, number.encode(), wire({**fields, "card_id": number}), is_label=False)
    if luck < 0.004:
        return Arrived(now, key, wire(fields)[:-7], is_label=False)
    if luck < 0.006:
        return Arrived(now, b"other", wire(fields), is_label=False)
    if luck < 0.007:
        return Arrived(now, key, wire({**fields, "currency": "QQQ"}), is_label=False)
    if luck < 0.008:
        return Arrived(now - timedelta(hours=2), key, wire(fields), is_label=False)
    return None


def arrivals(seed: int, count: int) -> Iterator[Arrived]:
    """What a worker meets: payments, some twice, some that cannot be processed, and labels as they are."""
    chance = Random(seed + 1)
    labels = LabelState(chance)
    sent: list[Arrived] = []
    for payment in paid(seed, count):
        now = payment.time
        yield from labels.until(now)
        luck = chance.random()
        found = broken(luck, now, payment.fields)
        if found is not None:
            yield found
            continue
        sent.append(Arrived(now, payment.fields["card_id"].encode(), wire(payment.fields), is_label=False))
        yield sent[-1]
        if luck < 0.018:  # again, at once or much later
            again = sent[-1] if luck < 0.013 else sent[int(chance.random() * len(sent))]
            yield again._replace(at=now)
        labels.tell(payment)


def write_csv(path: Path, seed: int, count: int) -> Path:
    """The payments as a file, and beside it what its columns mean; returns the latter."""
    names = (
        "transaction_id", "event_time", "card_id", "merchant_id", "amount_minor", "currency", "device_id",
        "country", "category", "channel", "latitude", "longitude",
    )  # fmt: skip
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join((*names, "is_fraud")) + "\n")
        for payment in paid(seed, count):
            row = [str(payment.fields.get(name, "")) for name in names]
            file.write(",".join((*row, str(int(payment.is_fraud)))) + "\n")
    columns = "".join(f'{name} = "{name}"\n' for name in (*names, "is_fraud"))
    mapping = path.with_suffix(".toml")
    mapping.write_text(
        f'[columns]\n{columns}[labels]\ndelay = "3d"\ngenuine = true\n[times]\nwindow = "3h"\n',
        encoding="utf-8",
    )
    return mapping
