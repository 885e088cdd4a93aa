"""Faults of the log itself: what producers, operators and brokers do to the topics that riverwatch reads.

One fault is one method here and one line in a plan of `tests/faults/schedule.py`: it does it, and waits until
what it did is over; `Faults.inject` waits until every partition is decided on again. What must not count is
written so that a judge finds it if it does.
"""

from __future__ import annotations

import time
from contextlib import closing
from random import Random

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.reader import TopicReader
from stream.messages import Label, Transaction, encode
from tests.faults.schedule import Step
from tests.faults.site import PARTITIONS, Site

OPEN_FOR = 4_000  # ms after which Kafka aborts a transaction that nobody ends; it looks every ten seconds
LEFT_OPEN = "transaction left open -> Kafka has aborted it"


class LogFaults:
    """On a site under traffic, each until it is healed."""

    _site: Site

    def transactions_aborted(self, _: Step, chance: Random) -> None:
        """Ten that are aborted, and between them as many that are committed."""
        producer = self._producer(f"aborts-{chance.getrandbits(32):08x}")
        for number in range(10):
            self._begin(producer, chance, counts=False)
            producer.abort_transaction(30)
            if number % 2:
                self._begin(producer, chance, counts=True)
                producer.commit_transaction(30)
        self._site.tally.faults["aborted transactions"] += 10

    def transaction_left_open(self, _: Step, chance: Random) -> None:
        """Its producer ends without a word: what follows it waits until Kafka aborts it."""
        producer = self._producer(f"open-{chance.getrandbits(32):08x}")
        self._begin(producer, chance, counts=False)
        self._over(LEFT_OPEN)

    def producer_fenced(self, _: Step, chance: Random) -> None:
        """Its successor takes its place in the middle of a transaction, and writes one of its own."""
        name = f"fenced-{chance.getrandbits(32):08x}"
        first = self._producer(name)
        self._begin(first, chance, counts=False)
        second = self._producer(name)
        self._begin(second, chance, counts=True)
        second.commit_transaction(30)

    # ---- how

    def _producer(self, name: str) -> Producer:
        site = self._site
        producer = Producer(
            {
                **confluent(site.settings),
                "transactional.id": f"{site.settings.topic_prefix}{name}",
                "transaction.timeout.ms": OPEN_FOR,
            }
        )
        producer.init_transactions(60)
        return producer

    def _begin(self, producer: Producer, chance: Random, *, counts: bool) -> None:
        """Begin a transaction of payments on every partition, with false labels where it does not count."""
        site, traffic = self._site, self._site.traffic
        sent = max(traffic.payments, 1)
        producer.begin_transaction()
        like = traffic.shape.payment(sent)
        for number in range(chance.randrange(2, 8) * PARTITIONS):
            name = f"{'in' if counts else 'aborted'}{chance.getrandbits(32):08x}"
            payment = msgspec.structs.replace(like, transaction_id=name, card_id=f"c{chance.randrange(3000)}")
            self._produce(producer, payment, number % PARTITIONS)
        for label in traffic.shape.labels(chance.randrange(sent)):
            if not counts:
                self._produce(producer, msgspec.structs.replace(label, is_fraud=not label.is_fraud), 0)
        assert producer.flush(60) == 0
        site.tally.faults[f"transactions that {'count' if counts else 'do not count'}"] += 1

    def _produce(self, producer: Producer, item: Transaction | Label, partition: int) -> None:
        name = "transactions" if isinstance(item, Transaction) else "labels"
        key = item.card_id if isinstance(item, Transaction) else item.transaction_id
        producer.produce(
            self._site.settings.topic(name), key=key.encode(), value=encode(item), partition=partition
        )

    def _over(self, what: str) -> None:
        """Wait until no transaction is open."""
        site, client = self._site, confluent(self._site.settings)
        topic = site.settings.topic("transactions")
        with closing(
            Consumer({**client, "group.id": "fault-ends", "isolation.level": "read_uncommitted"})
        ) as consumer:
            ends = {
                number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=30)[1]
                for number in range(PARTITIONS)
            }

        def reached() -> bool:
            with TopicReader(site.settings, topic) as reader:
                return all(high >= ends[number] for number, (_, high) in reader.bounds().items())

        began = time.monotonic()
        site.until(reached, 60, "a transaction stays open")
        site.tally.recovered(what, time.monotonic() - began)
