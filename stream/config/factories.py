"""What the settings in force make of the core: model, policy, limits. Every process takes them from here.

So an experiment, a worker, a replay and a verification cannot mean different things by the same setting.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.features.spec import FeatureSpec, load_spec
from models.scoring.custom import see_this_folder
from models.scoring.registry import UnknownModelError, build_model, why_not
from models.snapshots.pickles import Classes
from stream.admission import Limits
from stream.config.settings import Settings
from stream.policy import Policy


def feature_spec(settings: Settings) -> FeatureSpec:
    """The feature specification in force."""
    return load_spec(Path(settings.features_file)) if settings.features_file else FeatureSpec()


def new_model(settings: Settings, spec: FeatureSpec, name: str = "") -> Any:
    """A model that can be served, before its first label.

    Args:
        settings: give its name, its seed and the share of the genuine that it learns.
        spec: of the features.
        name: of another model than the settings name.

    Raises:
        UnknownModelError: there is none of that name, or it is for experiments only.
        CustomModelError: a function of the user's own is not there, or gives no model.
    """
    name = name or settings.model
    if why := why_not(name, to_serve=True):
        raise UnknownModelError(f"model = {name!r}: {why}")
    return build_model(
        name, negative_sampling_rate=settings.negative_sampling_rate, seed=settings.model_seed, spec=spec
    )


def classes_of(settings: Settings) -> Classes | None:
    """What the pickle of a model may hold beside River's classes: the user's own; None: no pickle is opened.

    Theirs may be defined in the working folder, which is looked into from now on.
    """
    if not settings.model_pickle:
        return None
    own = settings.custom_classes()
    if own:
        see_this_folder()
    return own


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
    return Limits(
        settings.max_event_bytes,
        settings.future_tolerance,
        settings.card_numbers == "refuse",
        frozenset(filter(None, map(str.strip, settings.card_number_exempt.split(",")))),
    )
