"""What a group has not acknowledged, counted in records: offsets that hold none are not waited for.

A transaction ends with a marker, which takes an offset; what was aborted takes its offsets, too. A worker
counts those that it passes, and has the count in the metadata of its commits.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import NamedTuple

from confluent_kafka import KafkaException, TopicPartition

from stream.adapters.kafka.admin import committed_places
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.reader import TopicReader
from stream.adapters.kafka.scan import Spans, batches_to_end, reading_consumer, unreadable
from stream.config.settings import Settings
from stream.records import passed_of

COUNTED_AT_MOST = 200_000
"""Offsets of a partition: what lies further behind is counted by its offsets, for it takes time to read."""


class Progress(NamedTuple):
    """How far a group is on a partition.

    Attributes:
        acknowledged: the next offset to be worked on, at the start of the log or behind it.
        passed: offsets before it that hold no record.
        lag: records behind it that are committed.
        end: the offset up to which they are counted.
    """

    acknowledged: int
    passed: int
    lag: int
    end: int


def _metadata(place: TopicPartition) -> str | None:
    """The metadata of a commit; None where it is no text (a client's that did not end it with a NUL)."""
    try:
        return place.metadata
    except UnicodeDecodeError:
        return None


def progress_of(
    settings: Settings, group: str, topic: str, *, bounds: Mapping[int, tuple[int, int]] | None = None
) -> dict[int, Progress]:
    """How far a group is on each partition of a topic.

    Args:
        settings: addresses and credentials.
        group: its full name.
        topic: its full name.
        bounds: of each partition the first offset and the one after the last; None: as they are now.

    Raises:
        DependencyDown: Kafka does not answer, or has no such topic.
    """
    if bounds is None:
        with TopicReader(settings, topic) as reader:
            bounds = reader.bounds()
    found: dict[int, Progress] = {}
    for place in committed_places(settings, group, topic, bounds):
        low, high = bounds[place.partition]
        at = max(place.offset, low)
        # The embedded broker's word on where a topic ends comes late: what was worked on is there.
        end = max(high, at)
        found[place.partition] = Progress(at, passed_of(_metadata(place)).number, end - at, end)
    spans = {
        number: (each.acknowledged, each.end)
        for number, each in found.items()
        if 0 < each.lag <= COUNTED_AT_MOST
    }
    for number, count in count_records(settings, topic, spans).items():
        found[number] = found[number]._replace(lag=count)
    return found


def count_records(settings: Settings, topic: str, spans: Spans) -> dict[int, int]:
    """How many records ranges of a topic hold.

    Args:
        settings: addresses and credentials.
        topic: its full name.
        spans: of partitions, the first offset and the one after the last.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    counts = dict.fromkeys(spans, 0)
    if not counts:
        return counts
    with closing(reading_consumer(confluent(settings))) as consumer:
        try:
            consumer.assign([TopicPartition(topic, number, start) for number, (start, _) in spans.items()])
            unread = set(spans)
            for batch in batches_to_end(consumer, topic, unread):
                for record in batch:
                    start, end = spans[record.partition]
                    if start <= record.offset < end:
                        counts[record.partition] += 1
                    if record.offset + 1 >= end:
                        unread.discard(record.partition)
        except KafkaException as error:
            raise unreadable(confluent(settings), topic, error) from error
    return counts
