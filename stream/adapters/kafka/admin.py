"""The topics: created as the design says, and checked before a worker starts."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined] # its documentation imports it from here
from confluent_kafka.cimpl import NewTopic

from stream.adapters.kafka.client import MAX_MESSAGE, confluent
from stream.adapters.kafka.errors import failure, metadata
from stream.adapters.kafka.partitions import TopicMismatch, mismatch
from stream.adapters.kafka.rights import hidden_topics
from stream.adapters.kafka.scan import bounds_of
from stream.config.settings import Settings
from stream.ports import DependencyDown, DependencyRefused

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
    places = committed_places(settings, group, topic, partitions)
    return {place.partition: max(place.offset, 0) for place in places}


def committed_places(
    settings: Settings, group: str, topic: str, partitions: Iterable[int]
) -> list[TopicPartition]:
    """What is committed of each partition, with its metadata; a negative offset where nothing is.

    Raises:
        DependencyDown: Kafka does not answer.
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
                return found
    finally:
        consumer.close()


def topic_ids(admin: AdminClient, topics: Iterable[str], *, timeout: float = 10.0) -> dict[str, str]:
    """The identity of each topic (KIP-516): another one where it was deleted and made anew.

    Empty where the broker gives none (before Kafka 2.8). A topic that is not there is left out.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    found = {}
    asked = admin.describe_topics(TopicCollection(list(topics)), request_timeout=timeout)
    for name, future in asked.items():
        try:
            topic_id = future.result(timeout + 1.0).topic_id
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                continue
            raise DependencyDown(f"Kafka, asked for topic {name}: {error.args[0].str()}") from error
        except TimeoutError as error:
            raise DependencyDown(f"Kafka, asked for topic {name}: no answer in {timeout:g} s") from error
        is_given = topic_id is not None and topic_id.get_least_significant_bits() != 0
        found[name] = str(topic_id) if is_given else ""
    return found


def beyond_end(settings: Settings, topic: str, worked_to: Mapping[int, int]) -> dict[int, int]:
    """Where each partition ends that was worked on beyond its end: it has lost its tail.

    Args:
        settings: addresses and credentials.
        topic: its full name.
        worked_to: of each partition, the offset below which records were worked on.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    client = confluent(settings)
    admin = AdminClient(client)  # named: its answers come as long as it is there
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call] # it has no types
    asked = {TopicPartition(topic, number): latest for number in worked_to}
    try:
        told = {
            place.partition: future.result(_PATIENCE).offset
            for place, future in admin.list_offsets(asked, request_timeout=_PATIENCE).items()
        }
    except KafkaException as error:
        raise failure(client, error, about=f"topic {topic}") from error
    except TimeoutError as error:
        why = f"did not say where {topic} ends"
        raise DependencyDown(f"Kafka ({settings.kafka_bootstrap}) {why}") from error
    if all(at <= told[number] for number, at in worked_to.items()):
        return {}
    # Looked at twice: the embedded broker names where its last batch begins.
    ends = {number: end for number, (_, end) in bounds_of(client, topic).items()}
    return {number: ends[number] for number, at in worked_to.items() if number in ends and at > ends[number]}


def is_another(before: str, topic_id: str) -> bool:
    """Whether a topic is another one than before; where one of the ids is not given, it cannot be told."""
    return bool(before and topic_id and before != topic_id)


def how_to_go_on(name: str) -> str:
    """What a person can do about a topic (its name without prefix) that is another one than was worked on."""
    if name == "labels":  # a model's version is an offset of the labels
        return "restore the old one, or begin an installation of its own with another RIVERWATCH_TOPIC_PREFIX"
    return (
        f"if that is meant, stop its workers and `riverwatch adopt {name}`: it begins with the profiles kept"
    )
