"""From a raw score to a probability, and to a place among all scores. Learned online, from a sample.

One decayed histogram of raw scores (log-odds), with frauds and genuine apart, serves both: a Platt scaling
fitted to it (Platt, 1999; with the prior as in Elkan, IJCAI 2001) and the quantiles for thresholds.
"""

from __future__ import annotations

import math

from models.scoring.sums import added

NEGATIVE_SAMPLING_RATE = 0.2  # share of the genuine examples that is learned, unless another is asked for
STEP = 0.1  # log-odds, width of a cell
CELLS = 400  # centred on 0: raw scores beyond +-20 are in the outer cells
HALF_LIFE = 20_000.0  # examples; as many as were learned while these are fewer, but
LEAST_HALF_LIFE = 1_000.0
REFIT = 512  # examples between fits
FIRST_FIT = 256
PRIOR = 20.0  # examples' worth of belief that the model is calibrated but for the sampling
SEASONED = 3_000  # examples after which scores are what they will be
RESCALE = 2.0**200
ROUNDS = 12


def sigmoid(z: float) -> float:
    """The probability of log-odds, without overflow.

    >>> sigmoid(0.0), sigmoid(-1000.0)
    (0.5, 0.0)
    """
    if z >= 0.0:
        return 1.0 / (1.0 + math.exp(-z))
    if z < -700.0:  # noqa: PLR2004 - exp underflows
        return 0.0
    odds = math.exp(z)
    return odds / (1.0 + odds)


class Calibration:
    """Platt scaling and quantiles of scores from a sample of all frauds and some genuine examples.

    Args:
        negative_sampling_rate: share of the genuine examples that are learned, > 0, at most 1.
    """

    def __init__(self, negative_sampling_rate: float) -> None:
        self.genuine_weight = 1.0 / negative_sampling_rate
        self.slope = 1.0
        self.shift = math.log(negative_sampling_rate)
        self._frauds = [0.0] * CELLS
        self._genuine = [0.0] * CELLS
        self._weight = 1.0
        self._learned = 0

    @property
    def fitted(self) -> bool:
        """Whether enough scores were seen."""
        return self._learned >= FIRST_FIT

    @property
    def learned(self) -> int:
        """Scores learned from."""
        return self._learned

    def log_odds(self, z: float) -> float:
        """The calibrated log-odds of a raw score."""
        return self.slope * z + self.shift

    def learn(self, z: float, y: bool) -> bool:
        """Learn from a raw score, made before its example was learned, and its label; True if fitted anew."""
        cell = _cell(z)
        (self._frauds if y else self._genuine)[cell] += self._weight
        # A young model changes fast: what it said at first tells little of what it says now.
        half_life = min(HALF_LIFE, max(LEAST_HALF_LIFE, float(self._learned)))
        self._weight *= 2.0 ** (1.0 / half_life)
        if self._weight > RESCALE:
            self._frauds = [value / self._weight for value in self._frauds]
            self._genuine = [value / self._weight for value in self._genuine]
            self._weight = 1.0
        self._learned += 1
        if self._learned != FIRST_FIT and self._learned % REFIT:
            return False
        self._fit()
        return True

    def quantile(self, share: float) -> float:
        """The raw score above which a share (0 to 1) of all examples lies; infinite before the first."""
        weights = [
            fraud + genuine * self.genuine_weight
            for fraud, genuine in zip(self._frauds, self._genuine, strict=True)
        ]
        wanted = share * added(weights)
        if wanted <= 0.0:
            return math.inf
        above = 0.0
        for cell in range(CELLS - 1, -1, -1):
            weight = weights[cell]
            if above + weight >= wanted:
                return _low(cell) + STEP * (1.0 - (wanted - above) / weight)
            above += weight
        return _low(0)

    def threshold(self, share: float) -> float:
        """The probability above which a share (0 to 1) of all transactions lies; 1 before the first example.

        A young model promises less: its quantiles rest on scores that it would not give any more. And the
        first genuine examples are weeks old: they know no label history, and what has one by now scores
        higher than any of them. So at first a smaller share is asked for.
        """
        z = self.quantile(share * min(self._learned / SEASONED, 1.0))
        return 1.0 if math.isinf(z) else sigmoid(self.log_odds(z))

    def _fit(self) -> None:
        """Weighted logistic regression of the labels on the raw scores, by Newton's method on the cells."""
        prior_shift = -math.log(self.genuine_weight)
        points = []
        for cell in range(CELLS):
            frauds = self._frauds[cell] / self._weight
            genuine = self._genuine[cell] / self._weight * self.genuine_weight
            if frauds + genuine > 0.0:
                points.append((_low(cell) + STEP / 2.0, frauds, frauds + genuine))
        slope, shift = self.slope, self.shift
        for _ in range(ROUNDS):
            # A ridge towards the prior keeps the slope sane while frauds are few.
            g0, g1 = PRIOR * (prior_shift - shift) * 0.1, PRIOR * (1.0 - slope)
            h00, h01, h11 = PRIOR * 0.1, 0.0, PRIOR
            for z, frauds, total in points:
                p = sigmoid(slope * z + shift)
                gradient = frauds - total * p
                curvature = total * p * (1.0 - p)
                g0 += gradient
                g1 += gradient * z
                h00 += curvature
                h01 += curvature * z
                h11 += curvature * z * z
            determinant = h00 * h11 - h01 * h01
            step0 = (h11 * g0 - h01 * g1) / determinant
            step1 = (h00 * g1 - h01 * g0) / determinant
            size = max(abs(step0), abs(step1), 1.0)  # no step beyond 1: Newton may overshoot far from the end
            shift += step0 / size
            slope += step1 / size
            if abs(step0) + abs(step1) < 1e-9:  # noqa: PLR2004 - converged
                break
        if slope > 0.0:
            self.slope, self.shift = slope, shift


def _cell(z: float) -> int:
    return min(max(int(z / STEP + CELLS / 2), 0), CELLS - 1)


def _low(cell: int) -> float:
    return (cell - CELLS / 2) * STEP
