"""What a feature costs is what its statistic adds to the work of all features."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest

from models.features.spec import EntitySpec, FeatureSpec
from stream.experiment import feature_cost
from stream.experiment.feature_cost import prices

SPEC = FeatureSpec(entities=(EntitySpec("card", ("card_id",), 10, ("novelty", "norm")),), crosses=())


def calls_of(work: Callable[[], object]) -> float:
    """How many functions it calls: a measure of work that knows no clock."""
    count = 0

    def counted(_frame: FrameType, what: str, _argument: object) -> None:
        nonlocal count
        count += what in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(before)
    return float(count)


def test_features_of_statistics_have_a_measured_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cost, "_timed", calls_of)
    found = prices(SPEC)
    assert found.features > 0.0
    assert found.profiles["card"] > 0.0
    costs = {one.feature.name: one.microseconds for one in found.listed}
    assert costs["card.merchant_visits"] > 0.0
    assert costs["amount"] == 0.0


def test_cost_is_measured_by_the_clock() -> None:
    found = prices(SPEC)
    assert found.features > 0.0
    assert found.profiles["card"] > 0.0
