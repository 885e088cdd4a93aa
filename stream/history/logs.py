"""The logs of an installation as a replay reads them: labels with their status, decisions as served."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from models.features.spec import FeatureSpec
from models.scoring.registry import why_not
from stream.adapters.clients import redis_client
from stream.adapters.kafka.admin import check_topics
from stream.adapters.kafka.scan import Progress
from stream.adapters.redis.dump import RedisDump
from stream.config.factories import new_model
from stream.config.settings import Settings
from stream.decisions import split_recorded
from stream.history.join import FirstDecisions, pack_place
from stream.history.labels import ResolvedLabel
from stream.history.topics import TopicHistory
from stream.ports import DependencyDown
from stream.views import NO_FEATURES, ServedDecision, features_of_json, read_served_decision, served_decision


class Logs:
    """Reads topics, and what waits in Redis where that answers.

    Args:
        settings: those that the workers run with.
        progress: called now and then with a topic, the messages read of it and how many it seemed to hold.

    Attributes:
        topics: read from the side.
        labels: after `read_labels` and all of `decisions`, ready to be played.
        remarks: what could not be told, for people.
    """

    def __init__(self, settings: Settings, *, progress: Progress | None = None) -> None:
        check_topics(settings)
        self.settings = settings
        self.remarks: list[str] = []
        self.topics = TopicHistory(settings, progress)
        self.spec = self.topics.spec
        self.labels = self.topics.new_labels()
        self._dump: RedisDump | None = None

    def read_labels(self) -> None:
        """Take the log of labels in, and which of them expired while they waited for their transaction.

        Raises:
            DependencyDown: Kafka does not answer, or a topic is missing.
        """
        start = self.topics.starts("labels")[0]
        if start:
            self.remarks.append(f"the log of labels begins at {start}: models that saw what is gone differ")
        for record, letter in self.topics.dead_letters():
            if letter.topic == "labels":
                self.labels.add_dead_letter(record.key, letter)
        for record in self.topics.records("labels"):
            self.labels.add(record)
        try:
            dump = RedisDump(redis_client(self.settings), self.settings.shards, self.settings.redis_prefix)
            for name, entry in dump.pending():
                self.labels.add_pending(name, entry)
            self._dump = dump
        except DependencyDown as down:
            self.remarks.append(f"labels that wait still were not looked at: {down}")

    def decisions(self) -> Iterator[tuple[ServedDecision, bytes]]:
        """The first decision of every event, with its features where they can be had.

        Raises:
            DependencyDown: as above.
        """
        firsts: dict[int, FirstDecisions] = {}  # the same place of another epoch is another event
        for batch in self.topics.batches("scores"):
            found = []
            for record in batch:
                decision = read_served_decision(record.value)
                if decision is None:
                    continue
                if firsts.setdefault(decision.epoch, FirstDecisions()).add(decision.origin):
                    found.append((decision, record.value or b""))
            yield from self._with_features(found)

    def _with_features(
        self, found: list[tuple[ServedDecision, bytes]]
    ) -> Iterator[tuple[ServedDecision, bytes]]:
        """What the setting keeps off the topic is taken from Redis."""
        bare = [decision.transaction_id for decision, _ in found if decision.features == NO_FEATURES]
        recorded = dict(zip(bare, self._dump.recorded(bare), strict=True)) if bare and self._dump else {}
        for decision, value in found:
            pair = (decision, value)
            if (raw := recorded.get(decision.transaction_id)) is not None:
                line, _ = split_recorded(raw)
                pair = (served_decision(line), line)
            if self.labels.wants(decision.transaction_id):
                self.labels.add_decision(decision.transaction_id, pair[1])
            yield pair


class RebuiltModels:
    """Models as the learner had them: they learn what the replay of the labels says, in its order.

    Args:
        settings: those that the workers run with.
        spec: the features.
        names: of the models; an installation may have had several, one after the other.
        before: called before the label at an offset is learned.

    Attributes:
        models: by name.
        learned: examples that each has seen.
    """

    def __init__(
        self,
        settings: Settings,
        spec: FeatureSpec,
        names: Iterable[str],
        before: Callable[[int], None] = lambda _offset: None,
    ) -> None:
        self.models: dict[str, Any] = {name: new_model(settings, spec, name) for name in names}
        self.learned = 0
        self._before = before

    def __call__(self, resolved: ResolvedLabel) -> None:
        """The next label of the log."""
        self._before(resolved.offset)
        if resolved.features and resolved.features != bytes(NO_FEATURES):
            features = features_of_json(resolved.features)
            for model in self.models.values():
                model.learn_one(features, resolved.is_fraud)
            self.learned += 1


def parse_version(version: str, configured: str = "default") -> tuple[str, int] | None:
    """A model's name and how many labels of the log it has seen; -1 before the first; None for no model's.

    Args:
        version: as decisions name it.
        configured: the setting `model`: a function is taken from there, and never from what a topic says.

    >>> parse_version("hoeffding-tree@42"), parse_version("unsupervised-1"), parse_version("mine@42")
    (('hoeffding-tree', 42), ('', -1), None)
    >>> parse_version("mine:model@42", configured="mine:model"), parse_version("os:abort@42")
    (('mine:model', 42), None)
    """
    if version.startswith("unsupervised-"):
        return "", -1
    name, _, offset = version.rpartition("@")
    is_known = name == configured if ":" in name else not why_not(name, to_serve=True)
    return (name, int(offset)) if is_known and offset.isdigit() else None


class Places:
    """Where the decisions of one model version stand, in the order of their events: 16 bytes each."""

    def __init__(self) -> None:
        self._events = array("Q")
        self._places = array("Q")

    def __len__(self) -> int:
        return len(self._events)

    def add(self, origin: tuple[int, int], place: int) -> None:
        """The decision of an event (partition and offset)."""
        self._events.append(pack_place(origin))
        self._places.append(place)

    def in_order(self) -> Iterator[int]:
        """The places, by partition and offset of their events."""
        for at in sorted(range(len(self._events)), key=self._events.__getitem__):
            yield self._places[at]
