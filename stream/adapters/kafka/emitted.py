"""Decisions that were emitted of events which the store has lost, read back to be recorded again.

A Redis that lost its last moments has lost decisions, too. Decided anew they might differ from what consumers
have seen, for the model learns; so what was emitted is recorded again before its events are read again.
"""

from __future__ import annotations

from collections.abc import Mapping

from stream.adapters.kafka.reader import TopicReader
from stream.config.settings import Settings
from stream.decisions import recorded_bytes
from stream.records import Epochs
from stream.views import alert_activity, decision_head

_SLACK_MS = 60_000  # the clocks of producers and workers may differ by so much


def emitted_since(
    settings: Settings, starts: Mapping[int, int], epochs: Epochs
) -> list[tuple[int, str, bytes]]:
    """The decisions of events at or above an offset of their partition, as they were recorded.

    Args:
        settings: addresses and topics.
        starts: of each partition of `transactions`, the offset.
        epochs: of `transactions`: what was decided of another log is not of these events.

    Returns:
        (partition, transaction_id, what is recorded), the first decision of each transaction.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    begin = _time_of(settings, starts) - _SLACK_MS
    activity: dict[str, bytes] = {}
    with TopicReader(settings, settings.topic("alerts")) as reader:
        for record in reader.until_end(from_offsets=reader.since(begin)):
            alert = alert_activity(record.value or b"{}")
            if alert.origin[1] >= starts.get(alert.origin[0], alert.origin[1] + 1):
                activity.setdefault(alert.transaction_id, bytes(alert.recent_activity))
    found: dict[str, tuple[int, str, bytes]] = {}
    with TopicReader(settings, settings.topic("scores")) as reader:
        for record in reader.until_end(from_offsets=reader.since(begin)):
            value = record.value or b"{}"
            head = decision_head(value)
            partition, offset = head.origin
            if not epochs.holds(head.epoch, head.origin):
                continue
            name = head.transaction_id
            if offset < starts.get(partition, offset + 1) or name in found:
                continue
            if head.action == "approve":
                found[name] = (partition, name, value)
            elif name in activity:  # without its alert it was not emitted whole: it will be decided again
                found[name] = (partition, name, recorded_bytes(value, activity[name]))
    return list(found.values())


def _time_of(settings: Settings, starts: Mapping[int, int]) -> int:
    """Kafka's time of the earliest of these events, milliseconds; 0 where one is gone."""
    times = []
    with TopicReader(settings, settings.topic("transactions")) as reader:
        for partition, offset in starts.items():
            reader.start({partition: offset})
            records = reader.poll(10.0, 1)
            times.append(records[0].timestamp_ms if records else _SLACK_MS)
    return min(times)
