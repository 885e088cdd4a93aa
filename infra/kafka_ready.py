"""Whether a Kafka broker serves metadata."""

from __future__ import annotations

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient


def serves_metadata(bootstrap: str, timeout: float = 2.0) -> bool:
    """Whether the broker at ``bootstrap`` names at least one live broker within ``timeout`` seconds."""
    # log_level 0: while a broker starts, refused connections are the expected case
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "socket.timeout.ms": 1000})
    try:
        return bool(admin.list_topics(timeout=timeout).brokers)
    except KafkaException:
        return False
