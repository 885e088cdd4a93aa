"""Any River model as a fraud model: its prior corrected, its score calibrated, its thresholds known.

What it says is taken as raw log-odds; `models.scoring.calibration` makes a probability of them, as it does
for the default model, so models of any kind can be compared and served.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from river import base

from models.scoring.anomaly import strongest
from models.scoring.calibration import NEGATIVE_SAMPLING_RATE, Calibration, sigmoid

TINY = 1e-6  # a tree that has seen no fraud in a leaf is not sure for ever
USUAL = 64  # genuine examples that say what is usual
REFRESH = 256  # genuine examples between looks at them
Features = Mapping[Any, Any]


class RiverAdapter(base.Classifier):
    """A River classifier, or a River anomaly detector, as a calibrated fraud model.

    Args:
        inner: `predict_proba_one` and `learn_one(x, y)` of a classifier, or `score_one` (0 to 1) and
            `learn_one(x)` of a detector. A pipeline of either is one of them.
        negative_sampling_rate: share of the genuine transactions that are learned, > 0, at most 1.
    """

    def __init__(self, inner: Any, negative_sampling_rate: float = NEGATIVE_SAMPLING_RATE) -> None:
        self.inner = inner
        self.negative_sampling_rate = negative_sampling_rate
        self.calibration = Calibration(negative_sampling_rate)
        self.learned = 0
        self.frauds = 0
        self._genuine: deque[Features] = deque(maxlen=USUAL)
        self._usual: dict[Any, float] = {}
        self._is_detector = not hasattr(inner, "predict_proba_one") or (
            hasattr(inner, "score_one") and isinstance(_last(inner), base.AnomalyDetector)
        )

    @property
    def ready(self) -> bool:
        """Whether enough was learned for its scores to be calibrated and its thresholds to be known."""
        return self.calibration.fitted and 0 < self.frauds < self.learned

    def _raw(self, x: Features) -> float:
        if self._is_detector:
            p = float(self.inner.score_one(x))
        else:
            proba = self.inner.predict_proba_one(x)
            p = float(proba.get(True, proba.get(1, 0.0))) if proba else self.negative_sampling_rate * 0.1
        p = min(max(p, TINY), 1.0 - TINY)
        return math.log(p / (1.0 - p))

    def learn_one(self, x: Features, y: Any) -> None:
        """Learn from an example: features as served and what became known."""
        y = bool(y)
        self.calibration.learn(self._raw(x), y)
        if self._is_detector:
            self.inner.learn_one(x)
        else:
            self.inner.learn_one(x, y)
        self.learned += 1
        self.frauds += y
        if not y:
            self._genuine.append(x)
            if (self.learned - self.frauds) % REFRESH == USUAL:
                self._usual = usual(self._genuine)

    def log_odds(self, x: Features) -> float:
        """The calibrated log-odds of fraud."""
        return self.calibration.log_odds(self._raw(x))

    def score_one(self, x: Features) -> float:
        """The calibrated probability of fraud."""
        return sigmoid(self.log_odds(x))

    def predict_proba_one(self, x: Features, **_: Any) -> dict[Any, float]:
        """The calibrated probability of fraud and of its opposite."""
        probability = self.score_one(x)
        return {False: 1.0 - probability, True: probability}

    def explain_one(self, x: Features) -> list[tuple[str, float]]:
        """By how many log-odds the score would fall, were one feature as usual; the strongest first.

        What is wrapped does not say why, so it is asked once for each feature. Features that say the same
        stand in for each other: contributions do not add up to the log-odds.
        """
        whole = self.log_odds(x)
        changed = dict(x)
        found: dict[str, float] = {}
        for name, value in x.items():
            if name in self._usual:
                changed[name] = self._usual[name]
            else:
                del changed[name]
            if contribution := whole - self.log_odds(changed):
                found[name] = contribution
            changed[name] = value
        return strongest(found)

    @property
    def bias(self) -> float:
        """The log-odds of a usual genuine transaction: what contributions are measured against."""
        return self.log_odds(self._usual)

    def threshold(self, share: float) -> float:
        """See `Calibration.threshold`."""
        return self.calibration.threshold(share)


def usual(rows: Iterable[Features]) -> dict[Any, float]:
    """The median of each feature that at least half of the rows have.

    >>> usual([{"a": 1.0, "b": 1.0}, {"a": 2.0}, {"a": 9.0}])
    {'a': 2.0}
    """
    values: dict[Any, list[float]] = {}
    count = 0
    for row in rows:
        count += 1
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    return {name: median(found) for name, found in values.items() if 2 * len(found) >= count}


def _last(model: Any) -> Any:
    """The model at the end of a pipeline."""
    return list(model.steps.values())[-1] if hasattr(model, "steps") else model


class Filled(base.Transformer):
    """Numbers for features that are missing, and a fixed order: for models that need every feature.

    Args:
        value: what a feature is where it is missing.

    >>> filled = Filled()
    >>> filled.learn_one({"a": 1.0, "b": 2.0})
    >>> filled.transform_one({"b": 3.0})
    {'a': -1.0, 'b': 3.0}
    """

    def __init__(self, value: float = -1.0) -> None:
        self.value = value
        self.names: dict[str, float] = {}

    def learn_one(self, x: Features) -> None:
        """Remember the names."""
        for name in x:
            self.names.setdefault(name, self.value)

    def transform_one(self, x: Features) -> dict[Any, Any]:
        """Every name known so far, in the order in which they came."""
        return {name: x.get(name, missing) for name, missing in self.names.items()}


def squashed(value: float) -> float:
    """A number of any size between 0 and 1, 0 in the middle.

    >>> squashed(0.0), squashed(1e12) > 0.99
    (0.5, True)
    """
    return 0.5 + 0.5 * value / (1.0 + abs(value))


class Squashed(base.Transformer):
    """Scaled numbers brought between 0 and 1, which half-space trees expect."""

    def transform_one(self, x: Features) -> dict[Any, Any]:
        """Each feature, squashed."""
        return {name: squashed(value) for name, value in x.items()}
