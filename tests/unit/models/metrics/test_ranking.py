from __future__ import annotations

import math

import numpy as np
import pytest

from models.metrics.ranking import (
    alert_quality,
    average_precision,
    card_precision_at_k,
    card_precision_by_day,
    cost,
    expected_calibration_error,
    roc_auc,
    without_known_cards,
)


def test_perfect_order_has_average_precision_one_and_reversed_order_has_auc_zero() -> None:
    assert average_precision([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4]) == 1.0
    assert roc_auc([1, 1, 0, 0], [0.1, 0.2, 0.3, 0.4]) == 0.0


def test_scores_that_are_all_equal_are_worth_the_base_rate() -> None:
    assert average_precision([1, 0, 0, 0], [0.5] * 4) == 0.25
    assert roc_auc([1, 0, 0, 0], [0.5] * 4) == 0.5


def test_nothing_to_measure_is_nan() -> None:
    assert math.isnan(average_precision([], []))
    assert math.isnan(average_precision([0, 0], [0.1, 0.2]))
    assert math.isnan(roc_auc([1, 1], [0.1, 0.2]))
    assert math.isnan(card_precision_at_k([], [], [], [], k=3))
    assert math.isnan(expected_calibration_error([], []))
    assert all(math.isnan(value) for value in alert_quality([0, 0], [0, 0]))


def test_card_counts_once_a_day_with_its_highest_score() -> None:
    # card 1 is on top thrice; with k=2 card 2 is the second card, not the fourth row
    values = card_precision_by_day([0] * 4, [1, 1, 1, 2], [0, 0, 1, 1], [0.9, 0.8, 0.7, 0.1], k=2)
    assert values.tolist() == [1.0]


def test_fewer_cards_than_k_still_divide_by_k() -> None:
    assert card_precision_at_k([0, 0], ["a", "b"], [1, 0], [0.9, 0.1], k=10) == 0.1


def test_detected_card_is_not_looked_at_again() -> None:
    day, card = [0, 0, 1, 1], ["a", "b", "a", "b"]
    fraud, score = [1, 0, 1, 0], [0.9, 0.1, 0.9, 0.1]
    assert card_precision_by_day(day, card, fraud, score, k=1).tolist() == [1.0, 0.0]
    assert card_precision_by_day(day, card, fraud, score, k=1, drop_detected=False).tolist() == [1.0, 1.0]


def test_equal_scores_are_taken_in_the_order_of_the_card() -> None:
    assert card_precision_at_k([0, 0], ["b", "a"], [1, 0], [0.5, 0.5], k=1) == 0.0


def test_card_is_dropped_from_the_day_after_its_fraud_became_known() -> None:
    keep = without_known_cards(
        [10.0, 20.0, 20.0], ["a", "a", "b"], fraud_card=["a", "a"], fraud_known_at=[50.0, 10.0]
    )
    assert keep.tolist() == [True, False, True]
    assert without_known_cards([1.0], ["a"], fraud_card=[], fraud_known_at=[]).tolist() == [True]


def test_calibration_error_is_the_weighted_gap() -> None:
    assert expected_calibration_error([1, 0, 0, 0], [0.95, 0.95, 0.05, 0.05]) == pytest.approx(0.25)
    assert expected_calibration_error([1], [1.0]) == 0.0


def test_missed_frauds_cost_their_amount_and_alerts_their_work() -> None:
    assert cost([1, 0, 1], [0, 1, 1], [10.0, 99.0, 5.0], alert_cost=2.0) == 14.0


def test_alert_quality_counts() -> None:
    quality = alert_quality(np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0]))
    assert quality == pytest.approx((2 / 3, 2 / 3, 2 / 3))
