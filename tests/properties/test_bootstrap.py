"""The prepared measures of the bootstrap are those of `models.metrics.ranking`, whatever the data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.metrics.bootstrap import CardPrecision, Ranking
from models.metrics.ranking import average_precision, card_precision_by_day, roc_auc

rows = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 3), st.booleans(), st.integers(0, 12)),
    min_size=1,
    max_size=80,
)


@given(rows, st.lists(st.integers(0, 3), min_size=10, max_size=10))
@settings(deadline=None)
def test_weighted_ranking_is_the_ranking_of_repeated_transactions(found: Any, weights: list[int]) -> None:
    card, _, fraud, score = (np.array(column) for column in zip(*found, strict=True))
    times = np.array(weights)[card]
    many = np.repeat(fraud, times), np.repeat(score, times)
    result = Ranking(fraud, score, card)(np.array(weights, dtype=float))
    if many[0].any() and not many[0].all():
        assert math.isclose(result["average_precision"], average_precision(*many))
        assert math.isclose(result["roc_auc"], roc_auc(*many), abs_tol=1e-12)
    else:
        assert math.isnan(result["roc_auc"])


@given(rows, st.integers(1, 6), st.booleans())
@settings(deadline=None)
def test_unweighted_card_precision_is_that_of_evaluate(found: Any, k: int, drop: bool) -> None:
    card, day, fraud, score = (np.array(column) for column in zip(*found, strict=True))
    prepared = CardPrecision(day, card, fraud, score, k=k, drop_detected=drop)
    exact = card_precision_by_day(day, card, fraud, score, k=k, drop_detected=drop)
    assert np.allclose(prepared.by_day(np.ones(10)), exact)
