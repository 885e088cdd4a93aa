"""Quality on matured labels, while the stream goes on.

A decision is matured when the horizon has passed since its event: by then its label is known, or nobody
reported it and it is assumed genuine. Quality is measured over all decisions behind the horizon and never
over those whose label happens to be there: frauds are reported and genuine payments are not, so they would be
too many.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.metrics.decision_window import (
    ALERTED,
    DAY,
    FRAUD,
    LABELLED,
    MATURED,
    OTHER,
    Codes,
    Columns,
    EventDay,
    Scored,
    digest,
)
from models.metrics.ranking import (
    NAN,
    alert_quality,
    average_precision,
    card_precision_at_k,
    expected_calibration_error,
    without_known_cards,
)


class ReportedLabel(NamedTuple):
    """What became known of a transaction.

    Attributes:
        known_at: seconds since 1970; the latest knowledge wins, of equally late the last told.
    """

    transaction_id: str
    is_fraud: bool
    known_at: float


class Outcome(NamedTuple):
    """A decision and what came of it."""

    event_time: float
    score: float
    alerted: bool
    is_fraud: bool


class QualityMeasures(NamedTuple):
    """Quality of a set of matured decisions; NaN where nothing can be measured.

    Attributes:
        card_precision: at k, over the days that are matured whole; of a segment NaN.
        calibration_error: expected calibration error, 10 bins.
    """

    decisions: int
    frauds: int
    alerts: int
    average_precision: float
    card_precision: float
    precision: float
    recall: float
    f1: float
    calibration_error: float


class Quality(NamedTuple):
    """Quality over the window.

    Attributes:
        days: of event time that hold matured decisions.
        segments: by `name=value`, the largest first.
    """

    days: int
    overall: QualityMeasures
    segments: dict[str, QualityMeasures]


class DelayedQualitySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured over what.

    Attributes:
        horizon: seconds after its event at which a decision without a label counts as genuine, >= 0.
        window: seconds of event time behind the horizon, >= 1 day; whole days.
        k: cards an analyst looks at a day, > 0.
        drop_known_cards: leave cards known defrauded out of card precision, as published.
        segment_names: what decisions carry values for.
        most_segments: reported for each name, the largest.
        least_frauds: that a segment needs to be reported.
        capacity: most decisions kept; beyond it the oldest days go before their time.
        waiting: most labels kept whose decision has not come; beyond it the oldest go.
    """

    horizon: float
    window: float = 14 * DAY
    k: int = 100
    drop_known_cards: bool = True
    segment_names: tuple[str, ...] = ()
    most_segments: int = 8
    least_frauds: int = 10
    capacity: int = 5_000_000
    waiting: int = 100_000


