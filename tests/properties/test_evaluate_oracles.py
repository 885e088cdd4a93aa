"""The measures against scikit-learn and against oracles that a reader can check by eye."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

from models.metrics.ranking import (
    alert_quality,
    average_precision,
    card_precision_by_day,
    expected_calibration_error,
    roc_auc,
    without_known_cards,
)

# few distinct scores: ties are the rule
tied = st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]))
fine = st.tuples(st.booleans(), st.floats(min_value=0, max_value=1))
scored = st.lists(tied, min_size=2, max_size=60) | st.lists(fine, min_size=2, max_size=60)

Row = tuple[int, int, bool, float]
rows = st.lists(
    st.tuples(
        st.integers(0, 4), st.integers(0, 8), st.booleans(), st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9])
    ),
    max_size=80,
)


@given(scored)
def test_average_precision_and_auc_are_scikit_learns(pairs: list[tuple[bool, float]]) -> None:
    fraud, score = [y for y, _ in pairs], [s for _, s in pairs]
    if any(fraud):
        assert average_precision(fraud, score) == pytest.approx(
            average_precision_score(fraud, score), abs=1e-12
        )
    if any(fraud) and not all(fraud):
        assert roc_auc(fraud, score) == pytest.approx(roc_auc_score(fraud, score), abs=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_alert_quality_is_scikit_learns(pairs: list[tuple[bool, bool]]) -> None:
    fraud, alert = [y for y, _ in pairs], [a for _, a in pairs]
    ours = alert_quality(fraud, alert)
    theirs = precision_recall_fscore_support(fraud, alert, average="binary", zero_division=np.nan)
    for mine, other in zip(ours, theirs[:3], strict=True):
        assert math.isnan(mine) or mine == pytest.approx(other)
    assert math.isnan(ours.precision) == (not any(alert))
    assert math.isnan(ours.recall) == (not any(fraud))


def naive_card_precision(table: list[Row], k: int, *, drop_detected: bool) -> list[float]:
    blocked: set[int] = set()
    values = []
    for day in sorted({row[0] for row in table}):
        highest: dict[int, float] = {}
        defrauded: dict[int, bool] = defaultdict(bool)
        for _, card, fraud, score in (row for row in table if row[0] == day and row[1] not in blocked):
            highest[card] = max(score, highest.get(card, score))
            defrauded[card] |= fraud
        top = sorted(highest, key=lambda card: (-highest[card], card))[:k]
        found = {card for card in top if defrauded[card]}
        values.append(len(found) / k)
        if drop_detected:
            blocked |= found
    return values


@given(table=rows, k=st.integers(1, 6), drop=st.booleans())
def test_card_precision_is_the_oracles(table: list[Row], k: int, drop: bool) -> None:
    columns = [[row[place] for row in table] for place in range(4)]
    ours = card_precision_by_day(*columns, k=k, drop_detected=drop)
    assert ours.tolist() == naive_card_precision(table, k, drop_detected=drop)


@given(table=rows, known=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4)), max_size=20))
def test_known_cards_are_the_oracles(table: list[Row], known: list[tuple[int, int]]) -> None:
    ours = without_known_cards(
        [row[0] for row in table],
        [row[1] for row in table],
        fraud_card=[card for card, _ in known],
        fraud_known_at=[at for _, at in known],
    )
    assert ours.tolist() == [not any(card == row[1] and at < row[0] for card, at in known) for row in table]


@given(scored)
def test_calibration_error_is_the_sum_over_bins(pairs: list[tuple[bool, float]]) -> None:
    gaps: dict[int, float] = defaultdict(float)
    for fraud, score in pairs:
        gaps[min(int(score * 10), 9)] += score - fraud
    expected = sum(abs(gap) for gap in gaps.values()) / len(pairs)
    ours = expected_calibration_error([y for y, _ in pairs], [s for _, s in pairs])
    assert ours == pytest.approx(expected)
