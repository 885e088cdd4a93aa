"""The scorer: a sparse logistic regression on learned bins and a few of their crosses, calibrated.

Every input is an indicator, so a weight is a contribution in log-odds that can be told to an analyst.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

from river import base, linear_model, optim, utils

from models.binning import Binner, Split, is_category
from models.calibration import Calibration, sigmoid
from models.feature_spec import DEFAULT_SPEC, FeatureSpec
from models.reasons import reason_text

__all__ = ["FraudModel", "UnknownModelError", "build_model", "reason_text"]

LEARNING_RATE = 0.2
L2 = 0.0
REFRESH = 1024  # examples between looks at what is usual
USUAL = 64  # genuine examples to look at

Features = Mapping[Any, Any]  # of names to finite numbers; River's own type is as wide


class UnknownModelError(ValueError):
    """There is no model of that name."""


class FraudModel(base.Classifier):
    """A calibrated probability of fraud from features as served.

    Learn every fraud, and of the genuine those that a hash of the transaction chooses at `genuine_rate`: the
    prior is corrected.

    Args:
        genuine_rate: share of the genuine transactions that are learned, > 0, at most 1.
        bins: most bins of a numeric feature.
        crosses: pairs of features whose bins are also seen together.
        learning_rate: of AdaGrad.
        seed: of what is sampled to place bins.
    """

    def __init__(
        self,
        genuine_rate: float = 0.1,
        bins: int = 20,
        crosses: tuple[tuple[str, str], ...] = (),
        learning_rate: float = LEARNING_RATE,
        seed: int = 1,
    ) -> None:
        if not 0.0 < genuine_rate <= 1.0:
            raise ValueError(f"genuine_rate: above 0 and at most 1, got {genuine_rate}")
        self.genuine_rate = genuine_rate
        self.bins = bins
        self.crosses = crosses
        self.learning_rate = learning_rate
        self.seed = seed
        self.learned = 0
        self.binner = Binner(bins, seed)
        self.calibration = Calibration(genuine_rate)
        self.linear = linear_model.LogisticRegression(
            optimizer=optim.AdaGrad(learning_rate), l2=L2, intercept_lr=0.05
        )
        self._tables: dict[str, tuple[list[float], list[str]]] = {}
        self._norms: dict[str, float] = {}

    def inputs_of(self, x: Features) -> dict[str, float]:
        """The indicators of the linear model, in the order of the features."""
        inputs: dict[str, float] = {}
        bins: dict[str, int] = {}
        tables = self._tables
        for name, value in x.items():
            table = tables.get(name)
            if table is not None:
                index = bisect_right(table[0], value)
                bins[name] = index
                inputs[table[1][index]] = 1.0
            elif is_category(name):
                inputs[name] = 1.0
        for a, b in self.crosses:
            if a in bins or b in bins:
                inputs[f"{a}*{b}:{bins.get(a, -1)},{bins.get(b, -1)}"] = 1.0
        return inputs

    def _raw(self, inputs: dict[str, float]) -> float:
        return float(self.linear._raw_dot_one(inputs))  # noqa: SLF001 - the log-odds have no public name

    def learn_one(self, x: Features, y: Any) -> None:
        """Learn from an example: features as served and what became known."""
        y = bool(y)
        inputs = self.inputs_of(x)
        self.calibration.learn(self._raw(inputs), y)
        self.linear.learn_one(inputs, y)
        self.learned += 1
        for split in self.binner.learn(x, y):
            self._inherit(split)
        if self.learned % REFRESH == 0:
            self._norms = self._usual()

    def _inherit(self, split: Split) -> None:
        """Give the halves of split bins the weights of the whole: the function stays as it is."""
        name = split.feature
        count = len(split.parents)
        known = name in self._tables
        self._tables[name] = (self.binner.edges[name], [f"{name}:{index}" for index in range(count)])
        if not known:
            return
        weights = self.linear.weights
        squares = self.linear.optimizer.g2
        new_weights: dict[str, float] = {}
        new_squares: dict[str, float] = {}
        children: dict[int, list[int]] = {}
        for child, parent in enumerate(split.parents):
            children.setdefault(parent, []).append(child)
        for key, weight in weights.items():
            for heir in _heirs(key, name, children):
                new_weights[heir] = weight
                new_squares[heir] = squares.get(key, 0.0)
        self.linear._weights = utils.VectorDict(new_weights)  # noqa: SLF001 - River sets weights only at the start
        squares.clear()
        squares.update(new_squares)

    def log_odds(self, x: Features) -> float:
        """The calibrated log-odds of fraud."""
        return self.calibration.log_odds(self._raw(self.inputs_of(x)))

    def score_one(self, x: Features) -> float:
        """The calibrated probability of fraud."""
        return sigmoid(self.log_odds(x))

    def predict_proba_one(self, x: Features, **_: Any) -> dict[Any, float]:
        """The calibrated probability of fraud and of its opposite."""
        probability = self.score_one(x)
        return {False: 1.0 - probability, True: probability}

    def explain_one(self, x: Features) -> list[tuple[str, float]]:
        """Contributions by feature, strongest first; with `bias` they add up to `log_odds`."""
        slope = self.calibration.slope
        contributions = {name: -norm * slope for name, norm in self._norms.items()}
        for name, part in self._parts(x).items():
            contributions[name] = contributions.get(name, 0.0) + part * slope
        return sorted(contributions.items(), key=lambda item: (-abs(item[1]), item[0]))

    @property
    def bias(self) -> float:
        """The log-odds of a usual genuine transaction: where contributions start from."""
        return self.calibration.log_odds(float(self.linear.intercept) + sum(self._norms.values()))

    def _parts(self, x: Features) -> dict[str, float]:
        """The weights that speak, by feature; a cross counts half for each of its two."""
        weights = self.linear.weights
        parts: dict[str, float] = {}
        for key in self.inputs_of(x):
            names = key.partition(":")[0].split("*")
            weight = weights.get(key, 0.0) / len(names)
            for name in names:
                parts[name] = parts.get(name, 0.0) + weight
        return parts

    def _usual(self) -> dict[str, float]:
        """What the features of a genuine transaction say on average."""
        rows = self.binner.genuine[:USUAL]
        sums: dict[str, float] = {}
        for row in rows:
            for name, part in self._parts(row).items():
                sums[name] = sums.get(name, 0.0) + part / len(rows)
        return sums

    def threshold(self, share: float) -> float:
        """The score above which a share (0 to 1) of all transactions lies; 1 before the first example."""
        z = self.calibration.quantile(share)
        return 1.0 if math.isinf(z) else sigmoid(self.calibration.log_odds(z))


def _heirs(key: str, name: str, children: dict[int, list[int]]) -> list[str]:
    """The inputs that take over from one when the bins of a feature split."""
    feature, _, place = key.rpartition(":")
    if feature == name:
        return [f"{name}:{child}" for child in children.get(int(place), [])]
    a, star, b = feature.partition("*")
    if not star or name not in (a, b):
        return [key]
    i, _, j = place.partition(",")
    firsts = children.get(int(i), [int(i)]) if a == name else [int(i)]
    seconds = children.get(int(j), [int(j)]) if b == name else [int(j)]
    return [f"{feature}:{first},{second}" for first in firsts for second in seconds]


def build_model(
    name: str = "default", *, genuine_rate: float = 0.1, seed: int = 1, spec: FeatureSpec = DEFAULT_SPEC
) -> FraudModel:
    """A new model by name.

    Raises:
        UnknownModelError: no such model.
    """
    if name != "default":
        raise UnknownModelError(f"model {name!r} is unknown; known is 'default'")
    return FraudModel(genuine_rate=genuine_rate, bins=spec.bins, crosses=spec.crosses, seed=seed)
