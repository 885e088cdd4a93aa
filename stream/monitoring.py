"""From decisions and labels to signals: what drifts, and how good the decisions were. Pure.

Everything follows from what is taken in, in its order, and from the clock's readings that come with it: the
same input gives the same signals, however it is cut into batches. A decision delivered again counts once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec

from models.features.currencies import major_units
from models.metrics.delayed_quality import (
    DelayedQuality,
    DelayedQualitySettings,
    QualityMeasures,
    ReportedLabel,
    Scored,
)
from models.metrics.drift import (
    DELTA,
    ERROR,
    FRAUD_LOSS,
    INPUT,
    SCORE,
    DriftFound,
    DriftWatch,
    Manner,
    fraud_loss,
)
from models.metrics.quantiles import Durations
from stream.learning import ASSUMED_GENUINE
from stream.messages import Decision, DriftSignal, Label

DAY = 86400.0
TICK = 600.0  # event time between looks at what has matured
LONGEST = 3600.0  # beyond it, `decided_at` minus `event_time` tells of a replay and not of the worker
SEGMENTS = ("channel", "category", "country")
UNSUPERVISED = "unsupervised"

Input = Callable[[Decision], "float | None"]


class MonitorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the monitor watches.

    Attributes:
        quality: horizon, window and segments of matured quality; `segment_names` are fields of a decision.
        interval: event time between reports, seconds, > 0.
        inputs: watched: `amount_log`; a field and a value, such as `country=FR` (0 or 1); or the
            name of a feature, as served.
        delta: confidence of ADWIN, 0 < delta < 1.
        quiet: event time after a drift signal without a further one of that name, seconds, >= 0.
    """

    quality: DelayedQualitySettings
    interval: float = DAY
    inputs: tuple[str, ...] = ("amount_log",)
    delta: float = DELTA
    quiet: float = DAY


class _Interval:
    """What is counted from one report to the next."""

    def __init__(self, since: float, clock: datetime | None) -> None:
        self.since = since
        self.clock = clock
        self.decisions = self.alerts = self.labels = self.dead_letters = self.duplicates = 0
        self.latency = Durations()
        self.lag = Durations()


def _amount_log(decision: Decision) -> float:
    return math.log1p(major_units(decision.amount_minor, decision.currency))


def _input(name: str) -> Input:
    if name == "amount_log":
        return _amount_log
    field, equals, value = name.partition("=")
    if equals and field in {*SEGMENTS, "currency"}:
        return lambda decision: float(getattr(decision, field) == value)
    return lambda decision: decision.features.get(name) if decision.features else None


