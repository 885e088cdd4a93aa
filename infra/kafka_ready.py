"""Whether a Kafka broker serves metadata."""

from __future__ import annotations


def serves_metadata(bootstrap: str, timeout: float = 2.0) -> bool:
    """Whether the broker at ``bootstrap`` names at least one live broker within ``timeout`` seconds."""
    from confluent_kafka import KafkaException  # noqa: PLC0415 - `riverwatch --help` stays instant
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415 - the same

    # log_level 0: while a broker starts, refused connections are the expected case
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "socket.timeout.ms": 1000})
    try:
        return bool(admin.list_topics(timeout=timeout).brokers)
    except KafkaException:
        return False
