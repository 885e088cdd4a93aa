"""Steady traffic of a fault run: payments and what becomes known of them, the same for the same seed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, Producer

from producers.publish.publish import PUBLISHING
from stream.adapters.kafka.client import MAX_MESSAGE, confluent
from stream.config.settings import Settings
from stream.messages import Label, Transaction, encode

DAY = 86_400.0
SPAN = 12 * DAY  # event time of a whole run: twice the maturity horizon, and more
_EARLY = 300  # events that an early label is ahead of its payment
_TICK = 0.02


class Shape(NamedTuple):
    """What a run's traffic looks like.

    Attributes:
        seed: the same seed gives the same payments and labels.
        events: how many the span of event time is made for.
        start: the first event's time.
        early: whether some labels come before their payments.
    """

    seed: int
    events: int
    start: datetime
    cards: int = 3000
    merchants: int = 300
    early: bool = True

    @property
    def delay(self) -> int:
        """Events between a payment and its label."""
        return max(self.events // 10, 400)

    def chance(self, number: int, what: int) -> int:
        """0 to 9999, the same for a number and a purpose."""
        mixed = (number * 0x9E3779B1 + what * 0x85EBCA6B + self.seed * 0xC2B2AE35) & 0xFFFFFFFF
        mixed = ((mixed ^ mixed >> 15) * 0x2C1B3C6D) & 0xFFFFFFFF
        mixed = ((mixed ^ mixed >> 12) * 0x297A2D39) & 0xFFFFFFFF
        return (mixed ^ mixed >> 15) % 10_000

    def time(self, number: int) -> datetime:
        """In order but for half an hour; one in 500 is three weeks late."""
        late = 20 * DAY if self.chance(number, 1) < 20 else self.chance(number, 2) / 10_000 * 1800
        return self.start + timedelta(seconds=number * SPAN / self.events - late)

    def payment(self, number: int, *, hot: bool = False) -> Transaction:
        """The payment of a number; `hot`: half of them are one card's."""
        card = self.chance(number, 3) % self.cards
        return Transaction(
            transaction_id=f"t{number}",
            event_time=self.time(number),
            card_id="hot" if hot and number % 2 else f"c{card}",
            merchant_id=f"m{self.chance(number, 4) % self.merchants}",
            amount_minor=100 + self.chance(number, 5) ** 2 // 500,
            currency="EUR",
            country=("DE", "FR", "US")[number % 3],
            channel=("online", "pos")[number % 2],
        )

    def labels(self, number: int) -> Iterator[Label]:
        """What becomes known when this payment is made: of earlier ones, and too early of later ones."""
        known, early = number - self.delay, number + _EARLY
        if known >= 0 and self.chance(known, 6) < 1000:
            yield from self._told(known, "analyst")
        if self.early and self.chance(early, 6) < 1000 and self.chance(early, 8) < 500:
            yield from self._told(early, "customer")

    def _told(self, number: int, source: str) -> Iterator[Label]:
        fraud = self.chance(number, 7) < 1500
        first = self.time(number) + timedelta(hours=6)
        name, how = f"t{number}", self.chance(number, 9)
        yield Label(transaction_id=name, is_fraud=fraud, known_at=first, source=source)
        if how < 500:  # twice
            yield Label(transaction_id=name, is_fraud=fraud, known_at=first, source=source)
        elif how < 1000:  # contradicted by what was known before
            known = first - timedelta(hours=2)
            yield Label(transaction_id=name, is_fraud=not fraud, known_at=known, source="other")
        elif how < 1500:  # corrected
            known = first + timedelta(hours=2)
            yield Label(transaction_id=name, is_fraud=not fraud, known_at=known, source="chargeback")
        elif how < 1900:  # of a payment that nobody made
            yield Label(transaction_id=f"nobody{number}", is_fraud=fraud, known_at=first, source=source)


class Traffic:
    """Produces in a thread of its own, at a steady rate, and no faster than the workers follow.

    Args:
        settings: where to.
        shape: what.
        rate: events a second.
        decided: how many of the payments sent here are decided, as far as is known.
        most_behind: it waits while more than so many are not.
    """

    def __init__(
        self, settings: Settings, shape: Shape, *, rate: float, decided: Callable[[], int], most_behind: int
    ) -> None:
        self._settings = settings
        self.shape = shape
        self._decided = decided
        self._producer = Producer(
            {
                **confluent(settings),
                **PUBLISHING,
                "delivery.timeout.ms": 300_000,
                "message.max.bytes": MAX_MESSAGE,
                "reconnect.backoff.max.ms": 200,
            }
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self.rate = rate
        self.most_behind = most_behind
        self.hot = False
        self.payments = self.labels = 0
        self.odd = 0
        self.failed: list[str] = []

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait until everything is durable."""
        self._ended.set()
        self._thread.join()
        while self._producer.flush(5):
            if self.failed:
                break

    def send(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        """One message more."""
        while True:
            try:
                self._producer.produce(
                    self._settings.topic(topic), key=key, value=value, on_delivery=self._delivered
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                self._producer.poll(0)
                return

    def _delivered(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self.failed.append(f"{message.topic()}: {error.str()}")

    def _run(self) -> None:
        due = 0.0
        before = time.monotonic()
        while not self._ended.wait(_TICK):
            now = time.monotonic()
            due = min(due + (now - before) * self.rate, 10 * self.rate * _TICK)
            before = now
            while due >= 1 and not self._ended.is_set():
                if self.payments - self._decided() > self.most_behind:
                    due = 0.0
                    break
                self._one()
                due -= 1

    def _one(self) -> None:
        payment = self.shape.payment(self.payments, hot=self.hot)
        self.send("transactions", payment.card_id.encode(), encode(payment))
        for label in self.shape.labels(self.payments):
            self.send("labels", label.transaction_id.encode(), encode(label))
            self.labels += 1
        self.payments += 1


def shape_of(seed: int, events: int, *, early: bool = True) -> Shape:
    """A shape whose event time ends a day ago."""
    return Shape(seed, events, datetime.now(UTC) - timedelta(seconds=SPAN + DAY), early=early)
