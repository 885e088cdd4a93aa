"""The judge on a real Kafka and a real Redis: content with a run that was fine, and with no other."""

from __future__ import annotations

import hashlib
import json
import signal
import struct
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest
import redis
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from models.scoring.snapshot import SigningKey, SnapshotHeader, dump
from stream.adapters.clients import redis_client
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.models import installation_of, opened, trust_of
from stream.adapters.kafka.outbox import KafkaOutbox
from stream.inspect.entity import as_it_stands, as_it_was
from stream.messages import Decision, Label, Transaction, decision_decoder, encode, manifest_decoder
from stream.ports import Message
from stream.recovery.rebuild import LogIncomplete, rebuild
from tests.support.builders import START
from tests.support.model_keys import ANOTHER, SIGNING
from tests.support.verified import RATE, acknowledge, audited, broken, paid, simulated, verdicts, work

if TYPE_CHECKING:
    from tests.support.installation import Installation

pytestmark = pytest.mark.guarantee

Install = Callable[..., "Installation"]


def test_every_promise_holds_on_an_undisturbed_run(install: Install) -> None:
    system = install(**RATE)
    system.start("score", **RATE)
    system.start("learn", **RATE)
    items = simulated(3000, seed=3)
    day = timedelta(days=1)
    paid = [item for item in items if isinstance(item, Transaction)]
    early = [
        Label(transaction_id=item.transaction_id, is_fraud=fraud, known_at=item.event_time + late, source="x")
        for item in paid[::150]
        for fraud, late in ((True, 2 * day), (False, day))
    ]
    system.send(early)
    system.drained("learn", "labels")
    system.send(items)
    system.send(paid[::400])
    system.send_raw("transactions", b"c", b"junk")
    system.send_raw("labels", b"c", b"junk")
    system.flush()
    system.settled()
    report = audited(system)
    assert set(verdicts(report).values()) == {"holds"}, broken(report)
    assert f"{len(paid):,} decisions" in report.promises[0].judged
    assert f"the features of {len(paid):,} decisions" in report.promises[1].judged
    assert f"+ {len(paid[::400])} duplicates + 1 dead letters + 0 to come" in report.promises[3].judged


def test_every_promise_holds_on_several_shards_with_killed_workers_while_they_work(install: Install) -> None:
    """Judged twice: beside the workers, in the middle of the traffic, and when all is done."""
    system = install(shards=3, **RATE)
    changed: Mapping[str, Any] = {"shards": 3, "batch_size": 50, **RATE}
    victims = [system.start("score", **changed), system.start("score", **changed)]
    learner = system.start("learn", **changed)
    system.until(lambda: len(system.workers()) == 3, 30, "the workers are not there")
    items = simulated(6000, seed=4)
    for part in range(6):
        system.send(items[part * 1000 : (part + 1) * 1000])
        if part == 2:
            victims[0].signal(signal.SIGKILL)
            system.start("score", **changed)
        if part == 3:
            learner.signal(signal.SIGKILL)
            system.start("learn", **changed)
    amid = audited(system)
    assert not amid.is_broken, broken(amid)
    system.settled()
    report = audited(system)
    assert set(verdicts(report).values()) == {"holds"}, broken(report)


class Run(NamedTuple):
    """A finished run with nothing wrong, and all workers gone."""

    system: Installation
    client: redis.Redis


@pytest.fixture
def finished(install: Install) -> Run:
    system = install(partitions=2, **RATE)
    system.send(simulated(800, seed=5))
    system.send(paid(number) for number in range(40))
    system.send(
        Label(
            transaction_id=f"x{number}",
            is_fraud=number % 3 == 0,
            known_at=START + timedelta(days=1),
            source="analyst",
        )
        for number in range(40)
    )
    work(system)
    assert set(verdicts(audited(system)).values()) == {"holds"}
    return Run(system, redis_client(system.settings))


def test_each_kind_of_damage_is_caught_where_it_is(finished: Run) -> None:
    """One run, damaged and mended again and again: what is reported is that damage and no other."""
    system, client = finished
    for damage in (
        changed_profile,
        event_taken_out_of_a_profile,
        profile_of_nobody,
        lost_profile,
        changed_label_profile,
        forgotten_knowledge,
        forgotten_decision,
        changed_record,
        changed_counter,
        fence_set_back,
    ):
        keys = {key: client.dump(key) or b"" for key in client.scan_iter()}
        number, what, example = damage(client, system)
        report = audited(system)
        found = broken(report)
        assert any(
            what in said and any(example in each for each in examples)
            for said, examples in found.get(number, {}).items()
        ), (damage, found)
        client.flushdb()
        for key, value in keys.items():
            client.restore(key, 0, value)
    assert not audited(system).is_broken


Damage = tuple[int, str, str]


