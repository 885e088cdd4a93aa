"""The channel of models on a real Kafka, with somebody else who may write to it."""

from __future__ import annotations

import pytest

from models.scoring.snapshot import SnapshotHeader, dump
from stream.adapters.kafka.models import installation_of, opened, trust_of
from stream.inspect.status import look
from stream.messages import manifest_decoder
from tests.support.builders import label, payment
from tests.support.hostile_models import HOSTILE, manifest_of
from tests.support.installation import Install, Installation
from tests.support.model_keys import ANOTHER, SIGNING

pytestmark = pytest.mark.guarantee
RATE = {"negative_sampling_rate": 0.9, "maturity": "3650d"}
OTHER_KEY = f"{b'another key, another key, 32 by.'.hex()}"


def paid(system: Installation, first: int, count: int) -> None:
    system.send(payment(f"x{number}", card=f"c{number % 20}") for number in range(first, first + count))


def reported(system: Installation, first: int, count: int) -> None:
    system.send(label(f"x{number}", 1, fraud=number % 3 == 0) for number in range(first, first + count))


def last_model(system: Installation) -> bytes:
    [*_, record] = [each for each in system.read("models") if each.key == b"default"]
    return record.value or b""


def version_of(value: bytes) -> str:
    return manifest_decoder.decode(value).version


def signed_elsewhere(offset: int) -> bytes:
    """A snapshot of another installation with the same key, ahead of this one's labels."""
    header = SnapshotHeader(
        name="default",
        version=f"default@{offset}",
        next_offset=offset,
        learned=offset,
        installation="staging/",
    )
    from models.scoring.registry import build_model  # noqa: PLC0415 - of this forgery alone
    from stream.messages import encode  # noqa: PLC0415 - the same

    return encode(manifest_of(dump(build_model(), key=SIGNING, header=header), offset))


def test_whoever_writes_to_the_topic_of_models_stops_nothing_and_changes_nothing(install: Install) -> None:
    system = install(partitions=1, **RATE)
    score, learn = (system.start(role, **RATE) for role in ("score", "learn"))
    paid(system, 0, 1000)
    system.drained("score", "transactions")
    reported(system, 0, 600)
    system.drained("learn", "labels")
    good = last_model(system)
    first = system.read("models")[0].value or b""
    assert opened(good, trust_of(system.settings)).manifest.next_offset == 600

    hostile = {kind: make() for kind, make in HOSTILE.items()}
    for value in (*hostile.values(), signed_elsewhere(10**6), first, None):
        system.send_raw("models", b"default", value)
    system.flush()
    system.until(lambda: last_model(system) == good, 60, "the learner did not heal the topic")
    assert "MODEL OVERWRITTEN" in learn.log.read_text()

    # Both go on: every report is learned, and the model that has learned them decides.
    reported(system, 600, 300)
    system.drained("learn", "labels")
    assert version_of(last_model(system)) == "default@900"

    sent = 1000

    def decides() -> bool:
        nonlocal sent
        paid(system, sent, 20)
        sent += 20
        system.drained("score", "transactions")
        return b'"model_version":"default@900"' in (system.read("scores")[-1].value or b"")

    system.until(decides, 60, "the newest model does not decide")
    assert score.poll() is None
    assert learn.poll() is None
    assert f"signed with the key {ANOTHER.id.hex()}" in score.log.read_text()

    # An old record at the end, and nobody to heal it: a new scorer takes the newest all the same.
    learn.stop(10.0)
    score.stop(10.0)
    system.send_raw("models", b"default", first)
    system.flush()
    system.start("score", **RATE)
    system.until(decides, 60, "a new scorer does not take the newest model")
    assert not [what for what in look(system.settings).down if what.startswith("score")]


def test_scorer_that_finds_only_models_it_cannot_trust_is_down_in_status(install: Install) -> None:
    system = install(partitions=1, **RATE)
    score, learn = (system.start(role, **RATE) for role in ("score", "learn"))
    paid(system, 0, 50)
    system.drained("score", "transactions")
    reported(system, 0, 40)
    system.drained("learn", "labels")
    score.stop(10.0)
    learn.stop(10.0)
    assert installation_of(system.settings).endswith(f"/{system.settings.topic_prefix}")
    system.start("score", model_key=OTHER_KEY, **RATE)

    def is_down() -> bool:
        return any("no model can be trusted" in what for what in look(system.settings).down)

    system.until(is_down, 60, "nothing is down")
    paid(system, 50, 10)
    system.drained("score", "transactions")
    assert b'"model_version":"unsupervised-1"' in (system.read("scores")[-1].value or b"")
