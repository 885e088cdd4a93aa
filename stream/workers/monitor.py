"""The monitor worker: what drifts, and how good the decisions were, from `scores` and `labels` to `drift`.

One is enough, and it holds its window in memory: after a restart it measures anew from where it stood.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from models.metrics.delayed_quality import DelayedQualitySettings
from stream.adapters.kafka.client import faust_credentials
from stream.adapters.kafka.isolation import worker_isolation
from stream.adapters.redis.heartbeat import Heartbeat
from stream.admission import admit_label
from stream.config.factories import limits_of
from stream.config.settings import Settings
from stream.messages import DriftSignal, Label, decision_decoder, encode
from stream.monitoring import SEGMENTS, Monitor, MonitorSettings
from stream.ports import Clock, Message, Outbox
from stream.records import Record
from stream.runtime.app import BatchTopic, TopicPartition, create_batch_app
from stream.workers.log_watch import LogWatch, check_logs
from stream.workers.waiting import waiting_visibly

logger = logging.getLogger(__name__)


def monitor_settings(settings: Settings) -> MonitorSettings:
    """What the settings say the monitor watches."""
    return MonitorSettings(
        quality=DelayedQualitySettings(
            horizon=settings.maturity,
            window=settings.quality_window,
            k=settings.cards_per_day,
            segment_names=SEGMENTS,
        ),
        interval=settings.metrics_interval,
    )


def create_app(
    settings: Settings, outbox: Outbox, clock: Clock, heartbeat: Heartbeat, watch: LogWatch
) -> Any:
    """A monitor worker, still to be started.

    Args:
        settings: addresses and what is watched.
        outbox: where signals leave.
        clock: says when decisions arrived.
        heartbeat: what the worker says of itself.
        watch: over the logs that it reads.
    """
    monitor = Monitor(monitor_settings(settings))
    topic = settings.topic("drift")
    limits = limits_of(settings)
    unsent: list[DriftSignal] = []

    def emit(signals: Sequence[DriftSignal], counts: dict[str, int]) -> None:
        # A batch whose signals could not be sent comes again: what it holds is counted once all the same.
        unsent.extend(signals)
        with waiting_visibly(heartbeat):
            outbox.send(Message(topic, signal.signal.encode(), encode(signal)) for signal in unsent)
        heartbeat.count(counts | {"signals": len(unsent)})
        unsent.clear()

    def on_scores(records: list[Record]) -> None:
        decisions = [decision_decoder.decode(record.value) for record in records if record.value]
        emit(monitor.on_decisions(decisions, now=clock()), {"events": len(decisions)})

    def on_labels(records: list[Record]) -> None:
        admitted = (admit_label(record, limits) for record in records)
        labels = [label for label in admitted if isinstance(label, Label)]
        emit(monitor.on_labels(labels), {"events": 0, "labels": len(labels)})

    def on_dead_letters(records: list[Record]) -> None:
        emit((), {"events": 0, "dead_letters": len(records)})
        monitor.on_dead_letters(len(records))

    def assigned(held: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        with waiting_visibly(heartbeat):
            check_logs(settings, watch, "monitor", held)
            watch.is_read(lambda: check_logs(settings, watch, "monitor", held))
        heartbeat.count({"events": 0})
        logger.info("monitoring %s", ", ".join(sorted({place.topic for place in held})))
        return {}

    handlers = {"scores": on_scores, "labels": on_labels, "dead-letters": on_dead_letters}
    return create_batch_app(
        app_id=settings.group("monitor"),
        bootstrap=settings.kafka_bootstrap,
        topics=[
            BatchTopic(settings.topic(name), handler, name=f"monitor-{name}", max_records=settings.batch_size)
            for name, handler in handlers.items()
        ],
        instance_id=settings.instance_id or None,
        session_timeout=settings.session_timeout,
        heartbeat_interval=settings.heartbeat_interval,
        commit_interval=settings.commit_interval,
        on_assigned=assigned,
        isolation=worker_isolation(settings),
        credentials=faust_credentials(settings),
    )
