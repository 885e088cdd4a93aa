"""What a replay puts in place of a worker's world: its clock, its outbox, its counters. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import msgspec

from models.features.profiles import ProfileSnapshot
from stream.dead_letters import DeadLetter
from stream.decisions import Arrival
from stream.messages import Decision
from stream.pipeline import REDELIVERED, Pipeline, Scorer
from stream.ports import EventUpdate, Message

SCORES, ALERTS, DEAD, LABELS = "scores", "alerts", "dead-letters", "labels"


class ReplayCounts(msgspec.Struct, kw_only=True):
    """What became of the items so far: `transactions = decided + duplicates + rejected`.

    Attributes:
        duplicates: transactions whose id was decided before; not written again.
        rejected: transactions and labels that a worker would make dead letters; `why` is of the first.
        labels: learned from the log, the assumed ones included.
        models: versions that scored; `model` is the last of them.
    """

    transactions: int = 0
    decided: int = 0
    duplicates: int = 0
    alerts: int = 0
    rejected: int = 0
    why: str = ""
    labels: int = 0
    silent: int = 0
    learned: int = 0
    models: int = 0
    model: str = ""


class EventTimePipeline(Pipeline):
    """Stamps a decision with its transaction's own time: a batch has no moment of its own here."""

    counts: ReplayCounts

    def _decide(
        self,
        arrival: Arrival,
        update: EventUpdate,
        snapshot: tuple[ProfileSnapshot, ...],
        model: Scorer,
        now: datetime,
    ) -> Decision:
        now = arrival.transaction.event_time.astimezone(UTC)
        if model.version != self.counts.model:
            self.counts.models += 1
            self.counts.model = model.version
        return super()._decide(arrival, update, snapshot, model, now)


class Outlet:
    """Where messages of the replayed workers go: into each other's input, or into the counts."""

    def __init__(self, counts: ReplayCounts, label: Callable[[Message], None]) -> None:
        self.decisions: list[bytes] = []
        self._counts = counts
        self._label = label

    def send(self, messages: Iterable[Message]) -> None:
        """See `Outbox.send`."""
        for message in messages:
            if message.topic == SCORES:
                self.decisions.append(message.value or b"")
                self._counts.duplicates += message.headers == REDELIVERED
            elif message.topic == ALERTS:
                self._counts.alerts += message.headers != REDELIVERED
            elif message.topic == LABELS:
                self._label(message)
            else:
                self._counts.rejected += 1
                letter = DeadLetter.parse(message.headers)
                assert letter is not None, "the pipeline and the learner write dead letters alone"
                place = f"{letter.topic.removesuffix('s')} {letter.offset}"
                self._counts.why = self._counts.why or f"{place}: {letter.detail}"
