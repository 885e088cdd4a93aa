"""The decisions as they would have been: the workers' pipeline, learner and maturity over past items. Pure.

Event time is the only clock. The rule, exactly:
  - Items come in the order of their time: transactions by `event_time`, labels by `known_at`.
  - A label is learned at its place: after all transactions before it, before all after it. What it says of
    entities is known at once; the model that scores is the one of all labels before the transaction, or,
    with `publish_every`, of all labels before the last multiple of it.
  - A transaction is assumed genuine once one is decided that is as late as the horizon: its labels come right
    after that transaction, in the order in which they fall due.
  - The version of a model is NAME@OFFSET: how many labels, the assumed ones included, it has seen.
  - `decided_at` is the transaction's own time.
So the output is a function of the items and the settings, whatever the size of a batch, and wherever the
replay was interrupted.
"""

from __future__ import annotations

import copy
import gc
import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from models.features.spec import FeatureSpec
from models.scoring.snapshot import SigningKey, SnapshotHeader, dump, load
from stream.config.factories import classes_of, limits_of, new_model, policy_of
from stream.config.settings import Settings
from stream.learning import Learner
from stream.maturity import Maturity
from stream.messages import Label, Transaction, encode
from stream.pipeline import DecisionTopics, Scorer
from stream.ports import Clock, Message
from stream.records import Record
from stream.replay.parts import ALERTS, DEAD, LABELS, SCORES, EventTimePipeline, Outlet, ReplayCounts
from stream.replay.store import DecisionFile, OrderedDueQueue, ReplayStore, StoreState
from stream.serving import ServedModel, first_model, served

FOLLOWED = 500  # transactions at most until maturity looks at them, and what is old is forgotten
RARELY = (50_000, 20, 100)  # allocations and generations between two looks of the garbage collector
TOLD = 1024  # items between two calls of the progress

Item = Transaction | Label


class ReplayState(msgspec.Struct, frozen=True, kw_only=True):
    """All that a replay needs to go on, as if it had never stopped.

    Attributes:
        items: of the source that are done.
        model, in_use: signed snapshots: of the learner, and of what scores where that is another.
    """

    items: int
    now: float
    watermark: float
    earliest: float
    step: float
    labels: int
    knowledge_time: float | None
    model: bytes
    in_use: bytes | None
    counts: ReplayCounts
    unfollowed: list[bytes]
    due: list[tuple[float, str]]
    store: StoreState
    out_length: int
    out_crc: int


