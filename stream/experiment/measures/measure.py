"""From the columns of a pass to what they are worth: pure functions of arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.metrics.bootstrap import NAN, CardPrecision, Floats, Interval, Ranking, Sums, intervals
from models.metrics.ranking import (
    accuracy,
    alert_quality,
    average_precision,
    card_precision_by_day,
    expected_calibration_error,
    roc_auc,
    top_mean_and_rate,
    without_known_cards,
)
from stream.experiment.measures.results import Day, Measures, Segment

DAY = 86_400.0
WEEK = 7 * DAY
K = 100
CARD_MEMORY = 7 * DAY  # and the labels' delay: frauds so long before a week are held against their cards
ECE_BINS = 10
LEAST_FRAUDS = 10  # of a segment, to be told
MOST_SEGMENTS = 8  # told of each name

Rows = NDArray[np.int64]


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How quality is measured.

    Attributes:
        drop_known_cards: from each day, leave out cards known defrauded when it begins, and from card
            precision those found among the k on an earlier day of the week, as published.
        label_delay: seconds; with a week, how far back a card's frauds are held against it.
        review_cost: of looking at an alert, major units.
        rounds: of the bootstrap; the seed of its draws.
    """

    drop_known_cards: bool
    label_delay: float
    review_cost: float
    rounds: int = 200
    seed: int = 1


class Table(NamedTuple):
    """Labelled transactions, in the order they came.

    Attributes:
        card: numbers from 0 up.
        money: whether amounts are of one currency.
        segments: by name: the code of each transaction, and what codes stand for.
    """

    time: Floats
    card: NDArray[np.int64]
    amount: Floats
    is_fraud: NDArray[np.bool_]
    known_at: Floats
    money: bool
    segments: Mapping[str, tuple[NDArray[np.int64], Sequence[str | None]]]


class Scores(NamedTuple):
    """Of one model, an entry for each transaction of the table."""

    score: Floats
    alerted: NDArray[np.bool_]


class Window(NamedTuple):
    """Transactions that are measured together, and how many were left out as of known cards."""

    rows: Rows
    left_out: int


