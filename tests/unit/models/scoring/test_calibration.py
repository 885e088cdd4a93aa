"""A calibrated score is the share of frauds, and follows it."""

from __future__ import annotations

import random

import pytest

from models.scoring.calibration import Calibration, sigmoid


def test_calibration_corrects_a_model_that_is_too_sure() -> None:
    calibration = Calibration(negative_sampling_rate=0.1)
    chance = random.Random(1)
    for _ in range(200_000):
        z = chance.gauss(-2.0, 1.5)
        y = chance.random() < sigmoid(z)
        if y or chance.random() < 0.1:
            calibration.learn(2.0 * z, y)
    assert calibration.log_odds(-4.0) == pytest.approx(-2.0, abs=0.15)
    assert calibration.log_odds(4.0) == pytest.approx(2.0, abs=0.3)


def test_calibration_follows_a_change() -> None:
    calibration = Calibration(negative_sampling_rate=1.0)
    chance = random.Random(1)
    for rate in (0.5, 0.01):
        for _ in range(100_000):
            calibration.learn(0.0, chance.random() < rate)
    assert sigmoid(calibration.log_odds(0.05)) < 0.05
