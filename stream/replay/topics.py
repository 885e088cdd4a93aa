"""Every score of an installation again: models from the log of labels, scores from the features as served.

A version NAME@OFFSET is the model that has learned the labels below OFFSET. So the labels are played once, in
the order of their log, and where a version is reached every decision that names it is made again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from stream.adapters.kafka.scan import Progress
from stream.config.factories import policy_of
from stream.config.settings import Settings
from stream.history.logs import Logs, Places, RebuiltModels, parse_version
from stream.messages import Decision, decision_decoder, encode
from stream.pipeline import Scorer
from stream.replay.store import DecisionFile
from stream.serving import first_model, rescored, served
from stream.views import NO_FEATURES

MOST_EXAMPLES = 10


class Difference(msgspec.Struct, frozen=True):
    """A decision that was not made again as it was."""

    transaction_id: str
    model_version: str
    recorded: float
    rebuilt: float | None


class RescoredTopics(msgspec.Struct, kw_only=True):
    """What was made again.

    Attributes:
        decisions: found on the topic, each event's first.
        scores: rebuilt, equal to the bit.
        whole: decisions equal to the byte: action, reasons and their contributions too.
        versions: models that decisions name; `learned`: examples that the last of them has seen.
        featureless: decisions whose features are neither on the topic nor in Redis.
        unknown: decisions whose model the log of labels cannot give.
        differences: scores that differ, the first of them.
    """

    decisions: int = 0
    scores: int = 0
    whole: int = 0
    versions: int = 0
    learned: int = 0
    featureless: int = 0
    unknown: int = 0
    different: int = 0
    differences: list[Difference] = []
    remarks: list[str] = []

    @property
    def is_exact(self) -> bool:
        """Every score that there is was rebuilt to the bit."""
        return not (self.different or self.unknown)


def rebuild_scores(settings: Settings, out: Path, *, progress: Progress | None = None) -> RescoredTopics:
    """Make every decision again and write it, in the order of model versions and of events.

    Args:
        settings: those that the workers run with.
        out: JSON lines.
        progress: called now and then with what is worked on, how much of it is done and how much there is.

    Raises:
        TopicUnreadableError, TopicMismatch, DependencyDown: Kafka does not answer, or has other topics.
        OSError: the file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="riverwatch-replay-") as folder:
        spool = DecisionFile(Path(folder) / "decisions")
        written = DecisionFile(out)
        try:
            return _Rebuild(settings, spool, written, progress).run()
        finally:
            spool.close()
            written.close()


class _Rebuild:
    def __init__(
        self, settings: Settings, spool: DecisionFile, out: DecisionFile, progress: Progress | None
    ) -> None:
        self._settings = settings
        self._policy = policy_of(settings)
        self._spool = spool
        self._out = out
        self._progress = progress or (lambda *_: None)
        self._logs = Logs(settings, progress=progress)
        self._found = RescoredTopics()
        self._versions: dict[str, Places] = {}
        self._coming: list[tuple[int, str, str]] = []
        self._made = 0

    def run(self) -> RescoredTopics:
        logs, found = self._logs, self._found
        logs.read_labels()
        for decision, value in logs.decisions():
            found.decisions += 1
            if decision.features == NO_FEATURES:
                found.featureless += 1
                continue
            place = self._spool.append(value)
            self._versions.setdefault(decision.model_version, Places()).add(decision.origin, place)
        self._spool.flush()
        found.versions = len(self._versions)
        for version in self._versions:
            name, offset = parse_version(version, self._settings.model) or ("", logs.labels.end + 1)
            if offset <= logs.labels.end:
                self._coming.append((offset, version, name))
            else:
                self._give_up(version)
        self._coming.sort(reverse=True)
        names = dict.fromkeys(name for *_, name in self._coming if name)
        learner = RebuiltModels(self._settings, logs.spec, names, self._reached)
        self._learner = learner
        logs.labels.play(learner)
        self._reached(logs.labels.end)
        found.learned = learner.learned
        found.remarks = logs.remarks
        return found

    def _reached(self, offset: int) -> None:
        """The model has learned the labels below an offset: make again what it decided."""
        while self._coming and self._coming[-1][0] <= offset:
            _, version, name = self._coming.pop()
            model = (
                served(version, self._learner.models[name], self._policy)
                if name
                else first_model(self._policy)
            )
            for place in self._versions.pop(version).in_order():
                self._make(self._spool.read(place), model)

    def _make(self, value: bytes, model: Scorer) -> None:
        found = self._found
        recorded = decision_decoder.decode(value)
        rebuilt = rescored(recorded, model, self._policy)
        line = encode(rebuilt)
        self._out.append(line)
        found.whole += line == value
        if rebuilt.score == recorded.score:
            found.scores += 1
        else:
            self._differs(recorded, rebuilt.score)
        self._made += 1
        if self._made % 1000 == 0:
            self._progress("decisions", self._made, found.decisions)

    def _give_up(self, version: str) -> None:
        places = self._versions[version]
        self._found.unknown += len(places)
        self._found.remarks.append(
            f"{len(places):,} decisions name {version}, and the log of {self._logs.labels.end:,} labels "
            "gives no such model"
        )

    def _differs(self, recorded: Decision, score: float) -> None:
        self._found.different += 1
        if len(self._found.differences) < MOST_EXAMPLES:
            self._found.differences.append(
                Difference(recorded.transaction_id, recorded.model_version, recorded.score, score)
            )
