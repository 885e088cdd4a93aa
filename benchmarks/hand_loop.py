"""The yardstick: the score worker's work in a hand-written confluent-kafka loop, with the same guarantee.

The same core, the same Redis calls, every decision out; consume, process, commit. No Faust.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from confluent_kafka import Consumer, TopicPartition

from stream.adapters.clients import make_store, redis_client
from stream.adapters.clock import now
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.models import ModelFollower
from stream.adapters.kafka.outbox import KafkaOutbox
from stream.config.factories import feature_spec, limits_of, policy_of
from stream.config.settings import load
from stream.pipeline import DecisionTopics, Pipeline
from stream.records import Record
from stream.workers.score import ModelInUse


def main() -> int:
    """Run until SIGTERM."""
    settings = load({}, os.environ).settings
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    spec, policy = feature_spec(settings), policy_of(settings)
    in_use = ModelInUse(policy)
    follower = ModelFollower(settings, name=settings.model, swap=in_use.swap)
    follower.start()
    follower.wait(30.0)
    pipeline = Pipeline(
        store=make_store(settings, spec, redis_client(settings)),
        outbox=KafkaOutbox(settings),
        model=lambda: in_use.current,
        clock=now,
        spec=spec,
        policy=policy,
        topics=DecisionTopics(*map(settings.topic, ("scores", "alerts", "dead-letters"))),
        limits=limits_of(settings),
    )
    consumer = Consumer(
        confluent(
            settings,
            group_id=settings.group("score"),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_wait_max_ms=100,
        )
    )
    topic = settings.topic("transactions")
    consumer.subscribe(
        [topic],
        on_assign=lambda _, places: pipeline.on_assigned(place.partition for place in places),
        on_revoke=lambda _, places: pipeline.on_revoked(place.partition for place in places),
    )
    while not ended.is_set():
        # One record as soon as it is there, then what is queued: `consume(500)` alone would wait to fill.
        messages = consumer.consume(1, 0.2)
        if messages:
            messages += consumer.consume(settings.batch_size - 1, 0.0)
        records = [
            Record(topic, m.partition() or 0, m.offset() or 0, m.timestamp()[1], m.key(), m.value())
            for m in messages
            if m.error() is None
        ]
        if records:
            pipeline.process(records)
            ends = {record.partition: record.offset + 1 for record in records}
            consumer.commit(
                offsets=[TopicPartition(topic, number, offset) for number, offset in ends.items()],
                asynchronous=True,
            )
    consumer.close()
    follower.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
