"""How to read from a Kafka, so that committed records alone count: asked of the brokers once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from stream.adapters.kafka.client import confluent
from stream.config.isolation import CANNOT, Isolation, isolation_of
from stream.config.settings import Settings

logger = logging.getLogger(__name__)

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
