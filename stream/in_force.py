"""What the settings in force make of the core: model, policy, limits. Every process takes them from here.

So an experiment, a worker, a replay and a verification cannot mean different things by the same setting.
"""

from __future__ import annotations

from typing import Any

from models.feature_spec import FeatureSpec
from models.registry import UnknownModelError, build_model, why_not
from stream.admission import Limits
from stream.policy import Policy
from stream.settings import Settings


def new_model(settings: Settings, spec: FeatureSpec, name: str = "") -> Any:
    """A model that can be served, before its first label.

    Args:
        settings: give its name, its seed and the share of the genuine that it learns.
        spec: of the features.
        name: of another model than the settings name.

    Raises:
        UnknownModelError: there is none of that name, or it is for experiments only.
    """
    name = name or settings.model
    if why := why_not(name, to_serve=True):
        raise UnknownModelError(f"model = {name!r}: {why}")
    return build_model(name, genuine_rate=settings.genuine_rate, seed=settings.model_seed, spec=spec)


def policy_of(settings: Settings) -> Policy:
    """The policy that settings describe."""
    return Policy(
        settings.policy,
        settings.review_share,
        settings.decline_share,
        settings.review_cost,
        settings.decline_cost,
    )


def limits_of(settings: Settings) -> Limits:
    """What settings take for believable."""
    return Limits(settings.max_event_bytes, settings.future_tolerance, settings.card_numbers == "refuse")
