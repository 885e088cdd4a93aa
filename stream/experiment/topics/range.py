"""Which messages of the topics an experiment is about: offsets, so that another run reads the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from models.features.spec import FeatureSpec
from producers.sources.open_source import SourceError
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.reader import TopicReader
from stream.adapters.kafka.scan import bounds_of
from stream.config.settings import Settings
from stream.messages import Decision, Transaction
from stream.ports import DependencyDown

Offsets = dict[str, dict[int, tuple[int, int]]]
Events = Literal["transactions", "scores"]

LABELS = "labels"


class TopicRange(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of an installation's topics.

    Attributes:
        settings: where they are, and what is admitted as workers admit it.
        events: the topic that payments are taken from.
        offsets: of the topics (without prefix), by partition: the first offset and the one after the last.
        start, end: payments from this event time on, and before it; None: all that there are.
    """

    settings: Settings
    events: Events
    offsets: Offsets
    start: datetime | None = None
    end: datetime | None = None

    @property
    def records(self) -> int:
        """Messages that payments are taken from."""
        return sum(high - low for low, high in self.offsets[self.events].values())

    @property
    def options(self) -> tuple[str, ...]:
        """What the command line needs to read the same messages again."""
        return tuple(
            word
            for name, parts in self.offsets.items()
            for word in ("--offsets", name + "=" + ",".join(f"{low}:{high}" for low, high in parts.values()))
        )


def find_range(
    settings: Settings,
    *,
    events: Events = "transactions",
    start: datetime | None = None,
    end: datetime | None = None,
    offsets: Iterable[str] = (),
) -> TopicRange:
    """The range as the topics stand now, or as an earlier run named it.

    Args:
        settings: where the topics are.
        events: the topic that payments are taken from.
        start: payments from this event time on.
        end: payments before this event time.
        offsets: TOPIC=LOW:HIGH,LOW:HIGH,... by partition, as `TopicRange.options` says them; none: all.

    Raises:
        SourceError: the range is empty, or cannot be read as it is named.
        TopicUnreadableError: Kafka does not answer, or has no such topic.
    """
    if start is not None and end is not None and end <= start:
        raise SourceError("--to: it must lie after --from; that moment itself is not included")
    asked = _parsed(offsets, (events, LABELS))
    there = {name: bounds_of(confluent(settings), settings.topic(name)) for name in (events, LABELS)}
    found: Offsets = {}
    for name, bounds in there.items():
        if name in asked:
            found[name] = _checked(settings.topic(name), asked[name], bounds)
        elif start is not None and not asked:
            found[name] = _since(settings, name, start, bounds)
        else:
            found[name] = dict(bounds)
    result = TopicRange(settings=settings, events=events, offsets=found, start=start, end=end)
    if not result.records:
        why = "the topic is empty" if start is None else f"it holds nothing from {start.isoformat()} on"
        raise SourceError(f"{settings.topic(events)}: the range has no message: {why}")
    return result


def _since(
    settings: Settings, name: str, start: datetime, bounds: Mapping[int, tuple[int, int]]
) -> dict[int, tuple[int, int]]:
    """Leave out what came to Kafka so early that it cannot belong to the range.

    An event is admitted only where it is dated at most `future_tolerance` after its record.
    """
    early = timedelta(seconds=float(settings.future_tolerance))
    if name == LABELS:  # a label that comes before its payment waits for it so long
        early += timedelta(seconds=float(settings.label_wait))
    try:
        with TopicReader(settings, settings.topic(name)) as reader:
            first = reader.since(int((start - early).timestamp() * 1000))
    except DependencyDown:  # not every broker knows offsets by time: everything is read then
        return dict(bounds)
    return {
        number: (min(max(low, first.get(number, low)), high), high) for number, (low, high) in bounds.items()
    }


def _parsed(texts: Iterable[str], names: Iterable[str]) -> dict[str, list[tuple[int, int]]]:
    known = tuple(names)
    found: dict[str, list[tuple[int, int]]] = {}
    for text in texts:
        name, _, parts = text.partition("=")
        pairs = [part.partition(":")[::2] for part in parts.split(",")]
        if name not in known or not all(low.isdecimal() and high.isdecimal() for low, high in pairs):
            raise SourceError(
                f"--offsets {text}: write TOPIC=LOW:HIGH,LOW:HIGH,... with a pair for each partition and "
                f"{' or '.join(known)} as the topic"
            )
        found[name] = [(int(low), int(high)) for low, high in pairs]
    return found


def _checked(
    topic: str, asked: list[tuple[int, int]], bounds: Mapping[int, tuple[int, int]]
) -> dict[int, tuple[int, int]]:
    if len(asked) != len(bounds):
        raise SourceError(f"--offsets: {topic} has {len(bounds)} partitions, and {len(asked)} are named")
    found = dict(zip(sorted(bounds), asked, strict=True))
    for number, (low, high) in found.items():
        first, end = bounds[number]
        if low > high or (low < high and not first <= low <= high <= end):
            raise SourceError(
                f"--offsets: {topic}/{number} holds {first}:{end} now, and {low}:{high} is asked for: "
                "what retention has taken cannot be read again"
            )
    return found


def fields_missing(spec: FeatureSpec, installed: FeatureSpec) -> list[str]:
    """What the features need of a payment and a decision does not tell.

    Args:
        spec: what the features are made of.
        installed: the specification that the decisions were made with: an entity of one field names it.
    """
    needed = {field for entity in spec.entities for field in entity.fields}
    for entity in spec.entities:
        if "novelty" in entity.statistics:
            needed |= {"merchant_id", "device_id"}
        if "travel" in entity.statistics:
            needed |= {"country", "latitude", "longitude"}
    told = {
        *Decision.__struct_fields__,
        *(each.fields[0] for each in installed.entities if not each.fields[1:]),
    }
    return [field for field in Transaction.__struct_fields__ if field in needed - told]