def changed_profile(client: Any, _: Installation) -> Damage:
    raw = client.get("rw:{s0}:e:merchant:m1")
    client.set("rw:{s0}:e:merchant:m1", raw[:-1] + bytes([raw[-1] ^ 1]))
    return 2, "its profile in Redis is not what its events give", "merchant:m1 after 40 events"


def event_taken_out_of_a_profile(client: Any, _: Installation) -> Damage:
    raw = client.get("rw:{s0}:e:merchant:m1")
    at = 1 + raw[0]
    client.set("rw:{s0}:e:merchant:m1", raw[:at] + struct.pack("<d", 41.0) + raw[at + 8 :])
    return 2, "its profile in Redis holds more events than the log gives", "merchant:m1: 41 and 40"


def profile_of_nobody(client: Any, _: Installation) -> Damage:
    client.set("rw:{s0}:e:merchant:nobody", client.get("rw:{s0}:e:merchant:m1"))
    return 2, "its profile in Redis holds more events than the log gives", "merchant:nobody: 40 and 0"


def lost_profile(client: Any, _: Installation) -> Damage:
    client.delete("rw:{s0}:e:card:c1")
    return 2, "lacks events that Redis says it has applied", "card:c1"


def changed_label_profile(client: Any, _: Installation) -> Damage:
    raw = client.get("rw:{s0}:l:merchant:m1")
    client.set("rw:{s0}:l:merchant:m1", raw[:-1] + bytes([raw[-1] ^ 1]))
    return 3, "its label profile in Redis is not what its labels give", "merchant:m1"


def forgotten_knowledge(client: Any, _: Installation) -> Damage:
    client.set("rw:{s0}:k:x3", b"0" + client.get("rw:{s0}:k:x3")[1:])
    return 3, "is not the latest knowledge of the log", "x3: genuine"


def forgotten_decision(client: Any, _: Installation) -> Damage:
    client.delete("rw:{s0}:d:x7")
    return 1, "is not in Redis any more", "x7"


def changed_record(client: Any, _: Installation) -> Damage:
    client.set("rw:{s0}:d:x8", client.get("rw:{s0}:d:x8").replace(b'"score":', b'"score":0.5,"was":'))
    return 1, "is recorded in Redis otherwise than it was emitted", "x8"


def changed_counter(client: Any, _: Installation) -> Damage:
    client.hincrby("rw:{s0}:partitions", "decided", 1)
    return 4, "the counters in Redis are not those of the log", "decided"


def fence_set_back(client: Any, _: Installation) -> Damage:
    client.hset("rw:{s0}:partitions", "fence:0", 3)
    return 2, "Redis has applied fewer events than were acknowledged", "partition 0, shard 0: 4 of"


def test_a_missing_decision_and_a_missing_dead_letter_are_caught(finished: Run) -> None:
    system, _ = finished
    system.send_raw("transactions", b"c1", encode(paid(50, name="lost")))
    system.send_raw("transactions", b"c1", b"junk")
    system.flush()
    assert not audited(system).is_broken, "they are still to come"
    bad = next(record for record in system.read("transactions") if record.value == b"junk")
    partition, offset = bad.partition, bad.offset
    acknowledge(system, "score", "transactions", {partition: offset + 1})
    found = broken(audited(system))
    [lost] = found[1]["has no decision"]
    assert lost.startswith("lost ")
    [junk] = found[4]["an event that cannot be processed has no dead letter"]
    assert junk == f"event {partition}/{offset}: not_json"
    within = (START.timestamp(), (START + timedelta(days=1)).timestamp())
    assert 1 not in broken(audited(system, within=within)), "it came to Kafka at another time"


def test_a_second_decision_that_differs_is_caught(finished: Run) -> None:
    system, _ = finished
    record = next(record for record in system.read("scores") if b'"x9"' in (record.value or b""))
    decision = decision_decoder.decode(record.value or b"")
    mark = (("redelivered", b"1"),)
    outbox = KafkaOutbox(system.settings)
    scores = system.settings.topic("scores")
    outbox.send([Message(scores, record.key, record.value, mark)])
    assert not audited(system).is_broken, "a duplicate, marked as one"
    other = msgspec.structs.replace(decision, score=0.123)
    outbox.send([Message(scores, record.key, encode(other), mark)])
    assert broken(audited(system)) == {1: {"was decided twice, differently": (_named(decision),)}}
    outbox.send([Message(scores, record.key, record.value)])
    assert broken(audited(system))[1]["was emitted twice, and no duplicate is marked as one"]


