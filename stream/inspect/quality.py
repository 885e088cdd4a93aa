"""How good a run was, from its topics alone: nothing that a worker remembers or says is used."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.metrics.ranking import (
    alert_quality,
    average_precision,
    card_precision_at_k,
    expected_calibration_error,
    roc_auc,
    without_known_cards,
)
from stream.adapters.kafka.scan import Progress, TopicUnreadableError, read_to_end
from stream.inspect.account import Completeness, Decisions, Ledger
from stream.records import Record

DAY = 86400.0
WEEK = timedelta(days=7)

__all__ = [
    "QualityProtocol",
    "QualityReport",
    "QualityTopics",
    "QualityWindow",
    "TopicUnreadableError",
    "WindowQuality",
    "measure",
    "quality_from_topics",
]


class QualityTopics(NamedTuple):
    """Full names of the topics that are read."""

    transactions: str = "transactions"
    scores: str = "scores"
    labels: str = "labels"
    dead_letters: str = "dead-letters"


class QualityWindow(NamedTuple):
    """A span of event time: start <= event_time < end."""

    name: str
    start: datetime
    end: datetime


class QualityProtocol(NamedTuple):
    """How quality is measured; the defaults are as published by Le Borgne, Siblini, Lebichot and Bontempi.

    Attributes:
        k: cards looked at each day, > 0.
        drop_known_cards: from each day, leave out cards known defrauded when it begins, and from card
            precision those found among the k of an earlier day of the window.
        label_delay: a fraud is known so many seconds after its event, >= 0; None: when its label says.
        card_memory: frauds more than so many seconds before the window are not held against a card
            (published: 7 days of training and 7 of delay).
    """

    k: int = 100
    drop_known_cards: bool = True
    label_delay: float | None = 7 * DAY
    card_memory: float = 14 * DAY


class WindowQuality(NamedTuple):
    """Quality over a window; NaN where nothing can be measured.

    Attributes:
        transactions, frauds: that were measured, known cards left out.
        of_known_cards: transactions left out.
        reported: transactions measured that somebody reported, as fraud or not; the rest count as genuine.
        precision, recall: of the alerts.
    """

    window: QualityWindow
    transactions: int
    frauds: int
    of_known_cards: int
    reported: int
    average_precision: float
    roc_auc: float
    card_precision: float
    precision: float
    recall: float
    calibration_error: float


class QualityReport(NamedTuple):
    """What the topics say of a run.

    Attributes:
        overall: from the start to the end.
        windows: those asked for.
        weeks: whole weeks, the last one ending at the end.
    """

    completeness: Completeness
    overall: WindowQuality
    windows: tuple[WindowQuality, ...]
    weeks: tuple[WindowQuality, ...]

    @property
    def mean_weekly_average_precision(self) -> float:
        """Over the weeks that have frauds; NaN without one."""
        values = [week.average_precision for week in self.weeks if not math.isnan(week.average_precision)]
        return sum(values) / len(values) if values else math.nan


def measure(decisions: Decisions, window: QualityWindow, protocol: QualityProtocol) -> WindowQuality:
    """The quality of the decisions in a window."""
    start, end = window.start.timestamp(), window.end.timestamp()
    rows = slice(*np.searchsorted(decisions.time, [start, end]).tolist())
    within = _rows(decisions, rows)
    day = np.floor(within.time / DAY) * DAY
    keep = np.ones(day.size, dtype=np.bool_)
    if protocol.drop_known_cards:
        frauds = decisions.is_fraud & (decisions.time >= start - protocol.card_memory)
        known_at = (
            decisions.known_at[frauds]
            if protocol.label_delay is None
            else decisions.time[frauds] + protocol.label_delay
        )
        keep = without_known_cards(
            day, within.card, fraud_card=decisions.card[frauds], fraud_known_at=known_at
        )
    kept = _rows(within, keep)
    alerts = alert_quality(kept.is_fraud, kept.alerted)
    return WindowQuality(
        window=window,
        transactions=int(kept.time.size),
        frauds=int(np.count_nonzero(kept.is_fraud)),
        of_known_cards=int(keep.size - np.count_nonzero(keep)),
        reported=int(np.count_nonzero(~np.isnan(kept.known_at))),
        average_precision=average_precision(kept.is_fraud, kept.score),
        roc_auc=roc_auc(kept.is_fraud, kept.score),
        card_precision=card_precision_at_k(
            day[keep],
            kept.card,
            kept.is_fraud,
            kept.score,
            k=protocol.k,
            drop_detected=protocol.drop_known_cards,
        ),
        precision=alerts.precision,
        recall=alerts.recall,
        calibration_error=expected_calibration_error(kept.is_fraud, kept.score),
    )


def _rows(decisions: Decisions, rows: slice | NDArray[np.bool_]) -> Decisions:
    return Decisions(
        decisions.time[rows],
        decisions.card[rows],
        decisions.score[rows],
        decisions.alerted[rows],
        decisions.is_fraud[rows],
        decisions.known_at[rows],
    )


def weeks_between(start: datetime, end: datetime) -> list[QualityWindow]:
    """The whole weeks up to the end, the first one first.

    >>> weeks = weeks_between(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 20, tzinfo=UTC))
    >>> [week.name for week in weeks]
    ['2026-01-06', '2026-01-13']
    """
    weeks = []
    while end - WEEK >= start:
        end -= WEEK
        weeks.append(QualityWindow(f"{end:%Y-%m-%d}", end, end + WEEK))
    return weeks[::-1]


def quality_from_topics(
    bootstrap: str,
    *,
    topics: QualityTopics | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    windows: Sequence[QualityWindow] = (),
    protocol: QualityProtocol | None = None,
    client: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> QualityReport:
    """Read the topics to their end and say how complete and how good the decisions are.

    No group is joined and nothing is committed: it may run beside the workers. Then events that came last may
    still be on their way, and count as missing.

    Args:
        bootstrap: host:port of brokers.
        topics: their full names.
        start: event time from which quality is measured; by default the day of the first decision.
        end: event time up to which it is measured; by default the end of the day of the last decision.
        windows: of event time, measured apart.
        protocol: how quality is measured.
        client: further configuration of the Kafka client, such as credentials.
        progress: called now and then with a topic, the messages read of it and how many it seemed to hold.

    Raises:
        TopicUnreadableError: a topic is missing, or the brokers do not answer.
    """
    names = topics or QualityTopics()
    rules = protocol or QualityProtocol()
    config = {**(client or {}), "bootstrap.servers": bootstrap}
    ledger = Ledger()
    read: dict[int, int] = {}

    def records(topic: str) -> Iterator[Record]:
        return chain.from_iterable(read_to_end(config, topic, progress=progress))

    # events first: whatever was decided of them is then found, and what came meanwhile is known to be later
    for record in records(names.transactions):
        ledger.add_event(record.partition, record.offset, record.value)
        read[record.partition] = record.offset + 1
    for record in records(names.scores):
        ledger.add_decision(record.value)
    for record in records(names.labels):
        ledger.add_label(record.value)
    for record in records(names.dead_letters):
        ledger.add_dead_letter(record.headers, events=names.transactions)
    decisions = ledger.decisions()
    times = decisions.time if decisions.time.size else np.zeros(1)
    start = start or datetime.fromtimestamp(times[0] // DAY * DAY, UTC)
    end = end or datetime.fromtimestamp((times[-1] // DAY + 1) * DAY, UTC)
    return QualityReport(
        ledger.completeness(read),
        measure(decisions, QualityWindow("overall", start, end), rules),
        tuple(measure(decisions, window, rules) for window in windows),
        tuple(measure(decisions, week, rules) for week in weeks_between(start, end)),
    )
