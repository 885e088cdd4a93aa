"""How committed records are told from others: the level to read at, and where what is committed ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from stream.adapters.kafka.client import confluent
from stream.config.isolation import CANNOT, Isolation, isolation_of
from stream.config.settings import Settings

logger = logging.getLogger(__name__)

_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_ASKED_FOR = 2.0  # seconds: who cannot reach Kafka now will be told by what it asks next
_known: dict[str, Isolation] = {}


def isolation_level(client: Mapping[str, Any]) -> Isolation:
    """How to read from the Kafka that a client's configuration names: asked once in a process."""
    place = str(client.get("bootstrap.servers"))
    if place not in _known:
        try:
            found = AdminClient(dict(client)).list_topics(timeout=_ASKED_FOR)
        except KafkaException:
            return "read_committed"
        _known[place] = isolation_of(found.cluster_id)
    return _known[place]


def worker_isolation(settings: Settings) -> Callable[[], Isolation]:
    """How a worker reads; where that is not committed, it is said once."""

    def asked() -> Isolation:
        level = isolation_level(confluent(settings))
        if level == "read_uncommitted":
            logger.warning(CANNOT, settings.kafka_bootstrap)
        return level

    return asked


def stable_ends(
    client: Mapping[str, Any], topic: str, partitions: Iterable[int], *, timeout: float = 10.0
) -> dict[int, int]:
    """Of each partition the last stable offset: what lies before it is committed or aborted.

    Empty where the broker cannot tell. `Consumer.get_watermark_offsets` names the high watermark at any level
    of isolation.

    Raises:
        KafkaException: Kafka does not answer, or has no such partition.
    """
    if isolation_level(client) == "read_uncommitted":
        return {}
    asked = {TopicPartition(topic, number): _LATEST for number in partitions}
    if not asked:
        return {}
    admin = AdminClient(dict(client))  # it must outlive its answers
    found = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=timeout)
    return {place.partition: done.result().offset for place, done in found.items()}
