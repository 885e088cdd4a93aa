"""How sure a measure is: intervals from a bootstrap over cards.

The transactions of a card depend on each other (one thief, one habit), so whole cards are drawn, with
replacement, and not single transactions (a cluster bootstrap: Field and Welsh, "Bootstrapping clustered
data", JRSS B 2007). Every measure is prepared once and then asked under the weights of each draw: a card
that was drawn twice counts twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

NAN = math.nan
Floats = NDArray[np.float64]
Weighted = Callable[[Floats], Mapping[str, float]]


class Interval(NamedTuple):
    """Between these, the measure would lie for 95 of 100 other sets of cards; NaN where nothing is known."""

    low: float
    high: float


def draws(cards: int, *, rounds: int, seed: int) -> Iterator[Floats]:
    """How often each card is drawn, once for each round.

    Args:
        cards: how many there are, >= 0.
        rounds: how many draws.
        seed: the same seed, the same draws.
    """
    chance = np.random.default_rng(seed)
    for _ in range(rounds):
        drawn = chance.integers(0, cards, cards) if cards else np.zeros(0, dtype=np.int64)
        yield np.bincount(drawn, minlength=cards).astype(np.float64)


def intervals(measures: Weighted, cards: int, *, rounds: int = 200, seed: int = 1) -> dict[str, Interval]:
    """The 2.5th and 97.5th percentile of each measure over the draws.

    Args:
        measures: the value of each measure, given the weight of each card.
        cards: how many there are.
        rounds: draws; 0 gives no intervals.
        seed: of the draws.
    """
    found: dict[str, list[float]] = {}
    for weights in draws(cards, rounds=rounds, seed=seed):
        for name, value in measures(weights).items():
            found.setdefault(name, []).append(value)
    result = {}
    for name, values in found.items():
        finite = np.asarray([value for value in values if math.isfinite(value)])
        low, high = np.percentile(finite, [2.5, 97.5]) if finite.size else (NAN, NAN)
        result[name] = Interval(float(low), float(high))
    return result


class Ranking:
    """Average precision and AUC under weights; without weights they are those of `models.metrics.ranking`.

    Args:
        is_fraud: 1 or True for a fraud.
        score: higher means more suspicious.
        card: the number of each transaction's card, 0 up to the number of cards.
    """

    def __init__(self, is_fraud: ArrayLike, score: ArrayLike, card: ArrayLike) -> None:
        frauds, scores = np.asarray(is_fraud, dtype=np.bool_), np.asarray(score, dtype=np.float64)
        order = np.argsort(-scores, kind="stable")
        scores, frauds = scores[order], frauds[order]
        self._card = np.asarray(card)[order]
        # Only ties that hold a fraud matter: what lies between two of them is genuine and only counted.
        starts = np.flatnonzero(np.append([True] * bool(scores.size), np.diff(scores) != 0))
        ends = np.append(starts[1:], scores.size)
        counts = np.append(0, np.cumsum(frauds))
        holds = counts[ends] > counts[starts]
        self._starts, self._ends = starts[holds], ends[holds]
        self._fraud_cards = self._card[frauds]
        self._fraud_ends = counts[self._ends]

    def __call__(self, weights: Floats) -> dict[str, float]:
        """The measures under the weight of each card."""
        if not self._ends.size:
            return {"average_precision": NAN, "roc_auc": NAN}
        caught = np.append(0.0, np.cumsum(weights[self._card]))
        frauds = np.append(0.0, np.cumsum(weights[self._fraud_cards]))[self._fraud_ends]
        found = np.diff(frauds, prepend=0.0)
        total, everything = frauds[-1], caught[-1]
        if total <= 0.0 or everything <= total:
            return {"average_precision": NAN, "roc_auc": NAN}
        above = caught[self._ends]
        precision = np.divide(frauds, above, out=np.zeros_like(frauds), where=above > 0.0)
        genuine_through = above - frauds
        genuine_before = caught[self._starts] - (frauds - found)
        below = (everything - total) - (genuine_through + genuine_before) / 2.0
        return {
            "average_precision": float((found * precision).sum() / total),
            "roc_auc": float((found * below).sum() / (total * (everything - total))),
        }


class Sums:
    """Measures that are made of sums over transactions: `finish` makes them of the weighted totals.

    Args:
        card: the number of each transaction's card.
        columns: of each transaction, by name.
        finish: totals to measures.
        cards: how many there are.
    """

    def __init__(
        self,
        card: ArrayLike,
        columns: Mapping[str, ArrayLike],
        finish: Callable[[Mapping[str, float]], Mapping[str, float]],
        *,
        cards: int,
    ) -> None:
        place = np.asarray(card)
        self._names = tuple(columns)
        self._sums = np.stack(
            [
                np.bincount(place, weights=np.asarray(column, dtype=np.float64), minlength=cards)
                for column in columns.values()
            ]
        )
        self._finish = finish

    def __call__(self, weights: Floats) -> Mapping[str, float]:
        """The measures under the weight of each card."""
        return self._finish(dict(zip(self._names, (self._sums @ weights).tolist(), strict=True)))


class CardPrecision:
    """Card precision at k under weights, as `models.metrics.ranking.card_precision_at_k` without.

    Args:
        day: of each transaction, any number.
        card: the number of each transaction's card.
        is_fraud: 1 or True for a fraud.
        score: higher means more suspicious.
        k: cards looked at each day.
        drop_detected: a defrauded card among the k is not looked at on later days.
    """

    def __init__(
        self,
        day: ArrayLike,
        card: ArrayLike,
        is_fraud: ArrayLike,
        score: ArrayLike,
        *,
        k: int,
        drop_detected: bool = True,
    ) -> None:
        days, cards, scores = np.asarray(day), np.asarray(card), np.asarray(score, dtype=np.float64)
        frauds = np.asarray(is_fraud, dtype=np.bool_)
        self._k, self._drop = k, drop_detected
        self._days: list[tuple[NDArray[np.int64], NDArray[np.bool_]]] = []
        for one in np.unique(days):
            rows = np.flatnonzero(days == one)
            present, place = np.unique(cards[rows], return_inverse=True)
            highest = np.full(present.size, -np.inf)
            np.maximum.at(highest, place, scores[rows])
            defrauded = np.zeros(present.size, dtype=np.bool_)
            np.logical_or.at(defrauded, place, frauds[rows])
            order = np.argsort(-highest, kind="stable")
            self._days.append((present[order], defrauded[order]))

    def by_day(self, weights: Floats) -> list[float]:
        """The precision of each day."""
        blocked = np.zeros(weights.size, dtype=np.bool_)
        values = []
        for cards, defrauded in self._days:
            open_ = (weights[cards] > 0.0) & ~blocked[cards]
            looked, right = cards[open_], defrauded[open_]
            through = np.cumsum(weights[looked])
            size = int(np.searchsorted(through, self._k)) + 1
            looked, right, through = looked[:size], right[:size], through[:size]
            counted = np.diff(np.minimum(through, self._k), prepend=0.0)
            values.append(float(counted[right].sum()) / self._k)
            if self._drop:
                blocked[looked[right]] = True
        return values