class Replay:
    """One replay. Feed it items in their order, then `finish`; `state` may be taken between two items.

    Args:
        settings: as the workers run with; addresses do not matter.
        spec: the features.
        out: where decisions go.
        publish_every: seconds of event time between two models that score; 0: after every label.
        state, key: to go on from, and what its models are signed with.
    """

    def __init__(
        self,
        settings: Settings,
        spec: FeatureSpec,
        out: DecisionFile,
        *,
        publish_every: float = 0.0,
        state: ReplayState | None = None,
        key: SigningKey | None = None,
    ) -> None:
        self._settings = settings
        self._policy = policy_of(settings)
        self._limits = limits_of(settings)
        self._classes = classes_of(settings)
        self._out = out
        self._every = publish_every
        self.counts = ReplayCounts() if state is None else state.counts
        self.items = state.items if state else 0
        self._watermark = state.watermark if state else -math.inf
        self._earliest = state.earliest if state else math.inf
        self._step = state.step if state else -math.inf
        self._now = state.now if state else 0.0
        self._labels = state.labels if state else 0
        self._pending: list[Record] = []
        self._log: list[Record] = []
        self._in_use: ServedModel | None = None
        self._published: tuple[str, Any] | None = None

        self._store = ReplayStore(
            len(spec.half_lives),
            out,
            remembered=float(settings.decision_ttl),
            state=state.store if state else None,
        )
        self._queue = OrderedDueQueue(state.due if state else ())
        self._outlet = Outlet(self.counts, self._on_label)
        self._outlet.decisions = list(state.unfollowed) if state else []
        if state and key and state.in_use is not None:
            self._published = _loaded(state.in_use, key, self._classes)
        went_on = _loaded(state.model, key, self._classes)[1] if state and key else None
        model: Any = new_model(settings, spec) if went_on is None else went_on
        self._pipeline = EventTimePipeline(
            store=self._store,
            outbox=self._outlet,
            model=self._scorer,
            clock=self._clock,
            spec=spec,
            policy=self._policy,
            topics=DecisionTopics(SCORES, ALERTS, DEAD),
            limits=self._limits,
        )
        self._pipeline.counts = self.counts
        self._pipeline.on_assigned([0])
        self._pipeline.set_start_offsets({0: self.counts.transactions})
        self._model = model
        self._learner = Learner(
            model=model,
            next_offset=self._labels,
            learned=self.counts.learned,
            knowledge_time=state.knowledge_time if state else None,
            decisions=self._store,
            labels=self._store,
            outbox=self._outlet,
            clock=self._clock,
            spec=spec,
            negative_sampling_rate=settings.negative_sampling_rate,
            labels_topic=LABELS,
            dead_letters=DEAD,
            limits=self._limits,
        )
        self._maturity = _maturity(settings, self._queue, self._store, self._outlet, self._clock)

    def run(
        self,
        items: Iterable[Item],
        *,
        stop: Callable[[], bool] = lambda: False,
        progress: Callable[[int, float], None] = lambda _done, _time: None,
        pause: Callable[[], None] = lambda: None,
    ) -> bool:
        """Feed the items; says whether all of them were.

        Args:
            items: those that are not done yet.
            stop: asked between two items.
            progress: called now and then with transactions so far and the event time, seconds.
            pause: called now and then, where `state` may be taken.
        """
        thresholds = gc.get_threshold()
        gc.set_threshold(*RARELY)  # a replay makes no cycles, but many objects that live long
        try:
            for count, item in enumerate(items):
                if stop():
                    self.settle()
                    return False
                self.take(item)
                if count % TOLD == 0:
                    progress(self.counts.transactions, self._watermark)
                    pause()
            self.finish()
        finally:
            gc.set_threshold(*thresholds)
        return True

    def take(self, item: Item) -> None:
        """The next item."""
        self.items += 1
        if isinstance(item, Transaction):
            self._transaction(item)
        else:
            self._move_to(item.known_at.timestamp())
            self._append(item.transaction_id.encode(), encode(item), item.known_at.timestamp())

    def settle(self) -> None:
        """Decide and learn what was taken; it changes nothing that comes after."""
        self._learn()
        self._out.flush()

    def finish(self) -> None:
        """All items were taken."""
        self.settle()
        self._follow()
        self.settle()

    def state(self, key: SigningKey) -> ReplayState:
        """All that is needed to go on; models are signed with the key."""
        self.settle()
        in_use = None if self._published is None else self._snapshot(*self._published, key)
        return ReplayState(
            items=self.items,
            now=self._now,
            watermark=self._watermark,
            earliest=self._earliest,
            step=self._step,
            labels=self._labels,
            knowledge_time=self._learner.knowledge_time,
            model=self._snapshot(self._version(), self._model, key),
            in_use=in_use,
            counts=self.counts,
            unfollowed=self._outlet.decisions,
            due=self._queue.entries(),
            store=self._store.state(),
            out_length=self._out.length,
            out_crc=self._out.crc,
        )

    # ---- deciding

    def _transaction(self, payment: Transaction) -> None:
        time = payment.event_time.timestamp()
        self._move_to(time)
        if self._log:
            self._learn()
        offset = self.counts.transactions
        self.counts.transactions += 1
        key = payment.card_id.encode()
        self._pending.append(Record("transactions", 0, offset, _milliseconds(time), key, encode(payment)))
        self._watermark = max(time, self._watermark)
        self._earliest = min(time, self._earliest)
        # Maturity looks when something may have fallen due: a matter of the items alone, not of batches.
        ripe = self._watermark >= min(self._queue.next_due, self._earliest + float(self._settings.maturity))
        is_round = (offset + 1) % FOLLOWED == 0
        if ripe or is_round:
            self._decide()
            self._follow()
            if is_round:
                self._store.advance(self._watermark)
        elif len(self._pending) >= self._settings.batch_size:
            self._decide()

    def _decide(self) -> None:
        if self._pending:
            found = self._pipeline.process(self._pending)
            self.counts.decided += found.decided
            self._pending = []

    def _follow(self) -> None:
        decisions, self._outlet.decisions = self._outlet.decisions, []
        self._earliest = math.inf
        self._maturity.process([Record(SCORES, 0, 0, 0, None, value) for value in decisions])

    def _clock(self) -> datetime:
        """When a dead letter was made: never written, and the same in every replay."""
        return datetime.fromtimestamp(self._now, UTC)

    # ---- learning

    def _on_label(self, message: Message) -> None:
        self.counts.silent += not message.headers
        self._append(message.key or b"", message.value or b"", self._now, message.headers)

    def _append(
        self, key: bytes, value: bytes, time: float, headers: tuple[tuple[str, bytes], ...] = ()
    ) -> None:
        self._log.append(Record(LABELS, 0, self._labels, _milliseconds(time), key, value, headers))
        self._labels += 1

    def _learn(self) -> None:
        self._decide()
        while self._log:  # what is requeued stands behind
            records, self._log = self._log, []
            found = self._learner.process(records)
            self._learner.published()
            self.counts.labels += found.labels - found.rejected
            self.counts.learned += found.learned
            self._in_use = None

    def _version(self) -> str:
        return f"{self._settings.model}@{self._learner.next_offset}"

    def _move_to(self, time: float) -> None:
        """Event time has come so far: where a multiple of `publish_every` lies before it, publish."""
        self._now = max(time, self._now)
        if not self._every:
            return
        step = math.floor(self._now / self._every)
        if step > self._step:
            self._learn()
            self._step = step
            version = self._version()
            if self._labels and (self._published is None or self._published[0] != version):
                self._published = (version, copy.deepcopy(self._model))
            self._in_use = None

    def _scorer(self) -> Scorer:
        if self._in_use is None:
            version, model = self._published or (self._version(), self._model)
            if self._every and self._published is None:
                self._in_use = first_model(self._policy)
            else:
                self._in_use = served(version, model, self._policy)
        return self._in_use

    def _snapshot(self, version: str, model: Any, key: SigningKey) -> bytes:
        offset = int(version.rpartition("@")[2])
        header = SnapshotHeader(
            name=self._settings.model, version=version, next_offset=offset, learned=self.counts.learned
        )
        return dump(model, key=key, header=header, classes=self._classes)


def _loaded(snapshot: bytes, key: SigningKey, classes: Any) -> tuple[str, Any]:
    header, model = load(snapshot, keys=key.trusted, classes=classes)
    return header.version, model


def _maturity(
    settings: Settings, queue: OrderedDueQueue, store: ReplayStore, outlet: Outlet, clock: Clock
) -> Maturity:
    return Maturity(
        queue=queue,
        labels=store,
        outbox=outlet,
        clock=clock,
        horizon=settings.maturity,
        label_wait=settings.label_wait,
        negative_sampling_rate=settings.negative_sampling_rate,
        labels_topic=LABELS,
        dead_letters=DEAD,
    )


def _milliseconds(time: float) -> int:
    return math.ceil(time * 1000.0)
