"""The topics: created as the design says, and checked before a worker starts."""

from __future__ import annotations

import time
from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from stream.adapters.kafka.client import MAX_MESSAGE, confluent
from stream.adapters.kafka.errors import failure, metadata
from stream.adapters.kafka.partitions import TopicMismatch, mismatch
from stream.adapters.kafka.rights import hidden_topics
from stream.config.settings import Settings
from stream.ports import DependencyRefused

__all__ = ["TopicMismatch", "check_topics", "committed", "create_topics", "wanted"]

PARTITIONED = ("transactions", "scores", "alerts")
SINGLE = ("labels", "drift", "models", "dead-letters")

MODELS = {"cleanup.policy": "compact", "max.message.bytes": str(MAX_MESSAGE)}

_PATIENCE = 10.0
_PASSING = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)


def wanted(settings: Settings) -> dict[str, int]:
    """Every topic's full name and its number of partitions."""
    many = {settings.topic(name): settings.partitions for name in PARTITIONED}
    return many | {settings.topic(name): 1 for name in SINGLE}


def create_topics(settings: Settings, *, timeout: float = 30.0) -> list[str]:
    """Create what is missing; returns what was created.

    Raises:
        DependencyDown, DependencyRefused: Kafka does not answer, or refuses.
    """
    admin = AdminClient(confluent(settings))
    there = _there(admin, settings, timeout)
    new = [
        NewTopic(
            name,
            num_partitions=count,
            replication_factor=settings.replication,
            config=_config(settings, name),
        )
        for name, count in wanted(settings).items()
        if name not in there
    ]
    for name, future in (admin.create_topics(new, operation_timeout=timeout) if new else {}).items():
        try:
            future.result(timeout)
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise failure(confluent(settings), error, about=f"topic {name} was not created") from error
    return [topic.topic for topic in new]


def _config(settings: Settings, name: str) -> dict[str, str]:
    # What was acknowledged is on two brokers at least, where there are three.
    kept = {"min.insync.replicas": "2"} if settings.replication > 2 else {}  # noqa: PLR2004 - three
    return kept | (MODELS if name == settings.topic("models") else {})


def check_topics(settings: Settings, *, timeout: float = 10.0) -> None:
    """Every topic is there, with as many partitions as the settings say.

    Raises:
        TopicMismatch: one is not; says which and what to do.
        DependencyDown, DependencyRefused: Kafka does not answer, or refuses.
    """
    there = _there(AdminClient(confluent(settings)), settings, timeout)
    missing = [name for name in wanted(settings) if name not in there]
    if hidden := hidden_topics(settings, missing):
        raise DependencyRefused(
            f"Kafka ({settings.kafka_bootstrap}) refuses DESCRIBE of {', '.join(hidden)} to the user "
            f"{settings.kafka_sasl_username} (RIVERWATCH_KAFKA_SASL_USERNAME); grant it with `kafka-acls "
            "--add`"
        )
    if missing:
        raise TopicMismatch(f"topics missing: {', '.join(missing)}; `riverwatch topics` creates them")
    if why := mismatch(settings, there):
        raise TopicMismatch(why)
    for name in map(settings.topic, SINGLE):
        if there[name] != 1:
            raise TopicMismatch(f"topic {name} has {there[name]} partitions and needs one: make it anew")


def _there(admin: AdminClient, settings: Settings, timeout: float) -> dict[str, int]:
    found = metadata(confluent(settings), admin, timeout=timeout).topics
    return {name: len(topic.partitions) for name, topic in found.items()}


def committed(settings: Settings, group: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """The committed offset of each partition: the next one to be worked on; 0 where nothing was committed.

    Raises:
        DependencyDown, DependencyRefused: Kafka does not answer, or refuses.
    """
    consumer = Consumer(confluent(settings, group_id=group, enable_auto_commit=False))
    asked = [TopicPartition(topic, number) for number in partitions]
    deadline = time.monotonic() + _PATIENCE
    try:
        while True:
            try:
                found = consumer.committed(asked, timeout=_PATIENCE)
            except KafkaException as error:
                # A broker that has just come up does not know yet which groups are its own.
                if error.args[0].code() not in _PASSING or time.monotonic() > deadline:
                    raise failure(confluent(settings), error, about=f"group {group}") from error
                time.sleep(0.1)
            else:
                return {place.partition: max(place.offset, 0) for place in found}
    finally:
        consumer.close()
