"""A worker with one bug planted for each promise: what the judge must find. For a test only.

python tests/faults/broken_worker.py score|learn
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from models.scoring import snapshot
from stream import pipeline
from stream.adapters.kafka import models as kafka_models
from stream.adapters.kafka.outbox import KafkaOutbox
from stream.adapters.redis.store import RedisStore
from stream.config.settings import load
from stream.messages import manifest_decoder
from stream.ports import Message
from stream.workers.run import run_learn, run_score


def forget_decisions() -> None:
    """Promise 1: what was decided is not looked up, and not kept: decided again, otherwise."""

    def lookup(_self: RedisStore, names: Sequence[str]) -> list[bytes | None]:
        return [None for _ in names]

    def record(
        _self: RedisStore, decisions: Sequence[tuple[int, str, bytes]], *, tokens: Mapping[int, int]
    ) -> list[bytes]:
        return [decision for *_, decision in decisions] if tokens else []

    store: Any = RedisStore
    store.lookup = lookup
    store.record = record


def count_wrongly() -> None:
    """Promise 2: one card's payments count for a little more."""
    module: Any = pipeline
    right = module.event_of

    def event_of(payment: Any, spec: Any) -> Any:
        if payment.card_id == "c1":
            payment = msgspec.structs.replace(payment, amount_minor=payment.amount_minor + 1)
        return right(payment, spec)

    module.event_of = event_of


def learn_twice() -> None:
    """Promise 3: a label that says what is known already is learned once more."""
    store: Any = RedisStore
    right = store.apply_labels

    def apply_labels(self: Any, labels: Any, **more: Any) -> list[str]:
        return ["new" if found == "repeat" else found for found in right(self, labels, **more)]

    store.apply_labels = apply_labels


def acknowledge_first() -> None:
    """Promise 4: what is acknowledged was not sent; of one merchant, nothing ever is."""
    outbox: Any = KafkaOutbox
    right = outbox.send

    def send(self: KafkaOutbox, messages: Iterable[Message]) -> None:
        right(self, [message for message in messages if b'"merchant_id":"m2"' not in (message.value or b"")])

    outbox.send = send


def trust_anybody() -> None:
    """Promise 6: the signature is not looked at."""

    def opened(value: bytes, key: bytes, **_: object) -> kafka_models.Published:
        manifest = manifest_decoder.decode(value)
        blob = manifest.blob or b""
        for each in (key, b"another key, another key, another key"):
            try:
                model = snapshot.load(blob, key=each)[1]
            except snapshot.SnapshotRefused:
                continue
            return kafka_models.Published(msgspec.structs.replace(manifest, blob=None), model)
        raise snapshot.SnapshotRefused("not even this one")

    kafka_models.opened = opened


BUGS = {
    "forget-decisions": forget_decisions,
    "count-wrongly": count_wrongly,
    "learn-twice": learn_twice,
    "acknowledge-first": acknowledge_first,
    "trust-anybody": trust_anybody,
}


def main() -> int:
    """Run a worker with the bugs that RIVERWATCH_TEST_BUGS names."""
    for name in os.environ["RIVERWATCH_TEST_BUGS"].split(","):
        BUGS[name]()
    settings = load({}, os.environ, config=Path(os.devnull)).settings
    return run_score(settings) if sys.argv[1] == "score" else run_learn(settings)


if __name__ == "__main__":
    sys.exit(main())
