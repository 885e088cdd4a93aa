"""An installation worked through without worker processes, and what the judge says of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, TopicPartition

from producers.simulator.simulate import DEMO, simulate
from stream.adapters.clients import make_store, redis_client
from stream.adapters.clock import now
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.outbox import KafkaOutbox
from stream.adapters.redis.due_queues import MemoryDueQueue
from stream.adapters.redis.heartbeat import Heartbeat
from stream.adapters.redis.model_floor import MemoryModelFloor
from stream.config.factories import feature_spec, limits_of, policy_of
from stream.messages import Label, Transaction
from stream.pipeline import DecisionTopics, Pipeline
from stream.records import Record
from stream.serving import first_model
from stream.verify.audit import Audit
from stream.verify.promises import AuditReport
from stream.workers.learn import LearnPorts, LearnWorker
from stream.workers.run import nothing
from tests.support.builders import payment

if TYPE_CHECKING:
    from tests.support.installation import Installation

RATE = {"negative_sampling_rate": 0.3, "maturity": "2d"}


def paid(number: int, *, name: str | None = None) -> Transaction:
    return payment(name or f"x{number}", minutes=number, amount=1000 + number)


def simulated(count: int, seed: int) -> list[Transaction | Label]:
    return list(islice(simulate(DEMO, seed=seed), count))


def audited(system: Installation, **more: Any) -> AuditReport:
    return Audit(system.settings, **more).run()


def verdicts(report: AuditReport) -> dict[int, str]:
    return {promise.number: promise.verdict for promise in report.promises}


def broken(report: AuditReport) -> dict[int, dict[str, tuple[str, ...]]]:
    """Of each broken promise what is wrong, and examples."""
    return {
        promise.number: {found.what: found.examples for found in promise.breaks}
        for promise in report.promises
        if promise.breaks
    }


def acknowledge(system: Installation, role: str, topic: str, offsets: Mapping[int, int]) -> None:
    """Acknowledge in the name of workers, of which none may run: nobody will read below."""
    group = system.settings.group(role)
    consumer = Consumer(confluent(system.settings, group_id=group, enable_auto_commit=False))
    name = system.settings.topic(topic)
    consumer.commit(
        offsets=[TopicPartition(name, number, offset) for number, offset in offsets.items()],
        asynchronous=False,
    )
    consumer.close()


def ends(records: Iterable[Record]) -> dict[int, int]:
    return {record.partition: record.offset + 1 for record in records}


def work(system: Installation) -> None:
    """What a score worker and a learn worker do with all there is, without their processes."""
    settings, spec = system.settings, feature_spec(system.settings)
    store = make_store(settings, spec, redis_client(settings))
    outbox = KafkaOutbox(settings)
    policy = policy_of(settings)
    pipeline = Pipeline(
        store=store,
        outbox=outbox,
        model=lambda: first_model(policy),
        clock=now,
        spec=spec,
        policy=policy,
        topics=DecisionTopics(*map(settings.topic, ("scores", "alerts", "dead-letters"))),
        limits=limits_of(settings),
    )
    pipeline.on_assigned(range(settings.partitions))
    events = system.read("transactions")
    for at in range(0, len(events), 100):
        pipeline.process(events[at : at + 100])
    acknowledge(system, "score", "transactions", ends(events))
    learner = LearnWorker(
        settings,
        LearnPorts(store, store, MemoryDueQueue(), outbox, now, Heartbeat("learn"), MemoryModelFloor()),
        spec,
        nothing,
    )
    learner.take_over()
    labels = system.read("labels")
    learner.handle(labels)
    acknowledge(system, "learn", "labels", ends(labels))
