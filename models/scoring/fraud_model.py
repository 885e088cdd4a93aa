"""The scorer: a sparse logistic regression on learned bins and a few of their crosses, calibrated.

Every input is an indicator, so a weight is a contribution in log-odds that can be told to an analyst.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from river import base

from models.features.reasons import feature_reason
from models.features.spec import MAX_BINS, MIN_BINS
from models.features.vector import Example, Row, categories_of, named
from models.scoring.anomaly import REASONS, UnsupervisedModel, strongest
from models.scoring.binning import Binner, Growth
from models.scoring.calibration import NEGATIVE_SAMPLING_RATE, Calibration, sigmoid
from models.scoring.sparse_linear import BIAS, SHIFT, Edges, Linear
from models.scoring.sums import added

__all__ = ["FraudModel", "feature_reason"]

LEARNING_RATE = 0.3
# Steps are AdaGrad's, but that they fall with the sum of squared slopes to this power, not to a half: what is
# rare (a bin that only frauds reach) is learned from a few examples, and what is frequent stays as calm as
# under AdaGrad with half of the rate. Li and Orabona, "On the Convergence of Stochastic Gradient Descent with
# Adaptive Stepsizes", AISTATS 2019.
POWER = 0.6
BEFORE_ANY = 0.3  # what that sum begins with: no first step is larger than twice the rate
MOST_NAMES = 4096  # categorical inputs beyond this are not learned: memory stays bounded
REFRESH = 1024  # examples between looks at what is usual
MATURE = 10_000  # examples after which bins are moved on good evidence
USUAL = 64  # genuine examples to look at

Features = Mapping[Any, Any] | Row  # names and finite numbers; River's own type of the first is as wide
Heirs = dict[int, list[tuple[int, float]]]
_Heritage = dict[Any, tuple[Heirs, Heirs]]  # of weights, and of sums over examples


BEFORE = UnsupervisedModel()
_EXAMPLES = (dict, Row)


class FraudModel(base.Classifier):
    """A calibrated probability of fraud from features as served.

    Learn every fraud, and of the genuine those that a hash of the transaction chooses at
    `negative_sampling_rate`: the prior is corrected.

    Args:
        negative_sampling_rate: share of the genuine transactions that are learned, > 0, at most 1.
        bins: most bins of a numeric feature, 2 to 62.
        coarse: the same for a feature in a cross.
        crosses: two or three features each, whose bins are also seen together.
        learning_rate: of a weight's first step.
        seed: of what is sampled to place bins.
    """

    takes_rows = True
    """Features may be given as a `models.features.vector.Row`, which saves looking up every name."""

    def __init__(
        self,
        negative_sampling_rate: float = NEGATIVE_SAMPLING_RATE,
        bins: int = 20,
        coarse: int = 8,
        crosses: tuple[tuple[str, ...], ...] | None = None,
        learning_rate: float = LEARNING_RATE,
        seed: int = 1,
    ) -> None:
        if not 0.0 < negative_sampling_rate <= 1.0:
            raise ValueError(f"negative_sampling_rate: above 0 and at most 1, got {negative_sampling_rate}")
        if not MIN_BINS <= min(bins, coarse) <= max(bins, coarse) <= MAX_BINS:
            raise ValueError(f"bins, coarse: {MIN_BINS} to {MAX_BINS}, got {bins}, {coarse}")
        self.negative_sampling_rate = negative_sampling_rate
        self.bins = bins
        self.crosses = crosses
        self.learning_rate = learning_rate
        self.seed = seed
        self.learned = 0
        self.coarse = coarse
        self._crosses = crosses or ()
        self.binner = Binner(bins, coarse, frozenset[str]().union(*self._crosses), seed)
        self.calibration = Calibration(negative_sampling_rate)
        self._tables: dict[Any, Edges] = {}
        self._linear = self._made({}, {})
        self._norms: dict[str, float] = {}
        self._starts: dict[str, float] = {}

    def _made(self, weights: dict[int, float], squares: dict[int, float]) -> Linear:
        linear = Linear(self._crosses, self.coarse, self._tables, self.learning_rate, BEFORE_ANY, POWER)
        linear.load(weights, squares)
        return linear

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_linear": self._linear.stored()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._linear = self._made(*state["_linear"])

    @property
    def ready(self) -> bool:
        """Whether enough of both classes was learned; before, the score is that of `UnsupervisedModel`."""
        return self.calibration.fitted

    def learn_one(self, x: Features, y: Any) -> None:
        """Learn from an example: features as served and what became known."""
        y = bool(y)
        x = _example(x)
        self.learned += 1
        if self._tables:
            if self.calibration.learn(self._linear.learn(x, y), y):
                self._start()
            self._meet(x)
        growth = self.binner.learn(x, y)
        if growth is not None:
            first = not self._tables
            self._move(growth)
            if first:
                # Frauds are known long before anyone counts as genuine: begin with some of both.
                for row, is_fraud in self.binner.remembered():
                    self._linear.learn(row, is_fraud)
                self._set_usual()
        elif self._tables and self.learned % REFRESH == 0:
            self._set_usual()

    def _meet(self, x: Example) -> None:
        """Know categories that were never seen before from now on."""
        for name in categories_of(x):
            if name not in self._tables and len(self._crosses) + len(self._tables) < MOST_NAMES:
                self._tables[name] = [], None
                self._linear.add(name)

    def _move(self, growth: Growth) -> None:
        """Take new edges, and let every new bin start from the mean weight of what it is made of."""
        # A sum over examples goes where the examples went, so that what is new and small learns fast; while
        # bins move often and on little evidence, slowness is what keeps them from learning chance.
        weights, squares = self._linear.stored()
        numbers = {name: number for number, name in enumerate(self._tables, len(self._crosses))}
        fine: _Heritage = {}
        for move in growth.fine:
            _, bins = self._tables.get(move.feature, ([], None))
            self._tables[move.feature] = move.edges, bins
            if move.parts is not None:
                fine[numbers[move.feature]] = _heirs(move.parts, 0), _heirs(move.splits, 0)
        coarse: _Heritage = {}
        for move in growth.coarse:
            edges, _ = self._tables[move.feature]
            self._tables[move.feature] = edges, move.edges
            if move.parts is not None:
                missing: Heirs = {0: [(0, 1.0)]}
                coarse[move.feature] = _heirs(move.parts, 1) | missing, _heirs(move.splits, 1) | missing
        self._linear = self._made(
            self._moved(weights, fine, coarse, 0),
            self._moved(squares, fine, coarse, 1 if self.learned >= MATURE else 0),
        )

    def _moved(
        self, values: Mapping[int, float], fine: _Heritage, coarse: _Heritage, way: int
    ) -> dict[int, float]:
        """Values of inputs, spread over the inputs that take their place."""
        radix = self._linear.radix
        result: dict[int, float] = {}
        for key, value in values.items():
            if key == BIAS:
                result[BIAS] = value
                continue
            number, place = divmod(key, 1 << SHIFT)
            base = key - place
            heirs: list[tuple[int, float]] = [(0, 1.0)]
            if number >= len(self._crosses):
                heirs = fine[number][way].get(place, []) if number in fine else [(place, 1.0)]
            else:
                names = self._crosses[number]
                for at, name in enumerate(names):
                    index = place // radix ** (len(names) - 1 - at) % radix
                    own = coarse[name][way].get(index, []) if name in coarse else [(index, 1.0)]
                    heirs = [(left * radix + right, a * b) for left, a in heirs for right, b in own]
            for heir, share in heirs:
                result[base + heir] = result.get(base + heir, 0.0) + value * share
        return result

    def log_odds(self, x: Features) -> float:
        """The calibrated log-odds of fraud."""
        if not self.calibration.fitted:
            return BEFORE.log_odds(named(x))
        return self.calibration.log_odds(self._linear.score(_example(x)))

    def score_one(self, x: Features) -> float:
        """The calibrated probability of fraud."""
        return sigmoid(self.log_odds(x))

    def predict_proba_one(self, x: Features, **_: Any) -> dict[Any, float]:
        """The calibrated probability of fraud and of its opposite."""
        probability = self.score_one(x)
        return {False: 1.0 - probability, True: probability}

    def explain_one(self, x: Features) -> list[tuple[str, float]]:
        """Contributions by feature, strongest first; with `bias` they add up to `log_odds`."""
        if not self.ready:
            return BEFORE.explain_one(named(x))
        return strongest(self._contributions(self._linear.shares(_example(x))[1]))

    def assess_one(self, x: Features, most: int = REASONS) -> tuple[float, list[tuple[str, float]]]:
        """What `score_one` and the first of `explain_one` say, to the bit, for little more than a score.

        Args:
            x: features as served.
            most: contributions wanted, > 0.
        """
        if not self.ready:
            return BEFORE.assess_one(named(x), most)
        raw, shares = self._linear.shares(_example(x))
        score = sigmoid(self.calibration.log_odds(raw))
        return score, strongest(self._contributions(shares), most)

    def _contributions(self, shares: dict[str, float]) -> dict[str, float]:
        """Contributions by feature, against those of a usual genuine payment."""
        contributions = self._starts.copy()
        slope = self.calibration.slope
        for name, share in shares.items():
            contributions[name] = contributions.get(name, 0.0) + share * slope
        return contributions

    @property
    def bias(self) -> float:
        """The log-odds of a usual genuine transaction: where contributions start from."""
        if not self.ready:
            return BEFORE.bias
        return self.calibration.log_odds(self._linear.bias + added(self._norms.values()))

    def _set_usual(self) -> None:
        """Work out what the features of a genuine transaction say on average: where contributions start."""
        rows = self.binner.genuine[:USUAL]
        sums: dict[str, float] = {}
        for row in rows:
            for name, share in self._linear.shares(row)[1].items():
                sums[name] = sums.get(name, 0.0) + share / len(rows)
        self._norms = sums
        self._start()

    def _start(self) -> None:
        slope = self.calibration.slope
        self._starts = {name: -norm * slope for name, norm in self._norms.items()}

    def threshold(self, share: float) -> float:
        """The score above which a share (0 to 1) of all transactions lies; a young model promises less."""
        return self.calibration.threshold(share) if self.ready else BEFORE.threshold(share)


def _example(x: Features) -> Example:
    return x if isinstance(x, _EXAMPLES) else dict(x)


def _heirs(parts: list[dict[int, float]], first: int) -> Heirs:
    """For each old bin the new ones that it is a part of, numbered from `first`, with its share in them."""
    heirs: Heirs = {}
    for new, part in enumerate(parts):
        for old, share in part.items():
            heirs.setdefault(old + first, []).append((new + first, share))
    return heirs
