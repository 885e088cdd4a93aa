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
from typing import NamedTuple

import msgspec

from models.drift import DAY, DriftFound, Watch
from models.feature_spec import FeatureSpec
from models.features import entities_of, event_of, features_of
from models.profiles import Knowledge, Weight
from stream.experiment.contestant import Contestant
from stream.experiment.knowledge import Entities, KnownEntities
from stream.learning import is_chosen
from stream.messages import Label, Transaction

SEGMENTS = ("country", "category", "channel")
REMEMBERED = 200_000  # transactions, at least, among which a second one of the same id is found
EXPLAINED = 8  # of so many learned genuine transactions one is explained; every fraud is
RARELY = (50_000, 20, 100)  # allocations and generations between two looks of the garbage collector
TOLD = 4096  # items between two calls of the progress


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the pass is made.

    Attributes:
        spec: what the features are made of.
        genuine_rate: share of the genuine transactions that is learned.
        freeze_at: event time, seconds, from which a frozen copy of every model runs beside it.
        explain_from: event time, seconds, from which contributions are gathered.
    """

    spec: FeatureSpec
    genuine_rate: float = 0.1
    freeze_at: float | None = None
    explain_from: float = 0.0


class Alarm(NamedTuple):
    """A drift that was found, and for which model (empty: the input)."""

    model: str
    found: DriftFound


class DayCost(NamedTuple):
    """At the beginning of a day: transactions so far, CPU so far (shared, and of each contestant), ns."""

    time: float
    rows: int
    cpu: int
    models: dict[str, int]


class _Waiting(NamedTuple):
    """A transaction whose label is not known yet."""

    row: int
    event: tuple[float, tuple[Weight, ...]]  # its time and its weights
    entities: Entities
    names: tuple[str, ...]
    values: array[float]


class Engine:
    """One pass. After `run` (or in the middle of it) the columns hold an entry for each transaction.

    Args:
        contestants: the models, each with a name of its own.
        settings: how the pass is made.

    Attributes:
        times, amounts, cards, fraud, known_at: by transaction; `fraud` is -1 while nothing is known.
        segments: by name, a code for each transaction; what it stands for is in `segment_values`.
        duplicates: second transactions of an id, left out; the first of them is `first_duplicate`.
        unmatched: labels without a transaction, or after the first one of a transaction.
    """

    def __init__(self, contestants: Sequence[Contestant], settings: EngineSettings) -> None:
        self.contestants = list(contestants)
        self.settings = settings
        self.entities = KnownEntities(len(settings.spec.half_lives))
        self.times = array("d")
        self.amounts = array("d")
        self.cards = array("q")
        self.fraud = array("b")
        self.known_at = array("d")
        self.segments = {name: array("l") for name in SEGMENTS}
        self.segment_values: dict[str, dict[str | None, int]] = {name: {None: 0} for name in SEGMENTS}
        self.currencies: set[str] = set()
        self.duplicates = 0
        self.first_duplicate: str | None = None
        self.unmatched = 0
        self.alarms: list[Alarm] = []
        self.days: list[DayCost] = []
        self.card_codes: dict[str, int] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._seen: tuple[set[str], set[str]] = (set(), set())
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._next_day = -1.0
        self._freeze_at = float("inf") if settings.freeze_at is None else settings.freeze_at
        self._genuine = 0
        self._finished: DayCost | None = None
        self._input = Watch("input.amount_log")
        self._watches = {
            one.name: (Watch("error"), Watch("missed_fraud")) for one in contestants if not one.is_frozen
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
            for contestant in self.contestants:
                contestant.settle()
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
        readings = self.entities.read_then_update(event, entities)
        x = features_of(payment, event, tuple([kind for kind, _, _ in entities]), readings, spec)
        for contestant in self.contestants:
            contestant.score(x, name)

        names = tuple(x)
        known = self._names.get(names)
        if known is None:
            known = self._names[names] = names
        self._waiting[name] = _Waiting(
            len(self.times), (event.time, event.weights), entities, known, array("d", x.values())
        )
        self.times.append(event.time)
        self.amounts.append(event.amount)
        self.cards.append(self.card_codes.setdefault(payment.card_id, len(self.card_codes)))
        self.fraud.append(-1)
        self.known_at.append(float("inf"))
        for segment, column in self.segments.items():
            codes = self.segment_values[segment]
            column.append(codes.setdefault(getattr(payment, segment), len(codes)))
        self.currencies.add(payment.currency)
        self._alarm("", self._input.update(event.log_amount, event_time=event.time))

    def _learn(self, label: Label) -> None:
        name = label.transaction_id
        known = self._waiting.pop(name, None)
        if known is None:
            self.unmatched += 1
            return
        row, (happened, weights), entities, names, values = known
        is_fraud = label.is_fraud
        self.fraud[row] = is_fraud
        self.known_at[row] = label.known_at.timestamp()
        # As `knowledge_of` gives it; the event's own weights are at hand.
        self.entities.learn(Knowledge(happened, weights, is_fraud, corrects=False), entities)
        for contestant in self.contestants:
            if not contestant.is_frozen:
                self._watch(contestant, row, is_fraud)
        if not is_fraud and not is_chosen(name, self.settings.genuine_rate):
            return
        x = dict(zip(names, values, strict=True))
        self._genuine += not is_fraud
        is_told = happened >= self.settings.explain_from and (is_fraud or self._genuine % EXPLAINED == 0)
        for contestant in self.contestants:
            if contestant.is_frozen:
                continue
            if is_told:
                contestant.explain(x, is_fraud, name)
            contestant.learn(x, is_fraud, name)

    def _watch(self, contestant: Contestant, row: int, is_fraud: bool) -> None:
        error, missed = self._watches[contestant.name]
        if row >= len(contestant.alerted):
            contestant.settle()
        alerted = contestant.alerted[row]
        now = self.times[-1]
        self._alarm(contestant.name, error.update(float(alerted != is_fraud), event_time=now))
        if is_fraud:
            self._alarm(contestant.name, missed.update(float(not alerted), event_time=now))

    def _alarm(self, model: str, found: DriftFound | None) -> None:
        if found is not None:
            self.alarms.append(Alarm(model, found))

    def _begin_day(self, now: float) -> None:
        """Thresholds hold for a day, as a policy that people work by should."""
        for contestant in self.contestants:
            contestant.refresh()
        start = now // DAY * DAY
        self.days.append(self._cost(start))
        self._next_day = start + DAY

    @property
    def finished(self) -> DayCost:
        """As at the beginning of a day, but when the pass ended."""
        assert self._finished is not None, "there was a pass"
        return self._finished

    def _cost(self, now: float) -> DayCost:
        costs = {contestant.name: contestant.cpu for contestant in self.contestants}
        return DayCost(now, len(self.times), time.thread_time_ns(), costs)

    def _freeze(self) -> None:
        self.contestants += [contestant.frozen() for contestant in list(self.contestants)]
        self._freeze_at = float("inf")
