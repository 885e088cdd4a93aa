"""Payments and labels as they arrive: bytes of a record."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from stream.admission import (
    Limits,
    Rejected,
    admit_transaction,
)
from stream.messages import Transaction
from stream.records import Record

NOW = datetime(2024, 5, 1, 10, 0, 30, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
CARD_NUMBER = "4111111111111111"
PAYMENT: dict[str, Any] = {
    "transaction_id": "t1",
    "event_time": "2024-05-01T10:00:00Z",
    "card_id": "c1",
    "merchant_id": "m1",
    "amount_minor": 1250,
    "currency": "EUR",
}
LABEL: dict[str, Any] = {
    "transaction_id": "t1",
    "is_fraud": True,
    "known_at": "2024-05-01T10:00:00Z",
    "source": "chargeback",
}


def record(value: bytes | None, key: bytes | None = b"c1", timestamp_ms: int = NOW_MS) -> Record:
    return Record("transactions", 3, 41, timestamp_ms, key, value)


def payment(**changes: Any) -> bytes:
    return json.dumps(PAYMENT | changes).encode()


def without(field: str) -> bytes:
    return json.dumps({name: value for name, value in PAYMENT.items() if name != field}).encode()


def admitted(value: bytes | None, key: bytes | None = b"c1", limits: Limits | None = None) -> Transaction:
    found = admit_transaction(record(value, key), limits or Limits())
    assert isinstance(found, Transaction), found
    return found


def reason(value: bytes | None, key: bytes | None = b"c1", limits: Limits | None = None) -> str:
    found = admit_transaction(record(value, key), limits or Limits())
    assert isinstance(found, Rejected), found
    assert found.detail
    return found.reason
