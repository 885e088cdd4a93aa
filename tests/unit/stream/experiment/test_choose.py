from __future__ import annotations

import builtins
import copy
import random
from pathlib import Path
from typing import Any

import pytest
from river import anomaly, tree

from models.features.descriptions import MEANINGS, check_crosses, features_listed
from models.features.spec import DEFAULT_SPEC, EntitySpec, FeatureSpec, SpecError
from models.metrics.ranking import average_precision, expected_calibration_error
from models.scoring.custom import CustomModelError, custom_model
from models.scoring.ensemble import Ensemble
from models.scoring.registry import MODELS, UnknownModelError, build_model
from models.scoring.river_adapter import Filled, RiverAdapter
from stream.experiment.choose import choose_models
from stream.learning import is_sampled
from stream.policy import Policy

RATE = 0.2
LEARNERS = ("default", "river-pipeline", "hoeffding-tree", "ensemble", "batch-boosting")


def events(count: int = 8000, seed: int = 1) -> list[tuple[dict[str, float], bool]]:
    """One in fifty is a fraud, and far more often where z is high."""
    chance = random.Random(seed)
    result = []
    for _ in range(count):
        is_fraud = chance.random() < 0.02
        x = {"card.z.30d": chance.gauss(2.5 if is_fraud else 0.0, 1.0), "amount": chance.lognormvariate(3, 1)}
        if chance.random() < 0.3:
            x["card.since_last"] = chance.expovariate(0.001)
        result.append((x, is_fraud))
    return result


def trained(name: str, count: int = 8000) -> tuple[Any, list[float], list[bool]]:
    """A model after events of which all frauds and the chosen genuine are learned; its later scores."""
    model = build_model(name, negative_sampling_rate=RATE, seed=1)
    scores, labels = [], []
    every = 5 if name == "batch-boosting" else 1  # one row at a time it is slow
    for place, (x, y) in enumerate(events(count)):
        if place >= count // 2 and place % every == 0:
            scores.append(model.score_one(x))
            labels.append(y)
        if y or is_sampled(f"t{place}", RATE):
            model.learn_one(x, y)
    return model, scores, labels


@pytest.mark.parametrize("name", [name for name in MODELS if name != "adaptive-forest"])
def test_every_model_scores_probabilities_and_can_be_copied(name: str) -> None:
    model, scores, _ = trained(name, 1500)
    assert all(0.0 <= score <= 1.0 for score in scores)
    assert 0.0 <= model.threshold(0.002) <= 1.0
    assert model.threshold(0.01) <= model.threshold(0.002)
    assert isinstance(model.explain_one(events(1)[0][0]), list)
    x = events(3, seed=9)[0][0]
    assert copy.deepcopy(model).score_one(x) == model.score_one(x)


@pytest.mark.parametrize("name", LEARNERS)
def test_learning_model_ranks_frauds_and_its_scores_mean_what_they_say(name: str) -> None:
    _, scores, labels = trained(name)
    assert average_precision(labels, scores) > 0.15  # chance gives 0.02
    # Sampled genuine transactions would raise every score fivefold, were the prior not corrected.
    assert expected_calibration_error(labels, scores) < 0.02
    assert 0.2 < sum(scores) / sum(labels) < 2.5


def test_batch_model_scores_many_as_it_scores_each() -> None:
    model, _, _ = trained("batch-boosting", 3000)
    rows = [x for x, _ in events(50, seed=4)]
    assert model.score_many(rows) == pytest.approx([model.score_one(row) for row in rows])


def test_batch_model_without_scikit_learn_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        build_model("batch-boosting")


def test_unknown_model_is_told_with_the_nearest() -> None:
    with pytest.raises(UnknownModelError, match="did you mean hoeffding-tree"):
        build_model("hoefding-tree")


