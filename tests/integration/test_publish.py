"""Publishing to a real broker: keys, order, failures, and the pace of real consumer groups."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from itertools import islice
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from producers.publish.followers import KafkaFollowers, PublishError
from producers.publish.pace import Follow, Follower, Item, Unpaced
from producers.publish.publish import PUBLISHING, PublishProgress, PublishTopics, publish
from producers.simulator.simulate import DEMO, simulate
from stream.messages import Label, Transaction, label_decoder, transaction_decoder
from tests.support.patience import PATIENCE
from tests.support.services import KafkaUnderTest, MakeTopics, Unique

PARTITIONS = 4


class _Taken(NamedTuple):
    partition: int
    key: bytes
    value: bytes


def _producer(kafka: KafkaUnderTest, **more: Any) -> Producer:
    return Producer({"bootstrap.servers": kafka.bootstrap, **PUBLISHING, **more})


def _topics(make_topics: MakeTopics, unique: Unique) -> PublishTopics:
    topics = PublishTopics(unique("transactions"), unique("labels"))
    make_topics({topics.transactions: PARTITIONS, topics.labels: 1})
    return topics


def _take(kafka: KafkaUnderTest, topic: str, partitions: int, count: int) -> list[_Taken]:
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": "reader", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    taken: list[_Taken] = []
    until = time.monotonic() + PATIENCE
    while len(taken) < count and time.monotonic() < until:
        taken += [
            _Taken(message.partition() or 0, message.key() or b"", message.value() or b"")
            for message in consumer.consume(500, timeout=0.5)
            if message.error() is None
        ]
    consumer.close()
    return taken


def test_everything_arrives_once_in_order_under_its_key(
    kafka: KafkaUnderTest, make_topics: MakeTopics, unique: Unique
) -> None:
    topics = _topics(make_topics, unique)
    items = list(islice(simulate(DEMO, seed=7), 5_000))
    told: list[PublishProgress] = []
    summary = publish(items, producer=_producer(kafka), pace=Unpaced(), topics=topics, progress=told.append)

    transactions = [item for item in items if isinstance(item, Transaction)]
    labels = [item for item in items if isinstance(item, Label)]
    assert (summary.transactions, summary.labels) == (len(transactions), len(labels))
    taken = _take(kafka, topics.transactions, PARTITIONS, len(transactions))
    by_card: dict[str, list[Transaction]] = defaultdict(list)
    partition_of: dict[str, set[int]] = defaultdict(set)
    for each in taken:
        transaction = transaction_decoder.decode(each.value)
        assert each.key == transaction.card_id.encode()
        by_card[transaction.card_id].append(transaction)
        partition_of[transaction.card_id].add(each.partition)
    expected: dict[str, list[Transaction]] = defaultdict(list)
    for transaction in transactions:
        expected[transaction.card_id].append(transaction)
    assert by_card == expected
    assert all(len(partitions) == 1 for partitions in partition_of.values())
    assert len({number for each in partition_of.values() for number in each}) == PARTITIONS

    found = _take(kafka, topics.labels, 1, len(labels))
    assert [label_decoder.decode(each.value) for each in found] == labels
    assert all(each.key == label.transaction_id.encode() for each, label in zip(found, labels, strict=True))
    assert summary.size == sum(len(each.value) for each in (*taken, *found))


def test_keys_lead_where_the_java_clients_lead_them(
    kafka: KafkaUnderTest, make_topics: MakeTopics, unique: Unique
) -> None:
    topics = _topics(make_topics, unique)
    items = list(islice(simulate(DEMO, seed=1), 200))
    publish(items, producer=_producer(kafka), pace=Unpaced(), topics=topics)
    for each in _take(kafka, topics.transactions, PARTITIONS, sum(isinstance(i, Transaction) for i in items)):
        assert each.partition == (_murmur2(each.key) & 0x7FFFFFFF) % PARTITIONS


def test_a_message_that_kafka_does_not_take_is_an_error_that_says_why() -> None:
    nowhere = PublishTopics("transactions", "labels")
    quiet = logging.getLogger("librdkafka")
    quiet.setLevel(logging.CRITICAL)
    config = {**PUBLISHING, "bootstrap.servers": "127.0.0.1:1", "delivery.timeout.ms": 1000}
    producer = Producer(config, logger=quiet)
    items = list(islice(simulate(DEMO, seed=1), 10))
    with pytest.raises(PublishError, match=f"{nowhere.transactions}: .*timed out"):
        publish(items, producer=producer, pace=Unpaced(), topics=nowhere)


@pytest.mark.guarantee
def test_a_topic_nobody_made_has_no_end(kafka: KafkaUnderTest, unique: Unique) -> None:
    followers = KafkaFollowers({"bootstrap.servers": kafka.bootstrap})
    with followers, pytest.raises(PublishError, match=r"no such topic|Unknown topic"):
        followers.ends(unique("not-made"))


class _Worker(threading.Thread):
    """A consumer group that acknowledges what `work` has seen."""

    def __init__(
        self, kafka: KafkaUnderTest, follower: Follower, work: Callable[[list[bytes]], None]
    ) -> None:
        super().__init__(daemon=True)
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka.bootstrap,
                "group.id": follower.group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                # The embedded broker answers one request of a connection after the other.
                "fetch.wait.max.ms": 20,
            }
        )
        self._topic = follower.topic
        self._work = work
        self.stopping = threading.Event()

    def run(self) -> None:
        self._consumer.subscribe([self._topic])
        while not self.stopping.is_set():
            batch = self._consumer.consume(200, timeout=0.05)
            if batch:
                self._work([message.value() or b"" for message in batch])
                self._consumer.commit(asynchronous=False)
        self._consumer.close()


@pytest.mark.guarantee
def test_following_stays_in_event_time_step_with_real_consumer_groups(
    kafka: KafkaUnderTest, make_topics: MakeTopics, unique: Unique
) -> None:
    topics = _topics(make_topics, unique)
    score, learn = (
        Follower(unique("score"), topics.transactions),
        Follower(unique("learn"), topics.labels),
    )
    step = timedelta(days=2)
    items: list[Item] = list(islice(simulate(DEMO, seed=3), 9_000))
    decided: set[str] = set()
    learned: set[str] = set()
    early: list[str] = []

    def score_batch(values: list[bytes]) -> None:
        decided.update(transaction_decoder.decode(value).transaction_id for value in values)

    def learn_batch(values: list[bytes]) -> None:
        ids = [label_decoder.decode(value).transaction_id for value in values]
        early.extend(each for each in ids if each not in decided)
        learned.update(ids)

    workers = [_Worker(kafka, score, score_batch), _Worker(kafka, learn, learn_batch)]
    for worker in workers:
        worker.start()
    with KafkaFollowers({"bootstrap.servers": kafka.bootstrap}) as followers:
        summary = publish(
            items,
            producer=_producer(kafka),
            pace=Follow(step=step, deciders=(score,), learners=(learn,)),
            topics=topics,
            followers=followers,
        )
    assert decided == {item.transaction_id for item in items if isinstance(item, Transaction)}
    assert learned == {item.transaction_id for item in items if isinstance(item, Label)}
    assert early == []
    assert summary.transactions + summary.labels == len(items)
    for worker in workers:
        worker.stopping.set()
        worker.join(10)


def _murmur2(data: bytes) -> int:
    """As the Java clients hash keys (org.apache.kafka.common.utils.Utils.murmur2)."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for place in range(0, whole, 4):
        k = int.from_bytes(data[place : place + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
