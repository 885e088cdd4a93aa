"""A batch model for comparison: gradient boosting, trained anew now and then on all it was told, else frozen.

It needs scikit-learn, which the product does not. One row at a time a prediction of it costs a hundred times
that of the default model; it is what a weekly batch job would give, not what one would serve.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from river import base

from models.scoring.calibration import NEGATIVE_SAMPLING_RATE, Calibration, sigmoid

FIRST_FIT = 400  # examples
GROWTH = 1.15  # of the examples, from one training to the next
TINY = 1e-6


@functools.cache
def _threads() -> Any:
    """Holds OpenMP to one thread: for a few rows more of them only wait for each other."""
    from threadpoolctl import (  # type: ignore[import-untyped]  # noqa: PLC0415 - comes with scikit-learn, untyped
        ThreadpoolController,
    )

    return ThreadpoolController()


def _alone() -> Any:
    return _threads().limit(limits=1, user_api="openmp")


class MissingDependencyError(ImportError):
    """A package is needed that is not installed; the message says how to get it."""


class BatchBoosting(base.Classifier):
    """Histogram gradient boosting of scikit-learn, retrained as examples grow.

    Args:
        negative_sampling_rate: share of the genuine transactions that are learned.
        seed: of the training.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """

    def __init__(self, negative_sampling_rate: float = NEGATIVE_SAMPLING_RATE, seed: int = 1) -> None:
        try:
            from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415 - an optional dependency
        except ImportError as error:
            raise MissingDependencyError(
                "model batch-boosting needs scikit-learn: pip install scikit-learn"
            ) from error
        self._make: Any = HistGradientBoostingClassifier
        self.negative_sampling_rate = negative_sampling_rate
        self.seed = seed
        self.calibration = Calibration(negative_sampling_rate)
        self.learned = 0
        self.frauds = 0
        self._columns: dict[str, int] = {}
        self._rows: list[Mapping[Any, Any]] = []
        self._labels: list[bool] = []
        self._fitted: Any = None
        self._width = 0
        self._next_fit = FIRST_FIT

    def _matrix(self, rows: list[Mapping[Any, Any]], width: int) -> Any:
        matrix = np.full((len(rows), width), np.nan)
        columns = self._columns
        for at, row in enumerate(rows):
            for name, value in row.items():
                place = columns.get(name, width)
                if place < width:
                    matrix[at, place] = value
        return matrix

    def _raw(self, x: Mapping[Any, Any]) -> float:
        if self._fitted is None:
            return 0.0
        return float(self._decide([x])[0])

    def _decide(self, rows: list[Mapping[Any, Any]]) -> list[float]:
        with _alone():
            raw: list[float] = self._fitted.decision_function(self._matrix(rows, self._width)).tolist()
        return raw

    def score_many(self, rows: list[Mapping[Any, Any]]) -> list[float]:
        """The calibrated probability of fraud of each; the same as `score_one`, far sooner."""
        if self._fitted is None:
            return [self.score_one(row) for row in rows]
        return [sigmoid(self.calibration.log_odds(z)) for z in self._decide(rows)]

    @property
    def learns_next(self) -> bool:
        """Whether the next example changes what it says; until then its scores may wait."""
        return self.learned + 1 >= self._next_fit

    def learn_one(self, x: Mapping[Any, Any], y: Any) -> None:
        """Remember an example; now and then, train."""
        y = bool(y)
        for name in x:
            self._columns.setdefault(name, len(self._columns))
        self._rows.append(dict(x))
        self._labels.append(y)
        self.learned += 1
        self.frauds += y
        if self.learned >= self._next_fit and 0 < self.frauds < self.learned:
            self._fit()

    def _fit(self) -> None:
        width = len(self._columns)
        if self._fitted is not None:
            # Calibrate on what this training has not seen: the examples since.
            since = int(self._next_fit / GROWTH)
            for z, y in zip(self._decide(self._rows[since:]), self._labels[since:], strict=True):
                self.calibration.learn(z, y)
        fresh = self._make(
            random_state=self.seed, early_stopping=False, max_iter=150, learning_rate=0.08, max_leaf_nodes=15
        )
        with _alone():
            self._fitted = fresh.fit(self._matrix(self._rows, width), np.asarray(self._labels))
        self._width = width
        self._next_fit = math.ceil(self.learned * GROWTH)

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

    def explain_one(self, x: Mapping[Any, Any]) -> list[tuple[str, float]]:  # noqa: ARG002 - the interface
        """Nothing: hundreds of trees have no short reasons."""
        return []

    def threshold(self, share: float) -> float:
        """The score above which a share (0 to 1) of all transactions lies; 1 before the first training."""
        z = self.calibration.quantile(share)
        return 1.0 if math.isinf(z) else sigmoid(self.calibration.log_odds(z))