class Monitor:
    """Watches the stream of decisions and labels.

    Signals: `input.NAME`, `score`, `error` (a matured decision was wrong, 0 or 1) and `fraud_loss` (how
    surprised the model was by a reported fraud; seen as soon as the label is known), watched as
    `models.metrics.drift` says and as an experiment does; and, every interval of event time, measurements
    with the previous one as reference. The event time of a signal is that of the stream when it was found.

    What the unsupervised score got wrong says nothing of the model: `error` and `fraud_loss` are of decisions
    since a model serves.

    Args:
        settings: what is watched.
    """

    def __init__(self, settings: MonitorSettings) -> None:
        self.settings = settings
        self.quality = DelayedQuality(settings.quality)
        self._inputs = [(_input(name), self._watch(f"input.{name}", INPUT)) for name in settings.inputs]
        self._score = self._watch("score", SCORE)
        self._error = self._watch("error", ERROR)
        self._loss = self._watch("fraud_loss", FRAUD_LOSS)
        self._unsupervised = False
        self._own_from = -math.inf  # event time from which a model has served
        self._tick = min(TICK, settings.interval)
        self._next_tick = -math.inf
        self._next_report = -math.inf
        self._interval = _Interval(-math.inf, None)
        self._before: dict[tuple[str, str], float] = {}

    def on_decisions(self, decisions: Sequence[Decision], *, now: datetime) -> list[DriftSignal]:
        """Take decisions in; the signals that follow from them.

        Args:
            decisions: in the order of their delivery.
            now: by the clock, when they arrived.
        """
        signals: list[DriftSignal] = []
        arrived = now.timestamp()
        names = self.settings.quality.segment_names
        for decision in decisions:
            time = decision.event_time.timestamp()
            if time >= self._next_tick:
                self._pass(time, now, signals)
            scored = Scored(
                decision.transaction_id,
                time,
                decision.card_id,
                decision.score,
                decision.action != "approve",
                tuple(getattr(decision, name) for name in names),
            )
            if self.quality.decide(scored):
                self._count(scored, decision.decided_at.timestamp(), arrived)
                self._look(decision, signals)
        return signals

    def on_labels(self, labels: Sequence[Label]) -> list[DriftSignal]:
        """Take labels in; the signals that follow from them."""
        self._interval.labels += len(labels)
        known = [
            ReportedLabel(label.transaction_id, label.is_fraud, label.known_at.timestamp())
            for label in labels
            if label.source != ASSUMED_GENUINE  # it says what the horizon says, and overrules nobody
        ]
        signals: list[DriftSignal] = []
        for outcome in self.quality.label(known):
            if outcome.is_fraud and outcome.event_time >= self._own_from:
                lost = fraud_loss(outcome.score)
                self._tell(self._loss.update(lost, event_time=self.quality.now), signals)
        return signals

    def on_dead_letters(self, count: int) -> list[DriftSignal]:
        """Count events that could not be processed; the next report tells."""
        self._interval.dead_letters += count
        return []

    def report(self, *, now: datetime) -> list[DriftSignal]:
        """The measurements up to here, before their time; nothing before the first decision."""
        signals: list[DriftSignal] = []
        if math.isfinite(self.quality.now):
            self._mature(signals)
            self._report(self.quality.now, now, signals)
        return signals

    def _watch(self, signal: str, manner: Manner) -> DriftWatch:
        return DriftWatch(signal, manner, delta=self.settings.delta, quiet=self.settings.quiet)

    def _count(self, scored: Scored, decided: float, arrived: float) -> None:
        interval = self._interval
        interval.decisions += 1
        interval.alerts += scored.alerted
        interval.lag.add(arrived - decided)
        if 0.0 <= decided - scored.event_time <= LONGEST:
            interval.latency.add(decided - scored.event_time)

    def _look(self, decision: Decision, signals: list[DriftSignal]) -> None:
        time = self.quality.now
        for value_of, watch in self._inputs:
            value = value_of(decision)
            if value is not None:
                self._tell(watch.update(value, event_time=time), signals)
        unsupervised = decision.model_version.startswith(UNSUPERVISED)
        if unsupervised != self._unsupervised:
            # another kind of score: the step between them is no drift
            self._unsupervised = unsupervised
            self._own_from = math.inf if unsupervised else decision.event_time.timestamp()
            for watch in (self._score, self._error, self._loss):
                watch.reset()
        self._tell(self._score.update(decision.score, event_time=time), signals)

    def _pass(self, time: float, now: datetime, signals: list[DriftSignal]) -> None:
        """Event time has passed a tick, and perhaps the end of an interval."""
        first = math.isinf(self._next_tick)
        tick, interval = self._tick, self.settings.interval
        ended = time // interval * interval
        if first:
            self._next_report = ended + interval
            self._interval.since, self._interval.clock = time, now
        elif time >= self._next_report:
            self.quality.advance(ended)
            self._mature(signals)
            self._report(ended, now, signals)
            self._next_report = ended + interval
        self.quality.advance(time // tick * tick)
        self._mature(signals)
        self._next_tick = (time // tick + 1) * tick

    def _mature(self, signals: list[DriftSignal]) -> None:
        for outcome in self.quality.mature():
            if outcome.event_time >= self._own_from:
                wrong = float(outcome.alerted != outcome.is_fraud)
                self._tell(self._error.update(wrong, event_time=self.quality.now), signals)

    def _tell(self, found: DriftFound | None, signals: list[DriftSignal]) -> None:
        if found is not None:
            signals.append(
                DriftSignal(
                    signal=found.signal,
                    kind="drift",
                    event_time=datetime.fromtimestamp(found.event_time, UTC),
                    value=found.after,
                    reference=found.before,
                    detector=found.detector,
                    since=datetime.fromtimestamp(found.since, UTC),
                )
            )

    def _report(self, event_time: float, now: datetime, signals: list[DriftSignal]) -> None:
        quality = self.quality.quality()
        measured = [("all", name, value) for name, value in self._rates(event_time, now)]
        measured += [("all", name, value) for name, value in self._of_all(quality.overall)]
        for segment, measures in quality.segments.items():
            measured += [(segment, name, value) for name, value in _of_part(measures)]
        time = datetime.fromtimestamp(event_time, UTC)
        for segment, name, value in measured:
            if math.isfinite(value):
                signals.append(
                    DriftSignal(
                        signal=name,
                        kind="metric",
                        event_time=time,
                        value=value,
                        reference=self._before.get((segment, name)),
                        segment=segment,
                    )
                )
                self._before[segment, name] = value
        self._interval = _Interval(event_time, now)
        self._interval.duplicates = self.quality.duplicates

    def _rates(self, event_time: float, now: datetime) -> list[tuple[str, float]]:
        interval = self._interval
        passed = event_time - interval.since
        elapsed = (now - interval.clock).total_seconds() if interval.clock else 0.0
        measured = [
            ("decisions", float(interval.decisions)),
            ("decisions_per_second", interval.decisions / elapsed if elapsed > 0 else math.nan),
            ("decisions_per_second.event_time", interval.decisions / passed if passed > 0 else math.nan),
            ("alert_rate", interval.alerts / interval.decisions if interval.decisions else math.nan),
            ("labels", float(interval.labels)),
            ("dead_letters", float(interval.dead_letters)),
            ("duplicates", float(self.quality.duplicates - interval.duplicates)),
            ("monitor_lag.p50", interval.lag.quantile(0.5)),
            ("monitor_lag.p99", interval.lag.quantile(0.99)),
        ]
        if 2 * interval.latency.count > interval.decisions:
            measured += [
                ("latency.p50", interval.latency.quantile(0.5)),
                ("latency.p99", interval.latency.quantile(0.99)),
            ]
        return measured

    def _of_all(self, measures: QualityMeasures) -> list[tuple[str, float]]:
        return [
            *_of_part(measures),
            (f"card_precision@{self.settings.quality.k}", measures.card_precision),
            ("alert_f1", measures.f1),
            ("calibration_error", measures.calibration_error),
            ("matured", float(measures.decisions)),
        ]


def _of_part(measures: QualityMeasures) -> list[tuple[str, float]]:
    return [
        ("average_precision", measures.average_precision),
        ("alert_precision", measures.precision),
        ("alert_recall", measures.recall),
        ("fraud_rate", measures.frauds / measures.decisions if measures.decisions else math.nan),
    ]
