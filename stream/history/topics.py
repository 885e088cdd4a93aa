"""The topics of an installation as every look at its past reads them: whole, from the side."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from models.features.spec import FeatureSpec
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.reader import TopicReader
from stream.adapters.kafka.scan import Progress, read_to_end
from stream.config.factories import feature_spec, limits_of
from stream.config.settings import Settings
from stream.dead_letters import DeadLetter
from stream.history.epochs import epochs_on_topic
from stream.history.labels import ReplayedLabels
from stream.records import Epochs, Record


class TopicHistory:
    """Reads topics, by the names they have without a prefix. No group is joined and nothing is committed.

    Args:
        settings: those that the workers run with.
        progress: called now and then with a topic, the messages read of it and how many it seemed to hold.

    Attributes:
        spec: the features.

    Whatever reads raises `DependencyDown` where Kafka does not answer or a topic is missing.
    """

    def __init__(self, settings: Settings, progress: Progress | None = None) -> None:
        self.settings = settings
        self.spec: FeatureSpec = feature_spec(settings)
        self._progress = progress
        self._client = confluent(settings)

    @cached_property
    def epochs(self) -> Epochs:
        """Of the transactions: which decisions are of the events that stand there now."""
        return epochs_on_topic(self.settings, "transactions")

    def new_labels(self) -> ReplayedLabels:
        """What takes the log of labels in, and plays it by the rules of the settings."""
        settings = self.settings
        ttl = float(settings.decision_ttl)
        return ReplayedLabels(self.spec, limits_of(settings), settings.negative_sampling_rate, ttl)

    def batches(self, topic: str) -> Iterator[list[Record]]:
        """Everything in a topic, each partition in the order of its offsets."""
        return read_to_end(self._client, self.settings.topic(topic), progress=self._progress)

    def records(self, topic: str) -> Iterator[Record]:
        """The same, one by one."""
        for batch in self.batches(topic):
            yield from batch

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """Of each partition the first offset and the one after the last."""
        with TopicReader(self.settings, self.settings.topic(topic)) as reader:
            return reader.bounds()

    def starts(self, topic: str) -> dict[int, int]:
        """Of each partition the first offset that is still there."""
        return {number: low for number, (low, _) in self.bounds(topic).items()}

    def dead_letters(self) -> Iterator[tuple[Record, DeadLetter]]:
        """The dead letters that say which event or label they are about; `topic` is without prefix.

        Those of events whose log is gone are left out: another event stands at their place.
        """
        names = {self.settings.topic(name): name for name in ("transactions", "labels")}
        for record in self.records("dead-letters"):
            letter = DeadLetter.parse(record.headers)
            if letter is None or letter.topic not in names:
                continue
            if names[letter.topic] == "labels" or self.epochs.holds(letter.epoch, letter.place):
                yield record, letter._replace(topic=names[letter.topic])
