"""Models by name: each is built from a feature spec, a sampling rate and a seed."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, NamedTuple

from river import anomaly, compose, forest, linear_model, optim, preprocessing, tree

from models.anomaly import UnsupervisedModel
from models.boosting import BatchBoosting
from models.classifier import FraudModel, UnknownModelError, build_model
from models.feature_spec import DEFAULT_SPEC, FeatureSpec
from models.pool import Pool
from models.wrapped import Filled, Squashed, WrappedModel


class Recipe(NamedTuple):
    """What a model is made with."""

    genuine_rate: float
    seed: int
    spec: FeatureSpec


class _Unlearning(UnsupervisedModel):
    """The unsupervised model where labels are offered: it does without."""

    def learn_one(self, x: Any, y: Any = None) -> None:
        """Nothing."""


def _default(recipe: Recipe) -> FraudModel:
    return build_model(genuine_rate=recipe.genuine_rate, seed=recipe.seed, spec=recipe.spec)


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
    members = {"default": _default(recipe), "hoeffding-tree": _tree(recipe), "anomaly": _Unlearning()}
    return Pool(members, recipe.genuine_rate)


MODELS: dict[str, tuple[Callable[[Recipe], Any], str]] = {
    "default": (_default, "sparse logistic regression on learned bins and crosses, calibrated"),
    "logistic": (_default, "another name of the default"),
    "river-pipeline": (_pipeline, "River's StandardScaler and LogisticRegression on the same features"),
    "adaptive-forest": (_forest, "River's adaptive random forest, 10 trees"),
    "hoeffding-tree": (_tree, "River's Hoeffding tree"),
    "half-space-trees": (_half_space, "River's half-space trees: no labels but for the calibration"),
    "anomaly": (lambda _: _Unlearning(), "what serves before the first label: rules on each entity's norm"),
    "ensemble": (_ensemble, "default, Hoeffding tree and anomaly score, weighted online"),
    "batch-boosting": (
        lambda recipe: BatchBoosting(recipe.genuine_rate, recipe.seed),
        "gradient boosting (scikit-learn), retrained as the history grows; for comparison",
    ),
}


def make_model(
    name: str = "default", *, genuine_rate: float = 0.1, seed: int = 1, spec: FeatureSpec = DEFAULT_SPEC
) -> Any:
    """A new model by name.

    Raises:
        UnknownModelError: there is none of that name.
        MissingDependencyError: it needs a package that is not installed.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(MODELS)}"
        raise UnknownModelError(f"model {name!r} is unknown; {hint} (or write module:function)")
    return MODELS[name][0](Recipe(genuine_rate, seed, spec))
