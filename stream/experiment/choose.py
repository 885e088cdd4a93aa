"""The models of an experiment: by name, or a function of the user's own."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from models.feature_spec import FeatureSpec
from models.registry import UnknownModelError, build_model, why_not
from models.wrapped import WrappedModel
from stream.experiment.contestant import Contestant
from stream.policy import Policy

_OFFERS = ("learn_one", "score_one", "explain_one", "threshold")
_CLASSIFIER = ("learn_one", "predict_proba_one")
_DETECTOR = ("learn_one", "score_one")


class ModelChoiceError(ValueError):
    """A model cannot be had; the message is one line that says what to do."""


def choose_models(
    names: tuple[str, ...], *, genuine_rate: float, seed: int, spec: FeatureSpec, policy: Policy
) -> list[Contestant]:
    """New models, in the order asked for.

    Args:
        names: of `models.registry`, or `module:function` where the function takes nothing and returns a
            River classifier or anomaly detector.
        genuine_rate: share of the genuine transactions that is learned.
        seed: of models that draw.
        spec: of the features.
        policy: gives the alert budget.

    Raises:
        ModelChoiceError, UnknownModelError, MissingDependencyError: one of them cannot be had.
    """
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ModelChoiceError(f"--model {twice[0]}: it is asked for twice; once is enough")
    result = []
    for name in names:
        if ":" in name:
            model = own_model(name, genuine_rate=genuine_rate)
        elif why := why_not(name):
            raise UnknownModelError(f"--model {name}: {why} (or write module:function)")
        else:
            model = build_model(name, genuine_rate=genuine_rate, seed=seed, spec=spec)
        result.append(Contestant(name, model, policy))
    return result


def own_model(name: str, *, genuine_rate: float) -> Any:
    """What a user's function returns, wrapped where it is a plain River model.

    Raises:
        ModelChoiceError: there is no such function, or what it returns is no model.
    """
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = import_module(module_name)
    except Exception as error:
        raise ModelChoiceError(
            f"--model {name}: importing {module_name} failed with {type(error).__name__}: {error}; "
            "write module:function, with the module in this folder or installed"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ModelChoiceError(f"--model {name}: {module_name} has no function {function_name}")
    try:
        model = function()
    except Exception as error:
        raise ModelChoiceError(
            f"--model {name}: {function_name}() raised {type(error).__name__}: {error}"
        ) from error
    if _has(model, _OFFERS):
        return model
    if _has(model, _CLASSIFIER) or _has(model, _DETECTOR):
        return WrappedModel(model, genuine_rate)
    raise ModelChoiceError(
        f"--model {name}: {function_name}() returned a {type(model).__name__}, which is neither a River "
        "classifier (learn_one, predict_proba_one) nor an anomaly detector (learn_one, score_one)"
    )


def _has(model: Any, names: tuple[str, ...]) -> bool:
    return all(callable(getattr(model, name, None)) for name in names)
