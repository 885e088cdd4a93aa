"""What each model of `models.scoring.registry` is made of: by a feature spec, a sampling rate and a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from river import anomaly, compose, forest, linear_model, optim, preprocessing, tree

from models.features.spec import FeatureSpec
from models.scoring.anomaly import Unlearning
from models.scoring.boosting import BatchBoosting
from models.scoring.ensemble import Ensemble
from models.scoring.fraud_model import FraudModel
from models.scoring.river_adapter import Filled, RiverAdapter, Squashed


class ModelOptions(NamedTuple):
    """What a model is made with."""

    negative_sampling_rate: float
    seed: int
    spec: FeatureSpec


def _default(options: ModelOptions) -> FraudModel:
    spec = options.spec
    return FraudModel(
        options.negative_sampling_rate, spec.bins, spec.coarse_bins, spec.crosses, seed=options.seed
    )


def _adapted(inner: Any, options: ModelOptions) -> RiverAdapter:
    return RiverAdapter(inner, options.negative_sampling_rate)


def _pipeline(options: ModelOptions) -> RiverAdapter:
    inner = compose.Pipeline(
        Filled(), preprocessing.StandardScaler(), linear_model.LogisticRegression(optim.AdaGrad(0.05))
    )
    return _adapted(inner, options)


def _forest(options: ModelOptions) -> RiverAdapter:
    inner = forest.ARFClassifier(
        n_models=10, max_features="sqrt", lambda_value=1, grace_period=100, seed=options.seed
    )
    return _adapted(inner, options)


def _tree(options: ModelOptions) -> RiverAdapter:
    return _adapted(tree.HoeffdingTreeClassifier(grace_period=100, delta=1e-5), options)


def _half_space(options: ModelOptions) -> RiverAdapter:
    trees = anomaly.HalfSpaceTrees(n_trees=25, height=8, window_size=500, seed=options.seed)
    return _adapted(compose.Pipeline(Filled(), preprocessing.StandardScaler(), Squashed(), trees), options)


def _ensemble(options: ModelOptions) -> Ensemble:
    members = {"default": _default(options), "hoeffding-tree": _tree(options), "anomaly": Unlearning()}
    return Ensemble(members, options.negative_sampling_rate)


FACTORIES: dict[str, Callable[[ModelOptions], Any]] = {
    "default": _default,
    "logistic": _default,
    "river-pipeline": _pipeline,
    "adaptive-forest": _forest,
    "hoeffding-tree": _tree,
    "half-space-trees": _half_space,
    "anomaly": lambda _: Unlearning(),
    "ensemble": _ensemble,
    "batch-boosting": lambda options: BatchBoosting(options.negative_sampling_rate, options.seed),
}