class DelayedQuality:
    """Decisions and labels in, in any order and more than once; quality out.

    Memory: see `models.metrics.decision_window` for a decision, kept for horizon and window; at most
    `capacity` of them (220 MB) and `waiting` labels (30 MB).

    Attributes:
        duplicates: decisions that came again.
        too_old: decisions behind the window when they came.
        dropped: decisions given up because there were more than `capacity`.
        unmatched: labels given up because their decision did not come.
    """

    def __init__(self, settings: DelayedQualitySettings) -> None:
        self.settings = settings
        self.duplicates = self.too_old = self.dropped = self.unmatched = 0
        self.now = -math.inf  # the latest event time seen, seconds
        self._days: dict[int, EventDay] = {}
        self._size = 0
        self._floor = -(2**31)  # no day before it is kept any more
        self._codes = tuple(Codes() for _ in settings.segment_names)
        self._waiting: OrderedDict[int, ReportedLabel] = OrderedDict()

    def __len__(self) -> int:
        return self._size

    def decide(self, decision: Scored) -> bool:
        """Take a decision in; False where it was there already or is too old to tell."""
        number = int(decision.event_time // DAY)
        day = self._days.get(number)
        if day is None:
            if number < self._oldest():
                self.too_old += 1
                return False
            day = self._open(number)
        if self._size >= self.settings.capacity and not self._give_up():
            self.dropped += 1
            return True
        key = digest(decision.transaction_id)
        codes = [codes.of(value) for codes, value in zip(self._codes, decision.segments, strict=True)]
        if not day.add(key, decision, digest(decision.card_id), codes):
            self.duplicates += 1
            return False
        self._size += 1
        self.now = max(self.now, decision.event_time)
        if self._waiting and (known := self._waiting.pop(key, None)) is not None:
            self._learn(day, len(day) - 1, known)
        return True

    def advance(self, event_time: float) -> None:
        """Event time has come so far, with or without a decision (seconds)."""
        self.now = max(self.now, event_time)

    def label(self, labels: Sequence[ReportedLabel]) -> list[Outcome]:
        """Take labels in.

        Returns:
            What they changed, in their order: each decision whose label is new or now says the opposite.
        """
        keys = [digest(label.transaction_id) for label in labels]
        places: dict[int, tuple[EventDay, int]] = {}
        for day in self._days.values():
            for place, row in day.find(keys):
                places[place] = day, row
        outcomes = []
        for place, label in enumerate(labels):
            found = places.get(place)
            if found is None:
                self._wait(keys[place], label)
            elif self._learn(*found, label):
                outcomes.append(_outcome(*found))
        return outcomes

    def mature(self) -> list[Outcome]:
        """The decisions that passed the horizon since the last call, by day and in the order they came."""
        until = self.now - self.settings.horizon
        return [
            _outcome(day, row)
            for number, day in sorted(self._days.items())
            if day.start < until
            for row in day.mature(until)
        ]

    def quality(self) -> Quality:
        """Quality over the window behind the horizon; call `mature` before it."""
        oldest = self._oldest()
        days = [day for number, day in sorted(self._days.items()) if number >= oldest and day.matured]
        columns = [day.columns() for day in days]
        if not columns:
            return Quality(0, _measures(_EMPTY, NAN), {})
        table = Columns(
            np.concatenate([part.card for part in columns]),
            np.concatenate([part.score for part in columns]),
            np.concatenate([part.known_at for part in columns]),
            np.concatenate([part.flags for part in columns]),
            tuple(
                np.concatenate([part.codes[place] for part in columns]) for place in range(len(self._codes))
            ),
        )
        overall = _measures(table, self._card_precision(days, columns))
        return Quality(len(days), overall, self._segments(table))

    def _card_precision(self, days: Iterable[EventDay], columns: Iterable[Columns]) -> float:
        until = self.now - self.settings.horizon
        whole = [(day, part) for day, part in zip(days, columns, strict=True) if day.start + DAY <= until]
        if not whole:
            return NAN
        starts = np.concatenate([np.full(part.card.size, day.start) for day, part in whole])
        card = np.concatenate([part.card for _, part in whole])
        score = np.concatenate([part.score for _, part in whole])
        fraud = np.concatenate([part.flags & FRAUD for _, part in whole]) > 0
        keep = np.ones(card.size, dtype=np.bool_)
        if self.settings.drop_known_cards:
            victims = [day.frauds() for day in self._days.values()]
            keep = without_known_cards(
                starts,
                card,
                fraud_card=np.concatenate([cards for cards, _ in victims]),
                fraud_known_at=np.concatenate([known for _, known in victims]),
            )
        return card_precision_at_k(
            starts[keep],
            card[keep],
            fraud[keep],
            score[keep],
            k=self.settings.k,
            drop_detected=self.settings.drop_known_cards,
        )

    def _segments(self, table: Columns) -> dict[str, QualityMeasures]:
        result = {}
        for name, codes, column in zip(self.settings.segment_names, self._codes, table.codes, strict=True):
            frauds = np.bincount(column[table.flags & FRAUD > 0], minlength=OTHER + 1)
            sizes = np.bincount(column, minlength=OTHER + 1)
            known = [
                code for code in range(1, len(codes.values) + 1) if frauds[code] >= self.settings.least_frauds
            ]
            for code in sorted(known, key=lambda code: (-sizes[code], code))[: self.settings.most_segments]:
                result[f"{name}={codes.values[code - 1]}"] = _measures(_only(table, column == code), NAN)
        return result

    def _oldest(self) -> int:
        """The first day of the window."""
        if math.isinf(self.now):
            return self._floor
        return max(self._floor, math.ceil((self.now - self.settings.horizon - self.settings.window) / DAY))

    def _open(self, number: int) -> EventDay:
        self.now = max(self.now, number * DAY)
        oldest = self._oldest()
        for gone in [other for other in self._days if other < oldest]:
            self._size -= len(self._days.pop(gone))
        for other in self._days.values():
            if other.number < number - 1:  # yesterday's decisions may still come in numbers
                other.close()
        day = self._days[number] = EventDay(number, len(self._codes))
        return day

    def _give_up(self) -> bool:
        """Let the oldest day go, unless it is the only one: a shorter window, and the process lives."""
        if len(self._days) == 1:
            return False
        oldest = min(self._days)
        gone = len(self._days.pop(oldest))
        self._floor = oldest + 1
        self._size -= gone
        self.dropped += gone
        return True

    def _wait(self, key: int, label: ReportedLabel) -> None:
        held = self._waiting.get(key)
        if held is not None and held.known_at > label.known_at:
            return
        self._waiting[key] = label
        self._waiting.move_to_end(key)
        if len(self._waiting) > self.settings.waiting:
            self._waiting.popitem(last=False)
            self.unmatched += 1

    @staticmethod
    def _learn(day: EventDay, row: int, label: ReportedLabel) -> bool:
        """Whether the label is news: the first of its decision, or now the opposite."""
        if label.known_at < day.known_at[row]:
            return False
        was = day.flags[row]
        day.known_at[row] = label.known_at
        day.flags[row] = (was & (ALERTED | MATURED)) | LABELLED | (FRAUD if label.is_fraud else 0)
        return not was & LABELLED or bool(was & FRAUD) != label.is_fraud


_EMPTY = Columns(np.zeros(0, dtype=np.uint64), np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.uint8), ())


def _outcome(day: EventDay, row: int) -> Outcome:
    flags = day.flags[row]
    return Outcome(day.start + day.offsets[row], day.scores[row], bool(flags & ALERTED), bool(flags & FRAUD))


def _only(table: Columns, rows: NDArray[np.bool_]) -> Columns:
    return Columns(table.card[rows], table.score[rows], table.known_at[rows], table.flags[rows], ())


def _measures(table: Columns, card_precision: float) -> QualityMeasures:
    fraud, alerted = table.flags & FRAUD > 0, table.flags & ALERTED > 0
    alerts = alert_quality(fraud, alerted)
    return QualityMeasures(
        decisions=int(fraud.size),
        frauds=int(np.count_nonzero(fraud)),
        alerts=int(np.count_nonzero(alerted)),
        average_precision=average_precision(fraud, table.score),
        card_precision=card_precision,
        precision=alerts.precision,
        recall=alerts.recall,
        f1=alerts.f1,
        calibration_error=expected_calibration_error(fraud, table.score),
    )


__all__ = [
    "DelayedQuality",
    "DelayedQualitySettings",
    "Outcome",
    "Quality",
    "QualityMeasures",
    "ReportedLabel",
    "Scored",
]
