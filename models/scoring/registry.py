"""Models by name: one function builds each of them, for an experiment, a worker, a replay and a verification.

What a model is made of is in `models.scoring.factories`, imported when one is built: names are known at once.
"""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple

from models.features.spec import DEFAULT_SPEC, FeatureSpec
from models.scoring.calibration import NEGATIVE_SAMPLING_RATE


class UnknownModelError(ValueError):
    """There is no model of that name."""


class ModelEntry(NamedTuple):
    """A model that there is.

    Attributes:
        meaning: for people.
        is_served: workers may serve it; else it is a yardstick for experiments.
    """

    meaning: str
    is_served: bool = True


MODELS: dict[str, ModelEntry] = {
    "default": ModelEntry("sparse logistic regression on learned bins and crosses, calibrated"),
    "logistic": ModelEntry("another name of the default"),
    "river-pipeline": ModelEntry("River's StandardScaler and LogisticRegression on the same features"),
    "adaptive-forest": ModelEntry("River's adaptive random forest, 10 trees"),
    "hoeffding-tree": ModelEntry("River's Hoeffding tree"),
    "half-space-trees": ModelEntry("River's half-space trees: no labels but for the calibration"),
    "anomaly": ModelEntry("what serves before the first label: rules on each entity's norm"),
    "ensemble": ModelEntry("default, Hoeffding tree and anomaly score, weighted online"),
    "batch-boosting": ModelEntry(
        "gradient boosting (scikit-learn), retrained as the history grows; for comparison", is_served=False
    ),
}


def why_not(name: str, *, to_serve: bool = False) -> str:
    """Why there is no such model and which is meant; empty where there is one.

    Args:
        name: what was asked for: one of `MODELS`, or `module:function`, which is not imported here.
        to_serve: by workers, or by what plays their work again.

    >>> why_not("hoeffding-tree", to_serve=True), why_not("hoefding-tree")
    ('', 'there is no such model; did you mean hoeffding-tree?')
    >>> why_not("batch-boosting", to_serve=True).partition(";")[0]
    'it is for experiments only'
    """
    names = [each for each, known in MODELS.items() if known.is_served or not to_serve]
    if name in names or all(name.partition(":")):
        return ""
    there_are = f"there are {', '.join(names)}"
    if name in MODELS:
        return f"it is for experiments only; {there_are}"
    near = difflib.get_close_matches(name, names, n=1)
    return f"there is no such model; {f'did you mean {near[0]}?' if near else there_are}"


def build_model(
    name: str = "default",
    *,
    negative_sampling_rate: float = NEGATIVE_SAMPLING_RATE,
    seed: int = 1,
    spec: FeatureSpec = DEFAULT_SPEC,
) -> Any:
    """A new model by name: `stream.experiment.candidate.Model`, with what it has learned in its pickle.

    Args:
        name: one of `MODELS`, or `module:function` of the user's own (`models.scoring.custom`).
        negative_sampling_rate: share of the genuine transactions that is learned, > 0, at most 1.
        seed: of a model that draws.
        spec: of the features.

    Raises:
        UnknownModelError: there is none of that name.
        CustomModelError: the function is not there, or gives no model.
        MissingDependencyError: it needs a package that is not installed.
    """
    if why := why_not(name):
        raise UnknownModelError(f"model {name!r}: {why}")
    if ":" in name:
        from models.scoring.custom import custom_model  # noqa: PLC0415 - as below

        return custom_model(name, negative_sampling_rate=negative_sampling_rate)
    from models.scoring.factories import (  # noqa: PLC0415 - River's models take a second to import
        FACTORIES,
        ModelOptions,
    )

    return FACTORIES[name](ModelOptions(negative_sampling_rate, seed, spec))
