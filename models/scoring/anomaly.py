"""Usefulness before the first label: a score from the features alone.

It holds nothing learned: every feature already is a comparison with the entity's own past, and a decision can
be rebuilt from its features. The evidence of a feature is a number of log-odds that a careful analyst would
grant it; the sum over features is turned into a probability as if the prior were `PRIOR`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from river import base

from models.scoring.calibration import sigmoid
from models.scoring.sums import added

PRIOR = -6.0  # log-odds of fraud when nothing is unusual: 1 in 400
TAIL_SHARE = 0.37  # thresholds rest on a tail that falls exponentially from here,
TAIL_MEAN = 1.0  # by so many log-odds: rather long, for too many alerts cost trust from the first day

REASONS = 5  # contributions that an assessment tells, unless more are asked for

Evidence = Callable[[float], float]


def _above(start: float, rate: float, most: float) -> Evidence:
    """Evidence that grows from a point on, up to a limit."""

    def evidence(value: float) -> float:
        return min(max(value - start, 0.0) * rate, most)

    return evidence


def _log_above(start: float, rate: float, most: float) -> Evidence:
    """Evidence that grows with the logarithm from a point on."""

    def evidence(value: float) -> float:
        return min(math.log(value / start) * rate, most) if value > start else 0.0

    return evidence


def _none(most: float) -> Evidence:
    """Evidence of never before."""

    def evidence(value: float) -> float:
        return most if value <= 0.0 else 0.0

    return evidence


# Confirmed labels are no part of it: where few genuine payments are confirmed, they accuse whoever is busy.
RULES: dict[str, Evidence] = {
    "card.z": _above(1.0, 0.8, 5.0),
    "card.outliers": _above(1.5, 0.2, 0.8),
    "card.tempo": _log_above(3.0, 1.0, 3.0),
    "card.merchant_visits": _none(0.3),
    "card.device_visits": _none(1.2),
    "card.country_change": _above(0.0, 0.4, 0.4),
    "card.speed": _log_above(900.0, 0.9, 3.0),
    "merchant.z": _above(1.2, 0.7, 4.0),
    "merchant.tempo": _log_above(6.0, 0.8, 2.0),
    "device.tempo": _log_above(3.0, 0.8, 2.0),
    "device.cards": _above(1.0, 0.7, 3.0),
}


def strongest(contributions: dict[str, float], most: int | None = None) -> list[tuple[str, float]]:
    """The strongest contributions first, of the same strength by name; all of them, or `most`."""
    found = list(contributions.items())
    if most is not None and len(found) > most:
        # To sort all of them by strength and name would take longer than a score.
        least = sorted(map(abs, contributions.values()))[-most]
        found = [item for item in found if abs(item[1]) >= least]
    found.sort(key=lambda item: (-abs(item[1]), item[0]))
    return found[:most]


@functools.lru_cache(maxsize=4096)
def _rule(name: Any) -> str | None:
    key = ".".join(str(name).split(".", 2)[:2])  # River names features by any hashable
    return key if key in RULES else None


class UnsupervisedModel(base.AnomalyDetector):
    """Evidence against each entity's own norm; robust, explainable and without memory."""

    learned = 0

    @property
    def bias(self) -> float:
        """The log-odds when no feature speaks."""
        return PRIOR

    @property
    def _supervised(self) -> bool:
        return False

    def learn_one(self, x: Mapping[Any, Any]) -> None:
        """Nothing: the norm of every entity is in its profile."""

    def log_odds(self, x: Mapping[Any, Any]) -> float:
        """The log-odds of fraud."""
        return PRIOR + added(value for _, value in self.explain_one(x))

    def score_one(self, x: Mapping[Any, Any]) -> float:
        """The probability of fraud, as far as it can be told without labels."""
        return sigmoid(self.log_odds(x))

    def explain_one(self, x: Mapping[Any, Any]) -> list[tuple[str, float]]:
        """Contributions in log-odds by feature, strongest first; with `bias` they add up to `log_odds`."""
        pieces: dict[str, tuple[str, float]] = {}
        for name, value in x.items():
            rule = _rule(name)
            if rule is not None:
                evidence = RULES[rule](value)
                # One statistic under several half-lives is one piece of evidence.
                if evidence > 0.0 and evidence > pieces.get(rule, ("", 0.0))[1]:
                    pieces[rule] = (name, evidence)
        return strongest(dict(pieces.values()))

    def assess_one(self, x: Mapping[Any, Any], most: int = REASONS) -> tuple[float, list[tuple[str, float]]]:
        """What `score_one` and the first of `explain_one` say."""
        contributions = self.explain_one(x)
        return sigmoid(PRIOR + added(value for _, value in contributions)), contributions[:most]

    def threshold(self, share: float) -> float:
        """The score above which at most a share of all transactions lies, as a cautious guess.

        It cannot know how unusual honest life is: where many travel or change devices, several times as many.
        """
        return sigmoid(PRIOR + TAIL_MEAN * max(math.log(TAIL_SHARE / share), 0.0))


class Unlearning(UnsupervisedModel):
    """The unsupervised model where labels are offered: it does without."""

    def learn_one(self, x: Any, y: Any = None) -> None:
        """Nothing."""