def day_name(time: float) -> str:
    """A time in seconds as its day."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d}"


def weeks_from(start: float, end: float) -> list[tuple[float, float]]:
    """Weeks from a start; the last one is cut at the end.

    >>> weeks_from(0.0, 10 * DAY)
    [(0.0, 604800.0), (604800.0, 864000.0)]
    """
    count = max(math.ceil((end - start) / WEEK), 0)
    return [(start + i * WEEK, min(start + (i + 1) * WEEK, end)) for i in range(count)]


def window(table: Table, start: float, end: float, rules: Rules) -> Window:
    """The transactions of a span of time that are measured."""
    rows = np.flatnonzero((table.time >= start) & (table.time < end))
    if not rules.drop_known_cards:
        return Window(rows, 0)
    earlier = table.is_fraud & (table.time >= start - CARD_MEMORY - rules.label_delay)
    keep = without_known_cards(
        table.time[rows] // DAY * DAY,
        table.card[rows],
        fraud_card=table.card[earlier],
        fraud_known_at=table.known_at[earlier],
    )
    return Window(rows[keep], int(rows.size - np.count_nonzero(keep)))


def measure(table: Table, scores: Scores, parts: Sequence[Window], rules: Rules) -> Measures:
    """The quality over windows, taken together; card precision is the mean over their days."""
    rows = np.concatenate([part.rows for part in parts]) if parts else np.zeros(0, dtype=np.int64)
    score, alerted = scores.score[rows], scores.alerted[rows]
    is_fraud, amount = table.is_fraud[rows], table.amount[rows]
    cards, card = np.unique(table.card[rows], return_inverse=True)
    quality = alert_quality(is_fraud, alerted)
    top_mean, top_rate = top_mean_and_rate(is_fraud, score)
    by_day = [
        value
        for part in parts
        for value in card_precision_by_day(
            table.time[part.rows] // DAY,
            table.card[part.rows],
            table.is_fraud[part.rows],
            scores.score[part.rows],
            k=K,
            drop_detected=rules.drop_known_cards,
        ).tolist()
    ]
    reviews = float(np.count_nonzero(alerted)) * rules.review_cost
    saved = float(amount[is_fraud & alerted].sum())
    return Measures(
        transactions=int(rows.size),
        frauds=int(np.count_nonzero(is_fraud)),
        of_known_cards=sum(part.left_out for part in parts),
        alerts=int(np.count_nonzero(alerted)),
        average_precision=average_precision(is_fraud, score),
        roc_auc=roc_auc(is_fraud, score),
        card_precision_at_100=float(np.mean(by_day)) if by_day else NAN,
        precision=quality.precision,
        recall=quality.recall,
        f1=quality.f1,
        accuracy=accuracy(is_fraud, alerted),
        expected_calibration_error=expected_calibration_error(is_fraud, score),
        top_mean_score=top_mean,
        top_fraud_rate=top_rate,
        money_saved=saved if table.money else NAN,
        money_lost=float(amount[is_fraud & ~alerted].sum()) if table.money else NAN,
        money_reviews=reviews if table.money else NAN,
        money_net=saved - reviews if table.money else NAN,
        intervals=_intervals(table, scores, parts, rows, card, cards.size, rules),
    )


def _intervals(
    table: Table,
    scores: Scores,
    parts: Sequence[Window],
    rows: Rows,
    card: NDArray[np.int64],
    cards: int,
    rules: Rules,
) -> dict[str, Interval]:
    if not rules.rounds or not rows.size:
        return {}
    score, alerted, is_fraud = scores.score[rows], scores.alerted[rows], table.is_fraud[rows]
    ranking = Ranking(is_fraud, score, card)
    sums = Sums(
        card,
        _columns(score, alerted, is_fraud, table.amount[rows]),
        lambda totals: _of_sums(totals, rules.review_cost, money=table.money),
        cards=cards,
    )
    cut = np.cumsum([part.rows.size for part in parts])[:-1]
    by_part = [
        CardPrecision(
            table.time[part.rows] // DAY,
            place,
            table.is_fraud[part.rows],
            scores.score[part.rows],
            k=K,
            drop_detected=rules.drop_known_cards,
        )
        for part, place in zip(parts, np.split(card, cut), strict=True)
    ]

    def measures(weights: Floats) -> dict[str, float]:
        days = [value for part in by_part for value in part.by_day(weights)]
        return {
            **ranking(weights),
            **sums(weights),
            "card_precision_at_100": sum(days) / len(days) if days else NAN,
        }

    return intervals(measures, cards, rounds=rules.rounds, seed=rules.seed)


def _columns(
    score: Floats, alerted: NDArray[np.bool_], is_fraud: NDArray[np.bool_], amount: Floats
) -> dict[str, Floats]:
    one = np.ones(score.size)
    place = np.minimum((score * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    bins = {f"gap{at}": np.where(place == at, score - is_fraud, 0.0) for at in range(ECE_BINS)}
    return {
        "all": one,
        "frauds": is_fraud * one,
        "alerts": alerted * one,
        "right": (is_fraud & alerted) * one,
        "saved": (is_fraud & alerted) * amount,
        "lost": (is_fraud & ~alerted) * amount,
        **bins,
    }


def _of_sums(totals: Mapping[str, float], review_cost: float, *, money: bool) -> dict[str, float]:
    everything, frauds, alerts, right = (totals[name] for name in ("all", "frauds", "alerts", "right"))
    wrong = alerts - right + frauds - right
    gaps = sum(abs(totals[f"gap{at}"]) for at in range(ECE_BINS))
    found = {
        "precision": right / alerts if alerts else NAN,
        "recall": right / frauds if frauds else NAN,
        "f1": 2.0 * right / (alerts + frauds) if alerts and frauds else NAN,
        "accuracy": 1.0 - wrong / everything if everything else NAN,
        "expected_calibration_error": gaps / everything if everything else NAN,
    }
    if money:
        found |= {
            "money_saved": totals["saved"],
            "money_lost": totals["lost"],
            "money_reviews": alerts * review_cost,
            "money_net": totals["saved"] - alerts * review_cost,
        }
    return found


def segments(table: Table, scores: Scores, rows: Rows, rules: Rules) -> list[Segment]:
    """The largest parts of the transactions that have enough frauds, by every name there is."""
    result = []
    for name, (codes, values) in table.segments.items():
        of_rows = codes[rows]
        counts = np.bincount(of_rows, minlength=len(values))
        told = [at for at in np.argsort(-counts, kind="stable").tolist() if values[at] is not None]
        for at in told[:MOST_SEGMENTS]:
            part = rows[of_rows == at]
            if np.count_nonzero(table.is_fraud[part]) >= LEAST_FRAUDS:
                result.append(_segment(table, scores, part, rules, name, str(values[at])))
    return result


def _segment(table: Table, scores: Scores, part: Rows, rules: Rules, name: str, value: str) -> Segment:
    rounds = msgspec.structs.replace(rules, rounds=min(rules.rounds, 100))
    found = measure(table, scores, [Window(part, 0)], rounds)
    wanted = ("average_precision", "precision", "recall", "money_lost")
    return Segment(
        name=name,
        value=value,
        transactions=found.transactions,
        frauds=found.frauds,
        average_precision=found.average_precision,
        precision=found.precision,
        recall=found.recall,
        money_lost=found.money_lost,
        intervals={key: value for key, value in found.intervals.items() if key in wanted},
    )


def over_days(
    table: Table, scores: Scores, kept: Rows, start: float, end: float, span: float = WEEK
) -> list[Day]:
    """Average precision of the span that ends with each day, first the one that ends a span after the start.

    Args:
        table: of all transactions.
        scores: of one model.
        kept: those that are measured.
        start: seconds, midnight.
        end: seconds.
        span: seconds.
    """
    result = []
    time = table.time[kept]
    for last in np.arange(start + span, end + 1.0, DAY).tolist():
        rows = kept[(time >= last - span) & (time < last)]
        is_fraud = table.is_fraud[rows]
        result.append(
            Day(
                day=day_name(last - DAY),
                frauds=int(np.count_nonzero(is_fraud)),
                average_precision=average_precision(is_fraud, scores.score[rows]),
            )
        )
    return result
