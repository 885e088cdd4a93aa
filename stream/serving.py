"""A model in use: what the pipeline scores with, the same object for a whole batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from models.scoring.anomaly import UnsupervisedModel
from stream.messages import Decision, Reason
from stream.pipeline import MAX_REASONS, Scorer, reason_text
from stream.policy import Policy, decide, thresholds_for_budget


class Assessor(Protocol):
    """What a model must offer to be served."""

    def score_one(self, x: dict[str, float]) -> float:
        """The probability of fraud."""
        ...

    def explain_one(self, x: dict[str, float]) -> list[tuple[str, float]]:
        """Contributions by feature, strongest first."""
        ...

    def threshold(self, share: float) -> float:
        """The score above which a share of all transactions lies."""
        ...


class ServedModel:
    """A model under its version, with the thresholds that its own scores give.

    Args:
        version: every decision names it.
        model: is not changed.
        policy: whose shares the thresholds serve.
    """

    def __init__(self, version: str, model: Assessor, policy: Policy) -> None:
        self.version = version
        self.thresholds = thresholds_for_budget(model.threshold, policy)
        self._model = model
        self._assess: Callable[[dict[str, float], int], tuple[float, Sequence[tuple[str, float]]]] | None = (
            getattr(model, "assess_one", None)
        )
        # By cost, a score of any size may be an alert: it depends on the amount.
        self._explained_from = self.thresholds.review if policy.kind == "budget" else 0.0

    def score(self, features: dict[str, float]) -> tuple[float, Sequence[tuple[str, float]]]:
        """The probability of fraud, and the strongest contributions by feature, the strongest first.

        A model that cannot give both at once is asked for reasons only where the score may be an alert's:
        they cost it a score for each feature.
        """
        if self._assess is not None:  # both at once, for little more than a score
            return self._assess(features, MAX_REASONS)
        score = self._model.score_one(features)
        return score, self._model.explain_one(features) if score >= self._explained_from else ()


def first_model(policy: Policy) -> ServedModel:
    """What scores before anything is learned: an unsupervised model, and its version says so."""
    return ServedModel("unsupervised-1", UnsupervisedModel(), policy)


def served(version: str, model: Assessor, policy: Policy) -> ServedModel:
    """A published model in use; until it says that it has learned enough, the unsupervised one goes on."""
    if not getattr(model, "ready", True):
        return first_model(policy)
    return ServedModel(version, model, policy)


def rescored(decision: Decision, model: Scorer, policy: Policy) -> Decision:
    """The decision that a model makes of the features as served of another decision."""
    features = decision.features or {}
    score, contributions = model.score(features)
    reasons = [
        Reason(code=name, text=reason_text(name, features, decision), contribution=value)
        for name, value in contributions[:MAX_REASONS]
    ]
    action = decide(score, decision.amount_minor, decision.currency, policy, model.thresholds)
    return msgspec.structs.replace(
        decision, score=score, action=action, reasons=reasons, model_version=model.version
    )
