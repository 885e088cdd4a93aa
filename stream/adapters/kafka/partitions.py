"""How many partitions the topics have, compared together, and how they are given more in the right order."""

from __future__ import annotations

import time
from collections.abc import Mapping

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.errors import failure, metadata
from stream.config.settings import Settings
from stream.ports import DependencyDown

GROWN_IN_THIS_ORDER = ("scores", "alerts", "transactions")
"""A decision of an event in a new partition finds room before the first of them can come."""

_LOOK_EVERY = 0.1


class TopicMismatch(Exception):  # noqa: N818 - a state of the cluster that a person must settle
    """A topic is missing or has another number of partitions than the settings say."""


def mismatch(settings: Settings, there: Mapping[str, int]) -> str | None:
    """What does not fit, of all partitioned topics together, and what to do; None where all is well.

    Args:
        settings: how many there should be.
        there: the number of partitions of each topic, by its full name.
    """
    found = {settings.topic(name): there[settings.topic(name)] for name in GROWN_IN_THIS_ORDER}
    counts = set(found.values())
    if counts == {settings.partitions}:
        return None
    said = ", ".join(f"{name} has {count}" for name, count in found.items())
    most = max(counts)
    if len(counts) > 1:
        return (
            f"the topics differ in their partitions ({said}): `riverwatch topics --grow {most}` makes them "
            f"all {most}; then start with RIVERWATCH_PARTITIONS={most}"
        )
    if most < settings.partitions:
        return (
            f"the topics have {most} partitions each ({said}) and the settings say {settings.partitions}: "
            f"set RIVERWATCH_PARTITIONS={most}, or have `riverwatch topics --grow {settings.partitions}` add "
            "them"
        )
    return (
        f"the topics have {most} partitions each ({said}) and the settings say {settings.partitions}: set "
        f"RIVERWATCH_PARTITIONS={most}"
    )


def grow(settings: Settings, count: int, *, timeout: float = 30.0) -> list[str]:
    """Give every partitioned topic as many partitions; returns which had fewer, in the order they grew.

    Those of decisions grow before that of events. Workers that run notice, and take the new partitions.

    Args:
        settings: addresses and topics.
        count: of partitions, > 0.
        timeout: seconds for each topic, > 0.

    Raises:
        TopicMismatch: a topic is missing, or has more already: partitions cannot be taken away.
        DependencyDown, DependencyRefused: Kafka does not answer, or refuses.
    """
    client = confluent(settings)
    admin = AdminClient(client)
    names = [settings.topic(name) for name in GROWN_IN_THIS_ORDER]
    there = _counts(client, admin, timeout)
    if missing := [name for name in names if name not in there]:
        raise TopicMismatch(f"topics missing: {', '.join(missing)}; `riverwatch topics` creates them")
    if larger := [f"{name} has {there[name]}" for name in names if there[name] > count]:
        raise TopicMismatch(
            f"no topic can be given fewer partitions ({', '.join(larger)}): grow to "
            f"{max(there[name] for name in names)} or more"
        )
    grown = [name for name in names if there[name] < count]
    for name in grown:
        [future] = admin.create_partitions([NewPartitions(name, count)], operation_timeout=timeout).values()
        try:
            future.result(timeout)
        except KafkaException as error:
            raise failure(client, error, about=f"topic {name} was not given {count} partitions") from error
        until = time.monotonic() + timeout
        while _counts(client, admin, timeout)[name] < count:  # the next one grows when this one has
            if time.monotonic() > until:
                raise DependencyDown(
                    f"Kafka ({settings.kafka_bootstrap}): topic {name} does not show {count} partitions "
                    f"after {timeout:g} s: run the same again"
                )
            time.sleep(_LOOK_EVERY)
    return grown


def _counts(client: Mapping[str, object], admin: AdminClient, timeout: float) -> dict[str, int]:
    found = metadata(client, admin, timeout=timeout).topics
    return {name: len(topic.partitions) for name, topic in found.items()}
