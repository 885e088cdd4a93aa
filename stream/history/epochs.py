"""Where epochs of a log stand for good: on the topic `drift`, one signal a partition that was begun anew."""

from __future__ import annotations

from datetime import datetime

import msgspec

from stream.adapters.kafka.reader import TopicReader
from stream.config.settings import Settings
from stream.messages import DriftSignal, encode
from stream.ports import Message
from stream.records import Epoch, Epochs
from stream.views import UNREADABLE

_decode = msgspec.json.Decoder(DriftSignal).decode
_SEGMENT = "partition="


def epoch_signals(settings: Settings, name: str, epoch: Epoch, at: datetime) -> list[Message]:
    """An epoch of a topic (its name without prefix), as it is written to `drift`."""
    signals = [
        DriftSignal(
            signal=f"epoch.{name}",
            kind="epoch",
            event_time=at,
            value=float(start),
            reference=float(epoch.number),
            detector="adopt",
            segment=f"{_SEGMENT}{partition}",
        )
        for partition, start in epoch.starts.items()
    ]
    return [Message(settings.topic("drift"), signal.signal.encode(), encode(signal)) for signal in signals]


def epochs_of(values: list[bytes], name: str) -> Epochs:
    """The epochs of a topic that messages of `drift` tell of; of one told twice, the later word counts."""
    found: dict[int, dict[int, int]] = {}
    for value in values:
        if b'"epoch"' not in value:
            continue
        try:
            signal = _decode(value)
        except UNREADABLE:
            continue
        partition = signal.segment.removeprefix(_SEGMENT)
        if signal.signal == f"epoch.{name}" and signal.reference is not None and partition.isdigit():
            found.setdefault(int(signal.reference), {})[int(partition)] = int(signal.value)
    return Epochs([Epoch(number, found[number]) for number in sorted(found)])


def epochs_on_topic(settings: Settings, name: str) -> Epochs:
    """The epochs of a topic, as `drift` tells them.

    Raises:
        DependencyDown: Kafka does not answer, or the topic is missing.
    """
    with TopicReader(settings, settings.topic("drift")) as reader:
        return epochs_of([record.value or b"" for record in reader.until_end()], name)
