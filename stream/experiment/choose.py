"""The models of an experiment: by name, or a function of the user's own."""

from __future__ import annotations

from models.features.spec import FeatureSpec
from models.scoring.registry import UnknownModelError, build_model, why_not
from stream.experiment.candidate import Candidate
from stream.policy import Policy


class ModelChoiceError(ValueError):
    """A model cannot be had; the message is one line that says what to do."""


def choose_models(
    names: tuple[str, ...], *, negative_sampling_rate: float, seed: int, spec: FeatureSpec, policy: Policy
) -> list[Candidate]:
    """New models, in the order asked for.

    Args:
        names: of `models.scoring.registry`, or `module:function` (`models.scoring.custom`).
        negative_sampling_rate: share of the genuine transactions that is learned.
        seed: of models that draw.
        spec: of the features.
        policy: gives the alert budget.

    Raises:
        ModelChoiceError, CustomModelError, UnknownModelError, MissingDependencyError: one of them cannot be
            had.
    """
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ModelChoiceError(f"--model {twice[0]}: it is asked for twice; once is enough")
    result = []
    for name in names:
        if why := why_not(name):
            raise UnknownModelError(f"--model {name}: {why} (or write module:function)")
        model = build_model(name, negative_sampling_rate=negative_sampling_rate, seed=seed, spec=spec)
        result.append(Candidate(name, model, policy))
    return result
