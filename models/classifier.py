"""The scorer: a sparse logistic regression on learned bins and a few of their crosses, calibrated.

Every input is an indicator, so a weight is a contribution in log-odds that can be told to an analyst.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from river import base, linear_model, optim, utils

from models.anomaly import REASONS, UnsupervisedModel, strongest
from models.binning import Binner, Growth, is_category
from models.calibration import GENUINE_RATE, Calibration, sigmoid
from models.indicators import BIAS, BITS, SHIFT, WIDTH, Table, indicators, step
from models.reasons import reason_text

__all__ = ["FraudModel", "reason_text"]

LEARNING_RATE = 0.3
POWER = 0.6  # of the sum of squared gradients
BEFORE_ANY = 0.3  # what that sum begins with: no first step is larger than twice the rate
L2 = 0.0
MASK = (1 << BITS) - 1
MOST_NAMES = 4096  # categorical inputs beyond this are not learned: memory stays bounded
REFRESH = 1024  # examples between looks at what is usual
MATURE = 10_000  # examples after which bins are moved on good evidence
USUAL = 64  # genuine examples to look at

Features = Mapping[Any, Any]  # of names to finite numbers; River's own type is as wide


Heirs = dict[int, list[tuple[int, float]]]
_Heritage = dict[Any, tuple[Heirs, Heirs]]  # of weights, and of sums over examples


BEFORE = UnsupervisedModel()


class Steps(optim.AdaGrad):
    """AdaGrad, but that a step falls with the sum of squared gradients to the power of POWER, not of a half.

    What is rare (a bin that only frauds reach) is learned from a few examples, and what is frequent stays as
    calm as under AdaGrad with half of the rate. Li and Orabona, "On the Convergence of Stochastic Gradient
    Descent with Adaptive Stepsizes", AISTATS 2019.
    """

    def take(self, weights: Any, inputs: dict[int, float], slope: float) -> None:
        """A step against the slope of a loss in the log-odds, of inputs that are all 1."""
        step(weights, inputs, slope, self.g2, self.learning_rate, BEFORE_ANY, POWER)
        self.n_iterations += 1

    def _step_with_dict(self, w: Any, g: Any) -> Any:
        for key, slope in g.items():
            step(w, {key: 1.0}, slope, self.g2, self.learning_rate, BEFORE_ANY, POWER)
        return w


class FraudModel(base.Classifier):
    """A calibrated probability of fraud from features as served.

    Learn every fraud, and of the genuine those that a hash of the transaction chooses at `genuine_rate`: the
    prior is corrected.

    Args:
        genuine_rate: share of the genuine transactions that are learned, > 0, at most 1.
        bins: most bins of a numeric feature, at most 62.
        coarse: the same for a feature in a cross.
        crosses: two or three features each, whose bins are also seen together.
        learning_rate: of `Steps`.
        seed: of what is sampled to place bins.
    """

    def __init__(
        self,
        genuine_rate: float = GENUINE_RATE,
        bins: int = 20,
        coarse: int = 8,
        crosses: tuple[tuple[str, ...], ...] | None = None,
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
        self._crosses = crosses or ()
        self.coarse = coarse
        self.binner = Binner(bins, coarse, frozenset[str]().union(*(crosses or ())), seed)
        self.calibration = Calibration(genuine_rate)
        self.linear = linear_model.LogisticRegression(optimizer=Steps(learning_rate), l2=L2, intercept_lr=0.0)
        self._names: list[tuple[str, ...]] = list(crosses or ())
        self._tables: dict[str, Table] = {}
        self._norms: dict[str, float] = {}
        self._starts: dict[str, float] = {}

    def inputs_of(self, x: Features) -> dict[int, float]:
        """The indicators of the linear model: what they stand for is in `_names`."""
        return indicators(x if isinstance(x, dict) else dict(x), self._tables, self._crosses)

    def _raw(self, inputs: dict[int, float]) -> float:
        linear = self.linear
        return float(linear._weights.dot(inputs) + linear.intercept)  # noqa: SLF001 - they have no public name

    @property
    def ready(self) -> bool:
        """Whether enough of both classes was learned; before, the score is that of `UnsupervisedModel`."""
        return self.calibration.fitted

    def learn_one(self, x: Features, y: Any) -> None:
        """Learn from an example: features as served and what became known."""
        y = bool(y)
        self.learned += 1
        if self._tables:
            inputs = self.inputs_of(x)
            raw = self._raw(inputs)
            if self.calibration.learn(raw, y):
                self._start()
            self._learn(inputs, raw, y)
            for name in x:
                if name not in self._tables and is_category(name) and len(self._names) < MOST_NAMES:
                    self._new_table(name, [])
        growth = self.binner.learn(x, y)
        if growth is not None:
            first = not self._tables
            self._move(growth)
            if first:
                # Frauds are known long before anyone counts as genuine: begin with some of both.
                for row, is_fraud in self.binner.remembered():
                    inputs = self.inputs_of(row)
                    self._learn(inputs, self._raw(inputs), is_fraud)
                self._set_usual()
        elif self._tables and self.learned % REFRESH == 0:
            self._set_usual()

    def _learn(self, inputs: dict[int, float], raw: float, y: bool) -> None:
        """As `learn_one` of River's, to the bit, where all inputs are 1 and `raw` is known."""
        linear = self.linear
        linear.optimizer.take(linear._weights, inputs, linear.loss.gradient(y, raw))  # noqa: SLF001 - see `_raw`

    def _move(self, growth: Growth) -> None:
        """Take new edges, and let every new bin start from the mean weight of what it is made of."""
        fine: _Heritage = {}
        for move in growth.fine:
            table = self._tables.get(move.feature)
            if table is None:
                self._new_table(move.feature, move.edges)
                continue
            base, _, bins = table
            self._tables[move.feature] = base, move.edges, bins
            if move.parts is not None:
                fine[base] = _heirs(move.parts, 0), _heirs(move.splits, 0)
        coarse: _Heritage = {}
        for move in growth.coarse:
            base, edges, _ = self._tables[move.feature]
            self._tables[move.feature] = base, edges, move.edges
            if move.parts is not None:
                missing: Heirs = {0: [(0, 1.0)]}
                coarse[move.feature] = _heirs(move.parts, 1) | missing, _heirs(move.splits, 1) | missing
        optimizer = self.linear.optimizer
        weights = self._moved(self.linear.weights, fine, coarse, 0)
        # A sum over examples goes where the examples went, so that what is new and small learns fast; while
        # bins move often and on little evidence, slowness is what keeps them from learning chance.
        squares = self._moved(optimizer.g2, fine, coarse, 1 if self.learned >= MATURE else 0)
        self.linear._weights = utils.VectorDict(weights)  # noqa: SLF001 - River sets weights only at the start
        optimizer.g2.clear()
        optimizer.g2.update(squares)

    def _new_table(self, name: str, edges: list[float]) -> None:
        self._tables[name] = len(self._names) * WIDTH, edges, None
        self._names.append((name,))

    def _moved(
        self, values: Mapping[int, float], fine: _Heritage, coarse: _Heritage, way: int
    ) -> dict[int, float]:
        """Values of inputs, spread over the inputs that take their place."""
        result: dict[int, float] = {}
        for key, value in values.items():
            if key == BIAS:
                result[BIAS] = value
                continue
            number, place = divmod(key, WIDTH)
            base = key - place
            heirs: list[tuple[int, float]] = [(0, 1.0)]
            if number >= len(self._crosses):
                heirs = fine[base][way].get(place, []) if base in fine else [(place, 1.0)]
            else:
                names = self._names[number]
                for at, name in enumerate(names):
                    index = place >> BITS * (len(names) - 1 - at) & MASK
                    own = coarse[name][way].get(index, []) if name in coarse else [(index, 1.0)]
                    heirs = [(left << BITS | right, a * b) for left, a in heirs for right, b in own]
            for heir, share in heirs:
                result[base + heir] = result.get(base + heir, 0.0) + value * share
        return result

    def log_odds(self, x: Features) -> float:
        """The calibrated log-odds of fraud."""
        if not self.ready:
            return BEFORE.log_odds(x)
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
        if not self.ready:
            return BEFORE.explain_one(x)
        return strongest(self._contributions(self.inputs_of(x)))

    def assess_one(self, x: Features, most: int = REASONS) -> tuple[float, list[tuple[str, float]]]:
        """What `score_one` and the first of `explain_one` say, to the bit, for little more than a score.

        Args:
            x: features as served.
            most: contributions wanted, > 0.
        """
        if not self.ready:
            return BEFORE.assess_one(x, most)
        inputs = self.inputs_of(x)
        score = sigmoid(self.calibration.log_odds(self._raw(inputs)))
        return score, strongest(self._contributions(inputs), most)

    def _contributions(self, inputs: dict[int, float]) -> dict[str, float]:
        """Contributions by feature, against those of a usual genuine payment; a cross is shared evenly."""
        slope = self.calibration.slope
        contributions = self._starts.copy()
        weight_of = self.linear._weights.get  # noqa: SLF001 - the public ones are a copy of all
        names_of, get = self._names, contributions.get
        for key in inputs:
            if key == BIAS:
                continue
            names = names_of[key >> SHIFT]
            weight = weight_of(key, 0.0) * slope
            if len(names) == 1:
                name = names[0]
                contributions[name] = get(name, 0.0) + weight
            else:
                weight /= len(names)
                for name in names:
                    contributions[name] = get(name, 0.0) + weight
        return contributions

    @property
    def bias(self) -> float:
        """The log-odds of a usual genuine transaction: where contributions start from."""
        if not self.ready:
            return BEFORE.bias
        bias = self.linear._weights.get(BIAS, 0.0)  # noqa: SLF001 - the public ones are a copy of all
        return self.calibration.log_odds(bias + sum(self._norms.values()))

    def _parts(self, x: Features) -> dict[str, float]:
        """The weights that speak, by feature; a cross is shared evenly among its features."""
        weights = self.linear._weights  # noqa: SLF001 - the public ones are a copy of all
        parts: dict[str, float] = {}
        for key in self.inputs_of(x):
            if key == BIAS:
                continue
            names = self._names[key >> SHIFT]
            weight = weights.get(key, 0.0) / len(names)
            for name in names:
                parts[name] = parts.get(name, 0.0) + weight
        return parts

    def _set_usual(self) -> None:
        """Work out what the features of a genuine transaction say on average: where contributions start."""
        rows = self.binner.genuine[:USUAL]
        sums: dict[str, float] = {}
        for row in rows:
            for name, part in self._parts(row).items():
                sums[name] = sums.get(name, 0.0) + part / len(rows)
        self._norms = sums
        self._start()

    def _start(self) -> None:
        slope = self.calibration.slope
        self._starts = {name: -norm * slope for name, norm in self._norms.items()}

    def threshold(self, share: float) -> float:
        """The score above which a share (0 to 1) of all transactions lies; a young model promises less."""
        return self.calibration.threshold(share) if self.ready else BEFORE.threshold(share)


def _heirs(parts: list[dict[int, float]], first: int) -> Heirs:
    """For each old bin the new ones that it is a part of, numbered from `first`, with its share in them."""
    heirs: Heirs = {}
    for new, part in enumerate(parts):
        for old, share in part.items():
            heirs.setdefault(old + first, []).append((new + first, share))
    return heirs
