from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    precision_recall_curve,
    roc_auc_score,
)

from models.metrics import ranking as evaluate
from models.metrics.bootstrap import CardPrecision, Ranking, Sums, intervals
from stream.experiment.measures.measure import (
    DAY,
    Rules,
    Scores,
    Table,
    measure,
    over_days,
    segments,
    weeks_from,
    window,
)
from stream.experiment.measures.measure import Window as Part
from stream.inspect.account import Decisions
from stream.inspect.quality import QualityProtocol, QualityWindow
from stream.inspect.quality import measure as measure_topics

DATETIME_START = 1_514_764_800.0  # 2018-01-01, midnight UTC
RULES = Rules(drop_known_cards=True, label_delay=2 * DAY, review_cost=5.0, rounds=20, seed=3)


def world(rows: int = 3000, seed: int = 1) -> tuple[Table, Scores]:
    chance = np.random.default_rng(seed)
    time = DATETIME_START + np.sort(chance.random(rows) * 20 * DAY)
    card = chance.integers(0, 150, rows)
    is_fraud = chance.random(rows) < np.where(card < 15, 0.2, 0.005)
    score = np.clip(chance.random(rows) * 0.5 + is_fraud * 0.3, 0.0, 1.0).round(3)
    table = Table(
        time=time,
        card=card,
        amount=chance.random(rows) * 100.0,
        is_fraud=is_fraud,
        known_at=time + 2 * DAY,
        money=True,
        segments={"country": (card % 3, [None, "BE", "FR"])},
    )
    return table, Scores(score, score > 0.6)


def whole(table: Table, rules: Rules = RULES) -> list[Part]:
    return [window(table, float(table.time[0]), float(table.time[-1]) + 1.0, rules)]


def test_measures_are_those_of_scikit_learn() -> None:
    table, scores = world()
    rules = Rules(drop_known_cards=False, label_delay=0.0, review_cost=5.0, rounds=0)
    found = measure(table, scores, [window(table, 0.0, math.inf, rules)], rules)
    assert found.average_precision == pytest.approx(average_precision_score(table.is_fraud, scores.score))
    assert found.roc_auc == pytest.approx(roc_auc_score(table.is_fraud, scores.score))
    assert found.f1 == pytest.approx(f1_score(table.is_fraud, scores.alerted))
    assert found.accuracy == pytest.approx(accuracy_score(table.is_fraud, scores.alerted))


def test_curve_lies_on_that_of_scikit_learn() -> None:
    table, scores = world()
    precision, recall, _ = precision_recall_curve(table.is_fraud, scores.score)
    exact = {(round(r, 12), round(p, 12)) for r, p in zip(recall.tolist(), precision.tolist(), strict=True)}
    points = evaluate.precision_recall_curve(table.is_fraud, scores.score, points=50)
    assert 10 < len(points) <= 50
    assert all((round(each.recall, 12), round(each.precision, 12)) in exact for each in points)
    assert points[-1].recall == 1.0


def test_week_is_measured_as_the_topics_of_a_run_are() -> None:
    table, scores = world()
    start, end = DATETIME_START + 7 * DAY, DATETIME_START + 14 * DAY
    rules = Rules(drop_known_cards=True, label_delay=7 * DAY, review_cost=5.0, rounds=0)
    table = table._replace(known_at=table.time + 7 * DAY)
    decisions = Decisions(
        table.time, table.card.astype(np.uint64), scores.score, scores.alerted, table.is_fraud, table.known_at
    )
    span = QualityWindow("week", datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC))
    topics = measure_topics(decisions, span, QualityProtocol())
    found = measure(table, scores, [window(table, start, end, rules)], rules)
    assert found.of_known_cards == topics.of_known_cards > 0
    assert (found.average_precision, found.roc_auc, found.card_precision_at_100) == (
        topics.average_precision,
        topics.roc_auc,
        topics.card_precision,
    )
    assert (found.precision, found.recall, found.expected_calibration_error) == (
        topics.precision,
        topics.recall,
        topics.calibration_error,
    )


