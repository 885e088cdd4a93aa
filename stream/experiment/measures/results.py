"""What an experiment found. All but `run` and `microseconds_per_event` follow from the data alone."""

from __future__ import annotations

from typing import Any

import msgspec

from models.metrics.bootstrap import Interval
from models.metrics.ranking import CalibrationPoint, CurvePoint

Intervals = dict[str, Interval]


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """A result: its fields are its keys in JSON; NaN is null there."""


class Measures(Frozen, frozen=True, kw_only=True):
    """Quality of one model over some transactions; NaN where nothing can be measured.

    Attributes:
        transactions: measured; `of_known_cards` more were left out.
        alerts: scores at or above the threshold of their day.
        card_precision_at_100: mean over days.
        expected_calibration_error: 10 bins of equal width.
        top_mean_score, top_fraud_rate: of the hundredth of transactions with the highest scores.
        money_saved: amounts of the frauds alerted, major units; NaN for mixed currencies.
        money_lost: amounts of the frauds missed.
        money_reviews: what looking at the alerts costs.
        money_net: saved, less reviews.
        intervals: of measures by name, 95 %.
    """

    transactions: int
    frauds: int
    of_known_cards: int
    alerts: int
    average_precision: float
    roc_auc: float
    card_precision_at_100: float
    precision: float
    recall: float
    f1: float
    accuracy: float
    expected_calibration_error: float
    top_mean_score: float
    top_fraud_rate: float
    money_saved: float
    money_lost: float
    money_reviews: float
    money_net: float
    intervals: Intervals

    @property
    def alert_share(self) -> float:
        """Of the transactions, those that raised an alert."""
        return self.alerts / self.transactions if self.transactions else float("nan")


class Week(Measures, frozen=True, kw_only=True):
    """One week, from its first day; the last may be short.

    Attributes:
        start: its first day; `from` in JSON.
        to: the day after its last.
    """

    start: str = msgspec.field(name="from")
    to: str
    microseconds_per_event: float


class Segment(Frozen, frozen=True, kw_only=True):
    """A part of the transactions."""

    name: str
    value: str
    transactions: int
    frauds: int
    average_precision: float
    precision: float
    recall: float
    money_lost: float
    intervals: Intervals


class Day(Frozen, frozen=True, kw_only=True):
    """One of the days, for quality over time: measured over the seven days that end with it."""

    day: str
    frauds: int
    average_precision: float


class FirstDay(Frozen, frozen=True, kw_only=True):
    """One of the first days of the data, as it was served: from the anomaly score to the model.

    Attributes:
        served: what scored most of the day: `anomaly`, or the model by its name.
        anomaly_share: of the day's transactions, those that the anomaly score served.
        transactions: whose label became known.
        of_budget: alerts, as a multiple of those that the budget allows.
    """

    day: str
    served: str
    anomaly_share: float
    transactions: int
    frauds: int
    average_precision: float
    roc_auc: float
    alerts: int
    alert_share: float
    of_budget: float


class Effect(Frozen, frozen=True, kw_only=True):
    """What a feature contributes to the log-odds, on average over sampled transactions."""

    feature: str
    frauds: float
    genuine: float


class ModelResult(Measures, frozen=True, kw_only=True):
    """One model.

    Attributes:
        mean_weekly_average_precision: over the weeks that have frauds.
        microseconds_per_event: CPU: reading, features and profiles, and this model's scores and learning.
        model_microseconds: of them, the model's own.
        learned: examples.
        first_days: the first 28 days of the data, one by one.
    """

    mean_weekly_average_precision: float
    microseconds_per_event: float
    model_microseconds: float
    learned: int
    weeks: tuple[Week, ...]
    segments: tuple[Segment, ...]
    days: tuple[Day, ...]
    first_days: tuple[FirstDay, ...]
    precision_recall: tuple[CurvePoint, ...]
    calibration: tuple[CalibrationPoint, ...]
    effects: tuple[Effect, ...]


class DriftAlarm(Frozen, frozen=True, kw_only=True):
    """A drift that was found. Of the input where `model` is empty."""

    model: str
    signal: str
    found_at: str
    since: str
    before: float
    after: float


class InjectedModel(Frozen, frozen=True, kw_only=True):
    """How one model bore an injected change.

    Attributes:
        detection_hours: from the change to the first alarm after it, by signal.
        false_alarms: in all of the undisturbed run, before the change and after.
        undisturbed, disturbed, frozen: average precision over seven days, by the day they end, from the
            change on; the frozen copy never learns again.
        quality_lost: mean gap of the disturbed run below the undisturbed one, from the change to the end.
        recovered_days: days from the change until average precision is within 0.02 of the undisturbed run,
            measured over the seven days that begin then; None: it did not.
        recovered_label_days: the same, from the first label of a payment after the change: before it nothing
            can be learned.
    """

    detection_hours: dict[str, float]
    false_alarms: int
    days: tuple[str, ...]
    undisturbed: tuple[float, ...]
    disturbed: tuple[float, ...]
    frozen: tuple[float, ...]
    quality_lost: float
    quality_lost_frozen: float
    recovered_days: int | None
    recovered_label_days: float | None


class Injected(Frozen, frozen=True, kw_only=True):
    """What was injected, and what came of it."""

    injections: tuple[str, ...]
    at: str
    changed: int
    models: dict[str, InjectedModel]


class Account(Frozen, frozen=True, kw_only=True):
    """What became of the rows."""

    transactions: int
    labelled: int
    frauds: int
    cards: int
    entities: int
    duplicates: int
    unmatched_labels: int
    first_time: str
    last_time: str
    lines: tuple[str, ...]


class Experiment(Frozen, frozen=True, kw_only=True):
    """The whole result.

    Attributes:
        settings: everything that is needed to run it again.
        is_partial: it was interrupted; what was seen until then is measured.
        run: when, where and how fast; the only part, with `microseconds_per_event`, that differs between two
            runs on the same data.
    """

    format: str = "riverwatch-experiment-1"
    data: str
    settings: dict[str, Any]
    is_partial: bool
    evaluated_from: str
    evaluated_to: str
    account: Account
    models: dict[str, ModelResult]
    alarms: tuple[DriftAlarm, ...]
    injected: Injected | None
    run: dict[str, Any]


def as_json(experiment: Experiment) -> bytes:
    """The result as indented JSON, keys in a fixed order."""
    return msgspec.json.format(msgspec.json.encode(experiment), indent=2) + b"\n"


def without_time(result: Any) -> Any:
    """JSON data without what differs between two runs: two runs on the same data are equal in the rest."""
    if isinstance(result, dict):
        return {
            key: without_time(value)
            for key, value in result.items()
            if key not in {"run", "microseconds_per_event", "model_microseconds"}
        }
    return [without_time(value) for value in result] if isinstance(result, list) else result
