"""The tests' own helpers keep their word on whichever Kafka and Redis is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

if TYPE_CHECKING:
    from tests.support.services import KafkaUnderTest, MakeTopics, Unique


def test_a_made_topic_takes_and_gives_a_message_at_once(
    kafka: KafkaUnderTest, make_topics: MakeTopics, unique: Unique
) -> None:
    topic = unique("first")
    make_topics({topic: 3})
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(topic, b"hello", partition=2)
    assert producer.flush(10) == 0

    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": unique("reader")})
    consumer.assign([TopicPartition(topic, 2, 0)])
    message = consumer.poll(10)
    consumer.close()
    assert message is not None
    assert message.value() == b"hello"


def test_a_topic_cannot_be_made_twice(make_topics: MakeTopics, unique: Unique) -> None:
    make_topics({unique("twice"): 1})
    with pytest.raises(KafkaException, match="already exists"):
        make_topics({unique("twice"): 1})


@pytest.mark.guarantee
def test_a_topic_nobody_made_does_not_appear_by_writing_to_it(kafka: KafkaUnderTest, unique: Unique) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "message.timeout.ms": 1500})
    failed: list[bool] = []
    producer.produce(
        unique("unmade"), b"lost?", on_delivery=lambda error, _: failed.append(error is not None)
    )
    producer.flush(10)
    assert failed == [True]


def test_each_test_finds_redis_empty(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left behind", 1)


def test_each_test_finds_redis_empty_again(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left behind", 1)
