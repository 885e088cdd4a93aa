"""Begins another log under a known name: `riverwatch adopt`.

What was decided and learned stays; what comes from the log now is a new epoch of it. The epoch goes to the
topic `drift` first, for whoever reads the logs later, and the identity to Redis last: broken off in between,
workers still read nothing, and adopting again is right.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from stream.adapters.clients import make_store, redis_client
from stream.adapters.clock import now
from stream.adapters.kafka.admin import beyond_end, check_topics, committed, is_another, topic_ids
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.outbox import KafkaOutbox
from stream.adapters.kafka.reader import TopicReader
from stream.adapters.redis.logs import LogIdentity, RedisLogs
from stream.config.factories import feature_spec
from stream.config.settings import Settings
from stream.history.epochs import epoch_signals, epochs_on_topic
from stream.ports import DependencyDown, FeatureStore
from stream.records import Epoch

READERS: Mapping[str, tuple[str, ...]] = {
    "transactions": ("score",),
    "scores": ("learn", "monitor"),
    "dead-letters": ("monitor",),
}
"""Which groups go on from an offset of a topic."""


class NotAdopted(Exception):  # noqa: N818 - a state of the installation that a person must settle
    """The log was not adopted; says why and what to do."""


class Adopted(NamedTuple):
    """What was begun.

    Attributes:
        epoch: its number.
        starts: of each partition that begins anew, the first offset that is read of it.
    """

    epoch: int
    starts: Mapping[int, int]


def adopt(settings: Settings, name: str) -> Adopted:
    """Have workers read a topic that is another one than they worked on, or that lost its tail.

    Args:
        settings: those that the workers run with.
        name: of the topic, without prefix.

    Raises:
        NotAdopted: the topic is the one that was worked on, or workers of a group that reads it run.
        DependencyDown, TopicMismatch: Kafka or Redis does not answer, or has other topics than the settings
            say.
    """
    check_topics(settings)
    client = redis_client(settings)
    logs, topic = RedisLogs(client, settings.redis_prefix), settings.topic(name)
    topic_id = topic_ids(AdminClient(confluent(settings)), [topic])[topic]
    noted = logs.known([name]).get(name)
    if noted is None:
        raise NotAdopted(f"{topic} was not worked on yet: workers begin it as it is")
    store = make_store(settings, feature_spec(settings), client)
    with TopicReader(settings, topic) as reader:
        bounds = reader.bounds()
    anew = is_another(noted.topic_id, topic_id)
    if anew:
        starts = {number: max(low, 0) for number, (low, _) in bounds.items()}
    else:
        starts = beyond_end(settings, topic, _worked_to(settings, name, list(bounds), store))
    if not starts:
        raise NotAdopted(
            f"{topic} is the log that was worked on, and holds all of it: there is nothing to adopt"
        )
    epochs = epochs_on_topic(settings, name)
    number = max(epochs.newest, noted.history().newest) + 1
    for role in READERS[name]:
        _set_committed(settings, settings.group(role), topic, starts)
    KafkaOutbox(settings).send(epoch_signals(settings, name, Epoch(number, starts), now()))
    if name == "transactions":
        store.claim(starts)  # whoever still holds a batch of the old log changes nothing any more
        logs.begin_epoch(settings.shards, starts, counts_anew=anew)
    logs.replace(name, LogIdentity(topic_id, (*noted.epochs, (number, dict(starts)))))
    return Adopted(number, starts)


def _worked_to(settings: Settings, name: str, partitions: list[int], store: FeatureStore) -> dict[int, int]:
    worked_to = dict.fromkeys(partitions, 0)
    found = [
        committed(settings, settings.group(role), settings.topic(name), partitions) for role in READERS[name]
    ]
    if name == "transactions":
        found.append({number: at + 1 for number, at in store.progress(partitions).items()})
    for each in found:
        worked_to = {number: max(at, each[number]) for number, at in worked_to.items()}
    return worked_to


def _set_committed(settings: Settings, group: str, topic: str, starts: Mapping[int, int]) -> None:
    """Have a group go on from these offsets; Kafka allows it while the group has no members."""
    consumer = Consumer(confluent(settings, group_id=group, enable_auto_commit=False))
    wanted = [TopicPartition(topic, number, start) for number, start in starts.items()]
    deadline = time.monotonic() + 10.0
    try:
        while True:
            try:
                consumer.commit(offsets=wanted, asynchronous=False)
            except KafkaException as error:
                code = error.args[0]
                if code.name() in ("UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION", "FENCED_INSTANCE_ID"):
                    raise NotAdopted(
                        f"workers of group {group} still run, or ended less than a session ago: stop them, "
                        "adopt, and start them again"
                    ) from error
                if not code.retriable() or time.monotonic() > deadline:
                    raise DependencyDown(f"Kafka ({settings.kafka_bootstrap}): {code.str()}") from error
                time.sleep(0.1)
            else:
                return
    finally:
        consumer.close()
