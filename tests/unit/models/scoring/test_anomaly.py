from __future__ import annotations

import pickle
import random
from typing import Any

import pytest
from river import base
from river.checks import common
from river.checks.anomaly import check_roc_auc

from models.features.compute import entities_of, event_of, features_of
from models.features.reasons import feature_reason
from models.features.spec import DEFAULT_SPEC
from models.scoring.anomaly import RULES, UnsupervisedModel
from models.scoring.calibration import sigmoid
from producers.simulator.simulate import SimulationSpec, simulate
from producers.simulator.world import Population
from stream.experiment.entity_states import EntityStates, update
from stream.messages import Transaction

USUAL = {
    "amount": 20.0,
    "card.z.30d": 0.3,
    "card.outliers.7d": 0.0,
    "card.tempo": 1.0,
    "merchant.z.30d": -0.4,
}


@pytest.fixture
def model() -> UnsupervisedModel:
    return UnsupervisedModel()


@pytest.mark.parametrize(
    "unusual",
    [
        {"card.z.30d": 6.0},
        {"card.tempo": 40.0},
        {"card.speed": 4_000.0},
        {"card.country_change": 1.0},
        {"card.device_visits": 0.0},
        {"device.cards": 6.0},
        {"merchant.z.30d": 6.0},
    ],
)
def test_what_is_unusual_raises_the_score_and_is_its_first_reason(
    model: UnsupervisedModel, unusual: dict[str, float]
) -> None:
    x = USUAL | unusual
    assert model.score_one(x) > model.score_one(USUAL)
    (name,) = unusual
    assert model.explain_one(x)[0][0] == name
    assert name not in feature_reason(name, x)


def test_evidence_never_falls_as_a_feature_grows() -> None:
    for name, evidence in RULES.items():
        values = [evidence(value) for value in (-1e308, -1.0, 0.0, 0.5, 1.0, 5.0, 100.0, 1e308)]
        falling = name.endswith("_visits")  # a known merchant speaks for the card
        assert values == sorted(values, reverse=falling)
        assert min(values) >= 0.0
        assert max(values) <= 5.0


def test_contributions_and_bias_add_up_to_the_log_odds_of_the_score(model: UnsupervisedModel) -> None:
    x = USUAL | {"card.z.30d": 3.0, "device.cards": 3.0}
    total = model.bias + sum(value for _, value in model.explain_one(x))
    assert total == pytest.approx(model.log_odds(x), abs=1e-12)
    assert model.score_one(x) == pytest.approx(sigmoid(total), abs=1e-12)


def test_one_statistic_is_one_piece_of_evidence_under_however_many_half_lives(
    model: UnsupervisedModel,
) -> None:
    assert model.score_one({"card.z.7d": 4.0, "card.z.30d": 4.0}) == model.score_one({"card.z.30d": 4.0})


def test_score_rests_on_the_features_alone(model: UnsupervisedModel) -> None:
    before = model.score_one(USUAL)
    for _ in range(100):
        model.learn_one({"card.z.30d": 9.0})
    assert model.score_one(USUAL) == before
    assert pickle.loads(pickle.dumps(model)).score_one(USUAL) == before  # noqa: S301 - made by this test


def test_score_does_not_depend_on_the_order_of_features(model: UnsupervisedModel) -> None:
    x = dict.fromkeys(RULES, 2.7)
    assert model.score_one(x) == model.score_one(dict(reversed(x.items())))


def test_nothing_known_is_nothing_unusual(model: UnsupervisedModel) -> None:
    assert model.score_one({}) == pytest.approx(sigmoid(model.bias))
    assert model.explain_one({}) == []


def test_threshold_falls_as_the_share_grows(model: UnsupervisedModel) -> None:
    thresholds = [model.threshold(share) for share in (0.0001, 0.001, 0.01, 0.1)]
    assert thresholds == sorted(thresholds, reverse=True)
    assert all(0.0 < threshold < 1.0 for threshold in thresholds)


def test_threshold_alerts_on_few_more_than_its_share_of_payments_it_was_not_made_for(
    model: UnsupervisedModel,
) -> None:
    population = Population(cards=400, merchants=400, payments_per_day=1.0, trips=1.0)
    spec = SimulationSpec(days=14, population=population)
    known = EntityStates(len(DEFAULT_SPEC.half_lives))
    scores = []
    for payment in simulate(spec, seed=13):
        if isinstance(payment, Transaction):
            entities = entities_of(payment, DEFAULT_SPEC)
            event, found = event_of(payment, DEFAULT_SPEC), known.of(entities)
            kinds = tuple(kind for kind, _, _ in entities)
            scores.append(model.score_one(features_of(payment, event, kinds, found, DEFAULT_SPEC)))
            update(found, event, entities)
    for share in (0.005, 0.01, 0.05):
        alerted = sum(score > model.threshold(share) for score in scores) / len(scores)
        assert share / 5.0 < alerted < 1.5 * share


def unusual_stream() -> list[tuple[dict[str, float], bool]]:
    chance = random.Random(1)
    return [
        ({name: chance.expovariate(0.3 if y else 1.0) for name in RULES}, y)
        for y in (chance.random() < 0.1 for _ in range(200))
    ]


@pytest.mark.parametrize(
    "check",
    [
        common.check_learn_one,
        common.check_pickling,
        common.check_shuffle_features_no_impact,
        common.check_emerging_features,
        common.check_disappearing_features,
        common.check_radically_disappearing_features,
        common.check_predict_one_pure,
        common.check_predict_one_before_any_learn,
        common.check_no_state_aliasing_with_input,
        common.check_clone_is_independent,
        check_roc_auc,
    ],
)
def test_river_accepts_the_detector(check: Any) -> None:
    # The rules of `yield_checks` for detectors, on payments: its own data set comes from the network.
    assert isinstance(UnsupervisedModel(), base.AnomalyDetector)
    check(UnsupervisedModel(), unusual_stream())