def test_known_card_is_left_out_from_the_day_after_its_fraud_is_known() -> None:
    table = Table(
        time=DATETIME_START + np.array([0.0, 2.5, 2.9, 3.1, 4.0]) * DAY,
        card=np.array([1, 1, 1, 1, 2]),
        amount=np.ones(5),
        is_fraud=np.array([True, False, False, False, True]),
        known_at=DATETIME_START + np.array([2.0, 9.0, 9.0, 9.0, 9.0]) * DAY,
        money=True,
        segments={},
    )
    kept = window(table, DATETIME_START, DATETIME_START + 5 * DAY, RULES)
    assert kept.rows.tolist() == [0, 1, 2, 4]  # known at the start of its third day, not before it
    assert kept.left_out == 1


def test_money_is_what_alerts_stop_and_misses_cost() -> None:
    table = Table(
        time=DATETIME_START + np.arange(4.0),
        card=np.arange(4),
        amount=np.array([100.0, 40.0, 7.0, 5.0]),
        is_fraud=np.array([True, True, False, False]),
        known_at=np.full(4, np.inf),
        money=True,
        segments={},
    )
    found = measure(table, Scores(np.zeros(4), np.array([True, False, True, False])), whole(table), RULES)
    assert (found.money_saved, found.money_lost, found.money_reviews, found.money_net) == (100, 40, 10, 90)


def test_intervals_hold_the_figure_they_are_of() -> None:
    table, scores = world()
    found = measure(table, scores, whole(table), RULES)
    assert {"average_precision", "roc_auc", "card_precision_at_100", "recall", "money_lost"} <= {
        *found.intervals
    }
    for name, interval in found.intervals.items():
        if name != "expected_calibration_error":  # biased upwards in every draw: it is a sum of distances
            assert interval.low <= getattr(found, name) <= interval.high, name


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Cards of very different fraud rates: intervals that forgot them would be far too narrow."""
    covered = 0
    for seed in range(100):
        chance = np.random.default_rng(seed)
        card = np.repeat(np.arange(80), 20)
        rate = chance.beta(0.5, 1.5, 80)  # its mean is 1 in 4
        is_fraud = chance.random(card.size) < rate[card]
        columns = {"all": np.ones(card.size), "frauds": is_fraud}
        found = intervals(
            Sums(card, columns, lambda sums: {"rate": sums["frauds"] / sums["all"]}, cards=80),
            80,
            rounds=200,
            seed=seed,
        )
        covered += found["rate"].low <= 0.25 <= found["rate"].high
    assert 86 <= covered <= 99


def test_quality_over_days_is_of_the_days_that_end_with_each() -> None:
    table, scores = world()
    days = over_days(table, scores, np.arange(table.time.size), DATETIME_START, DATETIME_START + 20 * DAY)
    assert [days[0].day, days[-1].day] == ["2018-01-07", "2018-01-20"]
    first = table.time < DATETIME_START + 7 * DAY
    assert days[0].average_precision == evaluate.average_precision(table.is_fraud[first], scores.score[first])


def test_segments_are_those_with_a_name_and_enough_frauds() -> None:
    table, scores = world()
    found = segments(table, scores, np.arange(table.time.size), RULES)
    assert {each.value for each in found} == {"BE", "FR"}
    assert sum(each.transactions for each in found) == int(np.count_nonzero(table.card % 3))


def test_last_week_may_be_short() -> None:
    assert weeks_from(0.0, 8 * DAY)[-1] == (7 * DAY, 8 * DAY)
    assert weeks_from(5.0, 5.0) == []


def test_nothing_measured_is_nan_and_no_failure() -> None:
    table, scores = world()
    found = measure(table, scores, [], RULES)
    assert found.transactions == 0
    assert math.isnan(found.average_precision)
    assert found.intervals == {}


def test_draw_that_takes_a_card_twice_counts_it_twice() -> None:
    is_fraud, score, card = [1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6], [0, 0, 1, 1]
    doubled = Ranking(is_fraud, score, card)(np.array([2.0, 1.0]))
    again = [1, 0, 1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.9, 0.8]
    assert doubled["average_precision"] == pytest.approx(evaluate.average_precision(*again))
    assert doubled["roc_auc"] == pytest.approx(evaluate.roc_auc(*again))
    cards = CardPrecision([0, 0, 0, 0], card, is_fraud, score, k=2)
    assert cards.by_day(np.array([2.0, 0.0])) == [1.0]
    assert cards.by_day(np.array([0.0, 1.0])) == [0.5]
