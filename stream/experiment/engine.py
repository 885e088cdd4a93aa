"""The pass over the data: predict, wait for the label, learn. The functions are those of the workers.

    transaction -> entities -> read, then update -> features -> every model scores
    label       -> label profiles of its entities -> every model learns (all frauds, some genuine)

A label stands in the stream where it becomes known, so nothing here can know it earlier.
"""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from math import inf, log1p
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.features.compute import entities_of, event_of, label_delta_of, row_of
from models.features.places import CATEGORICAL
from models.features.profiles import EntityState
from models.features.vector import Example, Row
from models.metrics.drift import DAY, ERROR, FRAUD_LOSS, INPUT, SCORE, DriftFound, DriftWatch, fraud_loss
from models.scoring.sums import added
from stream.experiment.candidate import Candidate
from stream.experiment.engine_settings import EngineSettings
from stream.experiment.entity_states import EntityStates, learn, update
from stream.learning import is_sampled
from stream.messages import Label, Transaction

__all__ = ["Alarm", "DayCost", "Engine", "EngineSettings"]

REMEMBERED = 200_000  # transactions, at least, among which a second one of the same id is found
EXPLAINED = 8  # of so many learned genuine transactions one is explained; every fraud is
RARELY = (50_000, 20, 100)  # allocations and generations between two looks of the garbage collector
TOLD = 4096  # items between two calls of the progress
LOOK = INPUT.values  # transactions between two looks of the detectors at amounts and scores


class Alarm(NamedTuple):
    """A drift that was found, and for which model (empty: the input)."""

    model: str
    found: DriftFound


class DayCost(NamedTuple):
    """At the beginning of a day: transactions so far, CPU so far (shared, and of each candidate), ns."""

    time: float
    rows: int
    cpu: int
    models: dict[str, int]


class UnlabelledEvent:
    """A transaction whose label is not known yet."""

    __slots__ = ("known", "row", "time", "x")

    def __init__(self, row: int, time: float, known: tuple[EntityState, ...], x: Row) -> None:
        self.row = row
        self.time = time
        self.known = known  # of its entities
        self.x = x


