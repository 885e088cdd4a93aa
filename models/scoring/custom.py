"""A model of the user's own: what a function of theirs returns, as one that can be compared and served."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from models.scoring.river_adapter import RiverAdapter

_OFFERS = ("learn_one", "score_one", "explain_one", "threshold")
_CLASSIFIER = ("learn_one", "predict_proba_one")
_DETECTOR = ("learn_one", "score_one")


class CustomModelError(ValueError):
    """A model of the user's own cannot be had; the message is one line that says what to do."""


def see_this_folder() -> None:
    """Let modules of the working folder be imported, as a program that was installed does not."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def custom_model(name: str, *, negative_sampling_rate: float) -> Any:
    """What a user's function returns, wrapped where it is a plain River model.

    Args:
        name: `module:function`; the function takes nothing and returns a River classifier or anomaly
            detector, or a whole model.
        negative_sampling_rate: share of the genuine transactions that is learned, > 0, at most 1.

    Raises:
        CustomModelError: there is no such function, or what it returns is no model.
    """
    module_name, _, function_name = name.partition(":")
    see_this_folder()
    try:
        module = import_module(module_name)
    except Exception as error:
        raise CustomModelError(
            f"model {name}: importing {module_name} failed with {type(error).__name__}: {error}; "
            "write module:function, with the module in this folder or installed"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise CustomModelError(f"model {name}: {module_name} has no function {function_name}")
    try:
        model = function()
    except Exception as error:
        raise CustomModelError(
            f"model {name}: {function_name}() raised {type(error).__name__}: {error}"
        ) from error
    if _has(model, _OFFERS):
        return model
    if _has(model, _CLASSIFIER) or _has(model, _DETECTOR):
        return RiverAdapter(model, negative_sampling_rate)
    raise CustomModelError(
        f"model {name}: {function_name}() returned a {type(model).__name__}, which is neither a River "
        "classifier (learn_one, predict_proba_one) nor an anomaly detector (learn_one, score_one)"
    )


def _has(model: Any, names: tuple[str, ...]) -> bool:
    return all(callable(getattr(model, name, None)) for name in names)
