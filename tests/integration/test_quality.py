"""Quality from topics on a real broker."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from stream.adapters.kafka.scan import read_to_end
from stream.inspect.quality import (
    QualityProtocol,
    QualityTopics,
    QualityWindow,
    TopicUnreadableError,
    quality_from_topics,
)
from stream.messages import encode
from tests.support.builders import decision, label, payment
from tests.support.services import KafkaUnderTest, MakeTopics, Unique

START = datetime(2026, 3, 2, tzinfo=UTC)
EVENTS = 3000
PARTITIONS = 4


@pytest.fixture
def topics(unique: Unique, make_topics: MakeTopics) -> QualityTopics:
    names = QualityTopics(*(unique(name) for name in QualityTopics()))
    make_topics(
        {names.transactions: PARTITIONS, names.scores: PARTITIONS, names.labels: 1, names.dead_letters: 1}
    )
    return names


def publish(kafka: KafkaUnderTest, topics: QualityTopics, *, lost: int | None = None) -> set[int]:
    """A run with frauds every 20th, all scored higher but one in ten; duplicates, dead letters, labels."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "enable.idempotence": True})
    offsets = [0] * PARTITIONS
    chance = random.Random(4)
    frauds = set(range(0, EVENTS, 20))

    def send(topic: str, value: bytes | None, **more: Any) -> None:
        producer.produce(topic, value=value, **more)
        producer.poll(0)

    for number in range(EVENTS):
        partition = number % PARTITIONS
        made = payment(
            number, start=START, minutes=10 * number, card=f"c{number % 60}", merchant="m", amount=100
        )
        fraud = number in frauds
        send(topics.transactions, encode(made), partition=partition)
        origin = (partition, offsets[partition])
        offsets[partition] += 1
        if number != lost:
            score = (0.9 if number % 200 else 0.2) if fraud else 0.4 * chance.random()
            value = encode(
                decision(made, score=score, action="review" if score > 0.5 else "approve", origin=origin)
            )
            for _ in range(2 if number % 50 == 0 else 1):
                send(topics.scores, value, partition=partition)
        known = made.event_time + timedelta(days=7)
        if fraud:
            send(topics.labels, encode(label(number, start=known, source="analyst")))
        elif number % 10 == 1:
            send(topics.labels, encode(label(number, fraud=False, start=known, source="maturity")))
        if number % 100 == 0:
            send(topics.transactions, b"\xff not json", partition=partition)
            place = [
                ("topic", topics.transactions.encode()),
                ("partition", b"%d" % partition),
                ("offset", b"%d" % offsets[partition]),
            ]
            send(topics.dead_letters, b"\xff not json", headers=place)
            offsets[partition] += 1
    assert producer.flush(30) == 0
    return frauds


def test_complete_run_adds_up_and_is_measured(kafka: KafkaUnderTest, topics: QualityTopics) -> None:
    frauds = publish(kafka, topics)
    told: dict[str, int] = {}

    def progress(topic: str, read: int, total: int) -> None:
        assert read <= total
        told[topic] = read

    window = QualityWindow("second week", START + timedelta(days=7), START + timedelta(days=14))
    report = quality_from_topics(
        kafka.bootstrap,
        topics=topics,
        windows=[window],
        protocol=QualityProtocol(k=5, drop_known_cards=False),
        progress=progress,
    )
    account = report.completeness
    assert account.is_complete, account
    assert (account.events, account.decided, account.dead_letters) == (EVENTS + 30, EVENTS, 30)
    assert (account.decisions, account.duplicates) == (EVENTS, EVENTS // 50)
    assert told == {
        topics.transactions: EVENTS + 30,
        topics.scores: EVENTS + EVENTS // 50,
        topics.labels: len(frauds) + EVENTS // 10,
        topics.dead_letters: 30,
    }
    assert (report.overall.transactions, report.overall.frauds) == (EVENTS, len(frauds))
    assert report.overall.reported == len(frauds)
    assert report.overall.precision == 1.0
    assert report.overall.recall == pytest.approx(0.9)
    (second,) = report.windows
    assert second.transactions == 7 * 144
    assert second.frauds == len([n for n in frauds if 7 * 144 <= n < 14 * 144])
    assert 0.85 < second.average_precision < 1.0
    assert [week.window.end for week in report.weeks] == [START + timedelta(days=day) for day in (7, 14, 21)]
    assert report.mean_weekly_average_precision == pytest.approx(
        sum(week.average_precision for week in report.weeks) / 3
    )


def test_lost_event_is_missing(kafka: KafkaUnderTest, topics: QualityTopics) -> None:
    publish(kafka, topics, lost=77)
    account = quality_from_topics(kafka.bootstrap, topics=topics).completeness
    assert account.missing == 1
    assert account.examples[0][0] == 77 % PARTITIONS
    assert not account.is_complete


def test_reading_joins_no_group(kafka: KafkaUnderTest, topics: QualityTopics) -> None:
    publish(kafka, topics)
    quality_from_topics(kafka.bootstrap, topics=topics)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    groups = admin.list_consumer_groups(request_timeout=10).result(10).valid
    assert "riverwatch-reader" not in {group.group_id for group in groups}


def test_empty_topics_are_an_account_of_nothing(kafka: KafkaUnderTest, topics: QualityTopics) -> None:
    report = quality_from_topics(kafka.bootstrap, topics=topics)
    assert report.completeness.events == report.overall.transactions == 0
    assert report.completeness.is_complete


def test_every_record_is_read_once_with_key_and_headers(
    kafka: KafkaUnderTest, unique: Unique, make_topics: MakeTopics
) -> None:
    topic = unique("plain")
    make_topics({topic: 3})
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for number in range(5000):
        producer.produce(topic, key=b"k%d" % number, value=b"v%d" % number, headers=[("n", b"%d" % number)])
        producer.poll(0)
    assert producer.flush(30) == 0
    records = [
        record for batch in read_to_end({"bootstrap.servers": kafka.bootstrap}, topic) for record in batch
    ]
    assert sorted(record.value or b"" for record in records) == sorted(b"v%d" % n for n in range(5000))
    assert all(record.headers == (("n", (record.key or b"")[1:]),) for record in records)


def test_missing_topic_is_told_with_what_to_do(kafka: KafkaUnderTest, unique: Unique) -> None:
    with pytest.raises(TopicUnreadableError, match=r"has no topic .* check its name"):
        quality_from_topics(kafka.bootstrap, topics=QualityTopics(transactions=unique("nowhere")))


def test_absent_kafka_is_told_with_its_address() -> None:
    with pytest.raises(TopicUnreadableError, match=r"127\.0\.0\.1:1 did not give"):
        list(read_to_end({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, "scores", patience=1.0))
