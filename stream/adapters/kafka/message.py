"""A message of confluent-kafka as the record that the rest of riverwatch knows."""

from __future__ import annotations

from typing import cast

from confluent_kafka import Message

from stream.records import Record, header_pairs


def record_of(topic: str, message: Message) -> Record:
    """The record in a fetched message that is no error.

    Args:
        topic: its full name.
        message: as `Consumer.consume` gave it.
    """
    headers = message.headers() or []
    return Record(
        topic,
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
        _raw(message.key()),
        _raw(message.value()),
        header_pairs(cast("list[tuple[str, str | bytes | None]]", headers)),  # fetched ones are no dict
    )


def _raw(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
