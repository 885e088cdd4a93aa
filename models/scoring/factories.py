"""What each model of `models.scoring.registry` is made of: by a feature spec, a sampling rate and a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from river import anomaly, compose, forest, linear_model, optim, preprocessing, tree

from models.features.spec import FeatureSpec
from models.scoring.anomaly import UnsupervisedModel
from models.scoring.boosting import BatchBoosting
from models.scoring.ensemble import Pool
from models.scoring.fraud_model import FraudModel
from models.scoring.river_adapter import Filled, Squashed, WrappedModel


class Recipe(NamedTuple):
    """What a model is made with."""

    genuine_rate: float
    seed: int
    spec: FeatureSpec


class Unlearning(UnsupervisedModel):
    """The unsupervised model where labels are offered: it does without."""

    def learn_one(self, x: Any, y: Any = None) -> None:
        """Nothing."""


def _default(recipe: Recipe) -> FraudModel:
    spec = recipe.spec
    return FraudModel(recipe.genuine_rate, spec.bins, spec.coarse_bins, spec.crosses, seed=recipe.seed)


def _wrapped(inner: Any, recipe: Recipe) -> WrappedModel:
    return WrappedModel(inner, recipe.genuine_rate)


def _pipeline(recipe: Recipe) -> WrappedModel:
    inner = compose.Pipeline(
        Filled(), preprocessing.StandardScaler(), linear_model.LogisticRegression(optim.AdaGrad(0.05))
    )
    return _wrapped(inner, recipe)


def _forest(recipe: Recipe) -> WrappedModel:
    inner = forest.ARFClassifier(
        n_models=10, max_features="sqrt", lambda_value=1, grace_period=100, seed=recipe.seed
    )
    return _wrapped(inner, recipe)


def _tree(recipe: Recipe) -> WrappedModel:
    return _wrapped(tree.HoeffdingTreeClassifier(grace_period=100, delta=1e-5), recipe)


def _half_space(recipe: Recipe) -> WrappedModel:
    trees = anomaly.HalfSpaceTrees(n_trees=25, height=8, window_size=500, seed=recipe.seed)
    return _wrapped(compose.Pipeline(Filled(), preprocessing.StandardScaler(), Squashed(), trees), recipe)


def _ensemble(recipe: Recipe) -> Pool:
    members = {"default": _default(recipe), "hoeffding-tree": _tree(recipe), "anomaly": Unlearning()}
    return Pool(members, recipe.genuine_rate)


RECIPES: dict[str, Callable[[Recipe], Any]] = {
    "default": _default,
    "logistic": _default,
    "river-pipeline": _pipeline,
    "adaptive-forest": _forest,
    "hoeffding-tree": _tree,
    "half-space-trees": _half_space,
    "anomaly": lambda _: Unlearning(),
    "ensemble": _ensemble,
    "batch-boosting": lambda recipe: BatchBoosting(recipe.genuine_rate, recipe.seed),
}