def test_pool_comes_to_trust_the_member_that_is_right() -> None:
    class Says:
        def __init__(self, right: bool) -> None:
            self.right = right

        def score_one(self, x: dict[str, float]) -> float:
            return 0.9 if (x["y"] > 0) == self.right else 0.1

        def learn_one(self, x: dict[str, float], y: bool) -> None: ...

        def explain_one(self, _: dict[str, float]) -> list[tuple[str, float]]:
            return [("y", 1.0 if self.right else -1.0)]

    pool = Ensemble({"wrong": Says(False), "right": Says(True)}, 1.0)
    for i in range(40):
        pool.learn_one({"y": float(i % 2)}, bool(i % 2))
    assert pool.weights["right"] > 0.95
    assert sum(pool.weights.values()) == pytest.approx(1.0)
    for i in range(40):
        pool.learn_one({"y": float(i % 2)}, not i % 2)  # now the other one is right
    assert pool.weights["wrong"] > 0.9


def test_detector_is_wrapped_by_its_score_and_learns_without_labels() -> None:
    model = RiverAdapter(anomaly.HalfSpaceTrees(n_trees=5, height=4, window_size=50, seed=1), 1.0)
    chance = random.Random(2)
    for _ in range(600):
        model.learn_one({"a": chance.random() * 0.2 + 0.4}, False)
    assert model.score_one({"a": 0.99}) >= model.score_one({"a": 0.5})
    assert (model.learned, model.frauds) == (600, 0)


def test_untrained_classifier_that_says_nothing_still_gets_a_score() -> None:
    assert 0.0 <= RiverAdapter(tree.HoeffdingTreeClassifier(), 0.1).score_one({"a": 1.0}) <= 1.0


def test_filled_gives_every_known_name_in_a_fixed_order() -> None:
    filled = Filled(-1.0)
    filled.learn_one({"b": 1.0})
    filled.learn_one({"a": 2.0})
    assert list(filled.transform_one({"a": 5.0, "new": 1.0}).items()) == [("b", -1.0), ("a", 5.0)]


def test_function_of_ones_own_is_wrapped_unless_it_is_a_whole_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_models_here.py").write_text(
        "from river import tree\nfrom models.scoring.registry import build_model\n"
        "def plain(): return tree.HoeffdingTreeClassifier()\n"
        "def whole(): return build_model('default')\n"
        "def failing(): raise RuntimeError('no weights')\n"
    )
    monkeypatch.chdir(tmp_path)
    assert isinstance(custom_model("my_models_here:plain", negative_sampling_rate=0.1), RiverAdapter)
    assert not isinstance(custom_model("my_models_here:whole", negative_sampling_rate=0.1), RiverAdapter)
    with pytest.raises(CustomModelError, match="raised RuntimeError: no weights"):
        custom_model("my_models_here:failing", negative_sampling_rate=0.1)


def test_models_keep_the_order_they_are_asked_for() -> None:
    chosen = choose_models(
        ("anomaly", "default"), negative_sampling_rate=0.1, seed=1, spec=DEFAULT_SPEC, policy=Policy()
    )
    assert [one.name for one in chosen] == ["anomaly", "default"]


# ---- the list of features


def test_every_feature_of_a_spec_has_a_meaning_and_a_unit() -> None:
    spec = FeatureSpec(
        entities=(
            EntitySpec(
                "pair",
                ("card_id", "merchant_id"),
                5,
                ("norm", "activity", "tempo", "labels", "cards", "novelty", "travel"),
            ),
        ),
        crosses=(),
    )
    listed = features_listed(spec)
    assert {one.entity for one in listed} == {"event", "pair"}
    for one in listed:
        name = one.name.partition("=")[0]
        statistic = name.split(".")[1] if "." in name else name
        assert statistic in MEANINGS, one.name
        assert one.unit
    assert {"7d", "30d", ""} <= {one.half_life for one in listed}


def test_cross_of_what_is_not_there_is_refused() -> None:
    with pytest.raises(SpecError, match=r"card\.ratio\.31d; did you mean card\.ratio\.30d"):
        check_crosses(FeatureSpec(crosses=(("card.ratio.31d", "amount"),)))
    check_crosses(DEFAULT_SPEC)
