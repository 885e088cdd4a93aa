"""What borders between bins tell of the classes: log-likelihoods of labels on both sides."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int to Python; compiled, it is a number of the machine

MIN_SIDE: Final = 8.0  # examples on each side of an edge
NOWHERE: Final = -1


class Split(NamedTuple):
    """An edge between cells, and what it gains; none where nothing does."""

    gain: float
    at: int


def likelihood(frauds: float, total: float) -> float:
    """Log-likelihood of labels under their own rate, a little smoothed."""
    rate = (frauds + 0.1) / (total + 0.2)
    return frauds * math.log(rate) + (total - frauds) * math.log(1.0 - rate)


def _loss(frauds: list[float], genuine: list[float], at: i64) -> float:
    """What merging a cell with the next one would lose, in log-likelihood."""
    a, b = frauds[at], frauds[at + 1]
    m, n = a + genuine[at], b + genuine[at + 1]
    return likelihood(a, m) + likelihood(b, n) - likelihood(a + b, m + n)


def losses_of(frauds: list[float], genuine: list[float]) -> list[float]:
    """The same of every cell but the last."""
    return [_loss(frauds, genuine, at) for at in range(len(frauds) - 1)]


def best_split(low: int, high: int, frauds: list[float], totals: list[float], spread: float) -> Split:
    """The best edge between two: by log-likelihood of the labels, and a little by even size.

    Args:
        low: an edge; those between it and
        high: are looked at.
        frauds: before each edge.
        totals: examples before each edge.
        spread: of the examples: what an edge that halves them is worth though it tells no classes apart.
    """
    before, frauds_before = totals[low], frauds[low]
    total = totals[high] - before
    fraud = frauds[high] - frauds_before
    whole = likelihood(fraud, total)
    last = len(totals) - 1
    all_frauds = frauds[last] or 1.0
    all_genuine = (totals[last] - frauds[last]) or 1.0
    best_gain, best_at = 0.0, NOWHERE
    for at in range(low + 1, high):
        left, found = totals[at] - before, frauds[at] - frauds_before
        right, missed = total - left, fraud - found
        if left < MIN_SIDE or right < MIN_SIDE:
            continue
        gain = likelihood(found, left) + likelihood(missed, right) - whole
        even = min(
            found / all_frauds + (left - found) / all_genuine,
            missed / all_frauds + (right - missed) / all_genuine,
        )
        gain += spread * even * totals[last]
        if gain > best_gain:
            best_gain, best_at = gain, at
    return Split(best_gain, best_at)