class Engine:
    """One pass. After `run` (or in the middle of it) the columns hold an entry for each transaction.

    Args:
        candidates: the models, each with a name of its own.
        settings: how the pass is made.

    Attributes:
        times, amounts, cards, fraud, known_at: by transaction; `fraud` is -1 while nothing is known.
        duplicates: second transactions of an id, left out; the first of them is `first_duplicate`.
        unmatched: labels without a transaction, or after the first one of a transaction.
    """

    def __init__(self, candidates: Sequence[Candidate], settings: EngineSettings) -> None:
        self.candidates = list(candidates)
        self.settings = settings
        self.entities = EntityStates(len(settings.spec.half_lives))
        self.times = array("d")
        self.amounts = array("d")
        self.cards = array("q")
        self.fraud = array("b")
        self.known_at = array("d")
        self._kinds = array("l")
        self._kind_codes: dict[tuple[str | None, ...], int] = {}
        self.currencies: set[str] = set()
        self.duplicates = 0
        self.first_duplicate: str | None = None
        self.unmatched = 0
        self.alarms: list[Alarm] = []
        self.days: list[DayCost] = []
        self.card_codes: dict[str, int] = {}
        self._waiting: dict[str, UnlabelledEvent] = {}
        self._seen: tuple[set[str], set[str]] = (set(), set())
        self._next_day = -1.0
        self._freeze_at = inf if settings.freeze_at is None else settings.freeze_at
        self._genuine = 0
        self._finished: DayCost | None = None
        self._next_look = LOOK
        self._input = DriftWatch("input.amount_log", INPUT)
        self._watches = {
            one.name: (
                DriftWatch("score", SCORE),
                DriftWatch("error", ERROR),
                DriftWatch("fraud_loss", FRAUD_LOSS),
            )
            for one in candidates
            if not one.is_frozen
        }

    def run(
        self,
        items: Iterable[Transaction | Label],
        *,
        progress: Callable[[int, float], None] = lambda _rows, _time: None,
    ) -> None:
        """Go through the items, in their order.

        Args:
            items: transactions by `event_time`, labels by `known_at`.
            progress: called now and then with transactions so far and the event time, seconds.

        Raises:
            ModelFailedError: a model raised.
        """
        thresholds = gc.get_threshold()
        # The pass makes no cycles, but many objects that live for days of events: look for cycles rarely.
        gc.set_threshold(*RARELY)
        try:
            for count, item in enumerate(items):
                if isinstance(item, Transaction):
                    self._decide(item)
                else:
                    self._learn(item)
                if count % TOLD == 0:
                    progress(len(self.times), self.times[-1] if self.times else 0.0)
        finally:
            gc.set_threshold(*thresholds)
            for candidate in self.candidates:
                candidate.settle()
            if self.times:
                self._finished = self._cost(self.times[-1])

    def _decide(self, payment: Transaction) -> None:
        name = payment.transaction_id
        recent, before = self._seen
        if name in recent or name in before:
            self.duplicates += 1
            self.first_duplicate = self.first_duplicate or name
            return
        recent.add(name)
        if len(recent) >= REMEMBERED:
            self._seen = (set(), recent)

        spec = self.settings.spec
        entities = entities_of(payment, spec)
        event = event_of(payment, spec)
        if event.time >= self._next_day:
            self._begin_day(event.time)
        if event.time >= self._freeze_at:
            self._freeze()
        known = self.entities.of(entities)
        x = row_of(payment, event, tuple([kind for kind, _, _ in entities]), known, spec)
        update(known, event, entities)  # after the features: an event does not vouch for itself
        for candidate, given in _given(self.candidates, x):
            candidate.score(given, name)

        self._waiting[name] = UnlabelledEvent(len(self.times), event.time, known, x)
        self.times.append(event.time)
        self.amounts.append(event.amount)
        self.cards.append(self.card_codes.setdefault(payment.card_id, len(self.card_codes)))
        self.fraud.append(-1)
        self.known_at.append(inf)
        kind = (payment.country, payment.category, payment.channel)
        self._kinds.append(self._kind_codes.setdefault(kind, len(self._kind_codes)))
        self.currencies.add(payment.currency)
        if len(self.times) >= self._next_look:
            self._look()

    def segments(self) -> dict[str, tuple[NDArray[np.int64], list[str | None]]]:
        """By name, a code for each transaction, and what each code stands for."""
        kinds = np.array(self._kinds, dtype=np.int64)
        found: dict[str, tuple[NDArray[np.int64], list[str | None]]] = {}
        if not self._kind_codes:
            return found
        for name, parts in zip(CATEGORICAL, zip(*self._kind_codes, strict=True), strict=True):
            codes: dict[str | None, int] = {None: 0}
            of_kind = np.array([codes.setdefault(part, len(codes)) for part in parts])
            found[name] = of_kind[kinds], list(codes)
        return found

    def _learn(self, label: Label) -> None:
        name = label.transaction_id
        waiting = self._waiting.pop(name, None)
        if waiting is None:
            self.unmatched += 1
            return
        row, happened, x = waiting.row, waiting.time, waiting.x
        is_fraud = label.is_fraud
        self.fraud[row] = is_fraud
        self.known_at[row] = label.known_at.timestamp()
        learn(waiting.known, label_delta_of(name, happened, is_fraud, self.settings.spec))
        for candidate in self.candidates:
            if not candidate.is_frozen:
                self._watch(candidate, row, is_fraud)
        if not is_fraud and not is_sampled(name, self.settings.negative_sampling_rate):
            return
        self._genuine += not is_fraud
        is_told = happened >= self.settings.explain_from and (is_fraud or self._genuine % EXPLAINED == 0)
        learning = [candidate for candidate in self.candidates if not candidate.is_frozen]
        for candidate, given in _given(learning, x):
            if is_told:
                candidate.explain(given, is_fraud, name)
            candidate.learn(given, is_fraud, name)

    def _watch(self, candidate: Candidate, row: int, is_fraud: bool) -> None:
        if candidate.own_from is None or row < candidate.own_from:
            return  # the anomaly score served: what it got wrong says nothing of the model
        _, error, loss = self._watches[candidate.name]
        if row >= len(candidate.alerted):
            candidate.settle()
        wrong = candidate.alerted[row] != is_fraud
        now = self.times[-1]
        self._alarm(candidate.name, error.update(float(wrong), event_time=now))
        if is_fraud:
            lost = fraud_loss(candidate.scores[row])
            self._alarm(candidate.name, loss.update(lost, event_time=now))

    def _look(self) -> None:
        """Show the last transactions to the detectors, many at once: one by one takes as long as a score."""
        end = len(self.times)
        since, now = self.times[end - LOOK], self.times[-1]
        self._next_look = end + LOOK
        amounts = added(map(log1p, self.amounts[end - LOOK :]))
        self._alarm("", self._input.update_many(LOOK, amounts, since=since, event_time=now))
        for candidate in self.candidates:
            own = candidate.own_from
            if candidate.is_frozen or own is None or own > end - LOOK:
                continue
            if len(candidate.scores) < end:
                continue  # it scores many at once, and has not yet
            scores = added(candidate.scores[end - LOOK :])
            score, *_ = self._watches[candidate.name]
            self._alarm(candidate.name, score.update_many(LOOK, scores, since=since, event_time=now))

    def _alarm(self, model: str, found: DriftFound | None) -> None:
        if found is not None:
            self.alarms.append(Alarm(model, found))

    def _begin_day(self, now: float) -> None:
        """Thresholds hold for a day, as a policy that people work by should."""
        for candidate in self.candidates:
            candidate.refresh()
        start = now // DAY * DAY
        self.days.append(self._cost(start))
        self._next_day = start + DAY

    @property
    def finished(self) -> DayCost:
        """As at the beginning of a day, but when the pass ended."""
        assert self._finished is not None, "there was a pass"
        return self._finished

    def _cost(self, now: float) -> DayCost:
        costs = {candidate.name: candidate.cpu for candidate in self.candidates}
        return DayCost(now, len(self.times), time.thread_time_ns(), costs)

    def _freeze(self) -> None:
        self.candidates += [candidate.frozen() for candidate in list(self.candidates)]
        self._freeze_at = inf


def _given(candidates: list[Candidate], x: Row) -> list[tuple[Candidate, Example]]:
    """Candidates, each with features in the form that it takes."""
    by_name = None
    result: list[tuple[Candidate, Example]] = []
    for candidate in candidates:
        if candidate.takes_rows:
            result.append((candidate, x))
        else:
            by_name = x.named() if by_name is None else by_name
            result.append((candidate, by_name))
    return result
