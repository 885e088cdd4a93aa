"""A worker with bugs planted in it, one for each promise and more: what the judges must find. For tests only.

python tests/faults/planted_bugs/broken_worker.py score|learn
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from models.features.compute import entities_of, features_of
from models.scoring import snapshot
from stream import pipeline
from stream.adapters.kafka import models as kafka_models
from stream.adapters.kafka import signed_models
from stream.adapters.kafka.outbox import KafkaOutbox
from stream.adapters.redis.store import RedisStore
from stream.admission import Rejected, admit_transaction
from stream.config.settings import load
from stream.messages import manifest_decoder
from stream.ports import Message
from stream.workers.run import run_learn, run_score

_ANOTHER = snapshot.SigningKey(b"another key, another key, 32 by.")  # not one that the installation trusts


def forget_decisions() -> None:
    """Promise 1: what was decided is not looked up, and not kept: decided again, otherwise."""

    def lookup(_self: RedisStore, names: Sequence[str]) -> list[bytes | None]:
        return [None for _ in names]

    def record(
        _self: RedisStore, decisions: Sequence[tuple[int, str, bytes]], *, fencing_tokens: Mapping[int, int]
    ) -> list[bytes]:
        return [decision for *_, decision in decisions] if fencing_tokens else []

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
        return ["new" if found == "duplicate" else found for found in right(self, labels, **more)]

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

    def trusted(value: bytes, trust: kafka_models.Trust) -> Any:
        manifest = manifest_decoder.decode(value)
        blob = manifest.blob or b""
        for each in (trust.keys, _ANOTHER.trusted):
            try:
                found = snapshot.verified(blob, keys=each)
            except snapshot.SnapshotRefused:
                continue
            return msgspec.structs.replace(manifest, blob=None), found
        raise snapshot.SnapshotRefused("not even this one")

    signed_models.trusted = trusted
    kafka_models.trusted = trusted


def admit_any_key() -> None:
    """A record whose key is not its card_id is admitted."""

    def wrong(record: Any, limits: Any) -> Any:
        found = right(record, limits)
        if isinstance(found, Rejected) and found.reason == "key_mismatch":
            card = json.loads(record.value)["card_id"].encode()
            return right(record._replace(key=card), limits)
        return found

    right = replaced(admit_transaction, wrong)


def mistake_the_origin() -> None:
    """The decisions of one card say that their transaction stands one offset further on."""

    def wrong(**fields: Any) -> Any:
        if fields["card_id"] == "c1":
            partition, offset = fields["origin"]
            fields["origin"] = (partition, offset + 1)
        return right(**fields)

    module: Any = pipeline
    right = module.Decision
    module.Decision = wrong


def cut_keys() -> None:
    """Merchants whose ids begin with the same two characters share a profile."""

    def wrong(payment: Any, spec: Any) -> Any:
        found = right(payment, spec)
        return tuple(
            (kind, key[:2] if kind == "merchant" else key, max_recent) for kind, key, max_recent in found
        )

    right = replaced(entities_of, wrong)


def round_a_feature() -> None:
    """How far an amount is from its card's mean is told to two decimals."""

    def wrong(*known: Any) -> Any:
        found = right(*known)
        if "card.z.30d" in found:
            found["card.z.30d"] = round(found["card.z.30d"], 2)
        return found

    right = replaced(features_of, wrong)


def replaced(right: Callable[..., Any], wrong: Callable[..., Any]) -> Callable[..., Any]:
    """Put a wrong function wherever the right one is known, now or later: a bug in what is shared."""
    for module in [each for name, each in sys.modules.items() if name.startswith(("models", "stream"))]:
        for name, value in list(vars(module).items()):
            if value is right:
                setattr(module, name, wrong)
                _planted.append((module, name, right))
    return right


_planted: list[tuple[Any, str, Any]] = []


@contextmanager
def planted(*bugs: str) -> Iterator[None]:
    """These bugs of what is shared, in this process and for a while."""
    try:
        for bug in bugs:
            BUGS[bug]()
        yield
    finally:
        while _planted:
            module, name, right = _planted.pop()
            setattr(module, name, right)


BUGS = {
    "forget-decisions": forget_decisions,
    "count-wrongly": count_wrongly,
    "learn-twice": learn_twice,
    "acknowledge-first": acknowledge_first,
    "trust-anybody": trust_anybody,
    "admit-any-key": admit_any_key,
    "mistake-the-origin": mistake_the_origin,
    "cut-keys": cut_keys,
    "round-a-feature": round_a_feature,
}


def main() -> int:
    """Run a worker with the bugs that RIVERWATCH_TEST_BUGS names."""
    for name in os.environ["RIVERWATCH_TEST_BUGS"].split(","):
        BUGS[name]()
    settings = load({}, os.environ, config=Path(os.devnull)).settings
    return run_score(settings) if sys.argv[1] == "score" else run_learn(settings)


if __name__ == "__main__":
    sys.exit(main())