def test_features_that_do_not_follow_from_the_profiles_are_caught(finished: Run) -> None:
    """One decision at another place in the log: of an event that was never applied."""
    system, client = finished
    record = next(record for record in system.read("scores") if b'"x9"' in (record.value or b""))
    decision = decision_decoder.decode(record.value or b"")
    system.send_raw("transactions", b"c1", encode(paid(70, name="crafted")))
    system.flush()
    place = system.read("transactions")
    event = next(each for each in place if b'"crafted"' in (each.value or b""))
    crafted = msgspec.structs.replace(
        decision,
        transaction_id="crafted",
        origin=(event.partition, event.offset),
        entities={kind: (key, 40, 40) for kind, (key, _, _) in decision.entities.items()},
    )
    outbox = KafkaOutbox(system.settings)
    outbox.send([Message(system.settings.topic("scores"), record.key, encode(crafted))])
    found = broken(audited(system))
    assert found[2]["the features it was decided with are not those of its profiles"][0].startswith(
        "crafted "
    )
    assert client.exists("rw:{s0}:e:card:c1")


def _named(decision: Decision) -> str:
    return f"{decision.transaction_id} (event {decision.origin[0]}/{decision.origin[1]})"


def publish(system: Installation, model: object, key: SigningKey, **changed: Any) -> None:
    """Publish a model as the newest, like the newest but for what is changed."""
    newest = manifest_decoder.decode(system.read("models")[-1].value or b"")
    manifest = msgspec.structs.replace(newest, **changed)
    header = SnapshotHeader(
        name=manifest.name,
        version=manifest.version,
        next_offset=manifest.next_offset,
        learned=manifest.learned,
        event_time=manifest.event_time,
        installation=installation_of(system.settings),
    )
    blob = dump(model, key=key, header=header)
    manifest = msgspec.structs.replace(
        manifest, blob=blob, sha256=hashlib.sha256(blob).hexdigest(), size=len(blob)
    )
    outbox = KafkaOutbox(system.settings)
    outbox.send([Message(system.settings.topic("models"), manifest.name.encode(), encode(manifest))])


def test_a_label_learned_twice_is_caught(finished: Run) -> None:
    system, _ = finished
    trust, key = trust_of(system.settings), SIGNING
    model = opened(system.read("models")[-1].value or b"", trust).model
    publish(system, model, key)
    assert not audited(system).is_broken, "the same model once more"
    record = next(record for record in system.read("scores") if b'"x9"' in (record.value or b""))
    model.learn_one(json.loads(record.value or b"")["features"], y=True)
    publish(system, model, key)
    [what] = broken(audited(system))[3]
    assert what == "a model is not the one that learns each label of the log once"
    learned = opened(system.read("models")[-1].value or b"", trust).manifest.learned
    publish(system, model, key, learned=learned + 1)
    assert (
        "a model says it has learned another number of labels than the log gives"
        in broken(audited(system))[3]
    )


def test_a_forged_and_a_broken_model_are_caught(finished: Run) -> None:
    system, _ = finished
    model = opened(system.read("models")[-1].value or b"", trust_of(system.settings)).model
    publish(system, model, ANOTHER)
    system.send_raw("models", system.settings.model.encode(), b"\x00\x01")
    system.flush()
    found = broken(audited(system))
    assert list(found) == [6], "the last good one goes on"
    reasons = found[6]["a model on the topic cannot be trusted; workers refuse it"]
    assert "not trusted here" in reasons[0]
    assert "no manifest" in reasons[1]


def test_what_was_known_of_an_entity_at_the_end_is_what_stands_in_redis(finished: Run) -> None:
    """From the logs and from Redis, to the bit; and before the first event nothing was known."""
    system, _ = finished
    for name in ("merchant:m1", "c1"):
        stands = as_it_stands(system.settings, name)
        was = as_it_was(system.settings, name, stands.at)
        assert was == stands
        assert (stands.events, stands.labels) == (40, 40)
        assert as_it_was(system.settings, name, START - timedelta(days=1)).events == 0
        early = as_it_was(system.settings, name, START + timedelta(minutes=9))
        assert (early.events, early.labels) == (10, 0), "no label was known yet"


def test_what_retention_has_taken_is_not_held_against_anyone(finished: Run) -> None:
    """The beginnings of the logs are gone, of each at another place."""
    system, _ = finished
    admin = AdminClient(confluent(system.settings))
    gone = {
        TopicPartition(system.settings.topic(topic), partition, offset)
        for topic, partition, offset in (("transactions", 0, 30), ("scores", 0, 60), ("scores", 1, 20))
    }
    for future in admin.delete_records(list(gone)).values():
        future.result(30)
    found = audited(system)
    assert not found.is_broken, broken(found)
    assert "profiles that began before were not compared" in found.promises[1].remarks[0]
    admin.delete_records([TopicPartition(system.settings.topic("labels"), 0, 25)])
    system.until(lambda: len(system.read("labels")) < 100, 30, "the labels are still there")
    found = audited(system)
    assert not found.is_broken, broken(found)
    assert found.promises[2].verdict == "not judged"
    with pytest.raises(LogIncomplete, match="begins at 30"):
        rebuild(system.settings)
    assert not audited(system).is_broken, "nothing was changed"
