"""Several models as one: a pool of their opinions, each weighted by how well it has done lately.

A linear pool with the fixed-share update of Herbster and Warmuth, "Tracking the best expert", Machine
Learning 32, 1998: a model's weight shrinks exponentially with its log-loss, and a little of all weight is
shared out again, so that a model that becomes the best is found soon.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from river import base

from models.scoring.calibration import NEGATIVE_SAMPLING_RATE, Calibration, sigmoid
from models.scoring.sums import added

SHARE = 0.002  # of the weight, shared out at each example
RATE = 0.5  # of learning: 1 would be Bayes' rule, less does not believe a single example as much
TINY = 1e-6


class Ensemble(base.Classifier):
    """A weighted mean of calibrated models.

    Args:
        members: by name; each with `learn_one(x, y)` and `score_one(x)`.
        negative_sampling_rate: share of the genuine transactions that are learned.
    """

    def __init__(
        self, members: dict[str, Any], negative_sampling_rate: float = NEGATIVE_SAMPLING_RATE
    ) -> None:
        self.members = members
        self.negative_sampling_rate = negative_sampling_rate
        self.weights = dict.fromkeys(members, 1.0 / len(members))
        self.calibration = Calibration(negative_sampling_rate)
        self.calibration.shift = 0.0
        self.learned = 0
        self.frauds = 0

    @property
    def ready(self) -> bool:
        """Whether enough was learned for its thresholds to be known."""
        return self.calibration.fitted and 0 < self.frauds < self.learned

    @property
    def bias(self) -> float:
        """The members' log-odds of a usual genuine transaction, each by its weight."""
        return added(weight * self.members[name].bias for name, weight in self.weights.items())

    def _raw(self, x: Mapping[Any, Any]) -> float:
        p = added(weight * self.members[name].score_one(x) for name, weight in self.weights.items())
        p = min(max(p, TINY), 1.0 - TINY)
        return math.log(p / (1.0 - p))

    def learn_one(self, x: Mapping[Any, Any], y: Any) -> None:
        """Weigh the members by what they said of the example, then let each learn it."""
        y = bool(y)
        scores = {name: min(max(one.score_one(x), TINY), 1.0 - TINY) for name, one in self.members.items()}
        mixed = added(self.weights[name] * score for name, score in scores.items())
        # The pool is calibrated already; only what is left of a bias is learned.
        self.calibration.learn(math.log(mixed / (1.0 - mixed)), y)
        told = {
            name: self.weights[name] * (score if y else 1.0 - score) ** RATE for name, score in scores.items()
        }
        total = added(told.values())
        self.weights = {
            name: (1.0 - SHARE) * weight / total + SHARE / len(told) for name, weight in told.items()
        }
        for one in self.members.values():
            one.learn_one(x, y)
        self.learned += 1
        self.frauds += y

    def log_odds(self, x: Mapping[Any, Any]) -> float:
        """The calibrated log-odds of fraud."""
        return self.calibration.log_odds(self._raw(x))

    def score_one(self, x: Mapping[Any, Any]) -> float:
        """The calibrated probability of fraud."""
        return sigmoid(self.log_odds(x))

    def predict_proba_one(self, x: Mapping[Any, Any], **_: Any) -> dict[Any, float]:
        """The calibrated probability of fraud and of its opposite."""
        probability = self.score_one(x)
        return {False: 1.0 - probability, True: probability}

    def explain_one(self, x: Mapping[Any, Any]) -> list[tuple[str, float]]:
        """What the members say, each by its weight; contributions do not add up to the pool's log-odds."""
        sums: dict[str, float] = {}
        for name, weight in self.weights.items():
            for feature, value in self.members[name].explain_one(x):
                sums[feature] = sums.get(feature, 0.0) + weight * value
        return sorted(sums.items(), key=lambda item: (-abs(item[1]), item[0]))

    def threshold(self, share: float) -> float:
        """See `Calibration.threshold`."""
        return self.calibration.threshold(share)
