"""What a set of scores is worth: the measures of fraud detection, as pure functions of arrays.

Arrays of one call have one length, an entry a transaction. A measure that needs frauds, alerts or days and
finds none is NaN: nothing was measured.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NAN = float("nan")


class AlertQuality(NamedTuple):
    """Of the alerts raised: how many were right (`precision`), and how many frauds they caught (`recall`)."""

    precision: float
    recall: float
    f1: float


def _ranked(is_fraud: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats]:
    """Frauds and transactions at or above each distinct score, the highest score first."""
    scores = np.asarray(score, dtype=np.float64)
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.flatnonzero(np.append(np.diff(scores[order]) != 0, [True] * bool(scores.size)))
    frauds = np.cumsum(np.asarray(is_fraud, dtype=np.float64)[order])[last_of_tie]
    return frauds, (last_of_tie + 1).astype(np.float64)


def average_precision(is_fraud: ArrayLike, score: ArrayLike) -> float:
    """The mean precision over all frauds, each at the threshold that just catches it.

    The sum of P_n (R_n - R_(n-1)) over the distinct scores, the highest first. Transactions of equal score
    are caught together, as in scikit-learn's `average_precision_score`.

    Args:
        is_fraud: 1 or True for a fraud.
        score: higher means more suspicious; no NaN.

    >>> average_precision([1, 0, 1], [0.9, 0.8, 0.7])
    0.8333333333333333
    """
    frauds, caught = _ranked(is_fraud, score)
    if not frauds.size or frauds[-1] == 0:
        return NAN
    return float(np.sum(np.diff(frauds, prepend=0.0) * frauds / caught) / frauds[-1])


def roc_auc(is_fraud: ArrayLike, score: ArrayLike) -> float:
    """The chance that a fraud scores above a genuine transaction, a tie counting one half.

    >>> roc_auc([1, 0, 1], [0.9, 0.8, 0.7])
    0.5
    """
    frauds, caught = _ranked(is_fraud, score)
    if not frauds.size or frauds[-1] == 0 or frauds[-1] == caught[-1]:
        return NAN
    genuine = caught - frauds
    below = frauds - np.diff(frauds, prepend=0.0) / 2  # half of a tie lies below it
    return float(np.sum(np.diff(genuine, prepend=0.0) * below) / (frauds[-1] * genuine[-1]))


def card_precision_by_day(
    day: ArrayLike,
    card: ArrayLike,
    is_fraud: ArrayLike,
    score: ArrayLike,
    *,
    k: int,
    drop_detected: bool = True,
) -> Floats:
    """Of the k cards an analyst would look at each day, the share that were defrauded that day.

    A card's score is its highest of the day. Always divided by k, as published by Le Borgne, Siblini,
    Lebichot and Bontempi, "Reproducible Machine Learning for Credit Card Fraud Detection", chapter 4. Cards
    of equal score are taken in the order of `card`.

    Args:
        day: any number that says which day; days are gone through in rising order.
        card: any sortable identity.
        is_fraud: 1 or True for a fraud.
        score: higher means more suspicious.
        k: cards looked at each day, > 0.
        drop_detected: a defrauded card among the k is blocked and not looked at on later days, as published.

    Returns:
        One value for each day that has transactions.
    """
    days, cards, scores = np.asarray(day), np.asarray(card), np.asarray(score, dtype=np.float64)
    frauds = np.asarray(is_fraud, dtype=np.bool_)
    identities, identity = np.unique(cards, return_inverse=True)
    blocked = np.zeros(identities.size, dtype=np.bool_)
    result = []
    for one in np.unique(days):
        rows = np.flatnonzero((days == one) & ~blocked[identity])
        present, place = np.unique(identity[rows], return_inverse=True)
        highest = np.full(present.size, -np.inf)
        np.maximum.at(highest, place, scores[rows])
        defrauded = np.zeros(present.size, dtype=np.bool_)
        np.logical_or.at(defrauded, place, frauds[rows])
        top = np.argsort(-highest, kind="stable")[:k]
        result.append(np.count_nonzero(defrauded[top]) / k)
        if drop_detected:
            blocked[present[top[defrauded[top]]]] = True
    return np.asarray(result, dtype=np.float64)


def card_precision_at_k(
    day: ArrayLike,
    card: ArrayLike,
    is_fraud: ArrayLike,
    score: ArrayLike,
    *,
    k: int,
    drop_detected: bool = True,
) -> float:
    """The mean over days of `card_precision_by_day`.

    >>> card_precision_at_k([1, 1, 2], ["a", "b", "b"], [1, 0, 1], [0.9, 0.2, 0.5], k=1)
    1.0
    """
    values = card_precision_by_day(day, card, is_fraud, score, k=k, drop_detected=drop_detected)
    return float(values.mean()) if values.size else NAN


def without_known_cards(
    day_start: ArrayLike,
    card: ArrayLike,
    *,
    fraud_card: ArrayLike,
    fraud_known_at: ArrayLike,
) -> Bools:
    """Which transactions are of cards not yet known defrauded when their day began.

    A known card is blocked: a score for it helps nobody.

    Args:
        day_start: of each transaction, when its day began; in one unit with `fraud_known_at`.
        card: of each transaction.
        fraud_card: of each known fraud, its card.
        fraud_known_at: of each, when it became known: strictly before a day's start, it counts for that day.
    """
    starts, cards = np.asarray(day_start), np.asarray(card)
    victims, since = np.asarray(fraud_card), np.asarray(fraud_known_at)
    if not victims.size:
        return np.ones(cards.shape, dtype=np.bool_)
    order = np.lexsort((since, victims))
    victims, since = victims[order], since[order]
    first = np.append([True], victims[1:] != victims[:-1])
    victims, since = victims[first], since[first]
    place = np.minimum(np.searchsorted(victims, cards), victims.size - 1)
    known: Bools = (victims[place] == cards) & (since[place] < starts)
    return ~known


def expected_calibration_error(is_fraud: ArrayLike, score: ArrayLike, *, bins: int = 10) -> float:
    """How far probabilities are from what happened: |mean score - share of frauds| by bin, weighted by size.

    Bins of equal width over [0, 1] (Naeini, Cooper and Hauskrecht, AAAI 2015).

    >>> expected_calibration_error([1, 0], [0.5, 0.5])
    0.0
    """
    scores, frauds = np.asarray(score, dtype=np.float64), np.asarray(is_fraud, dtype=np.float64)
    if not scores.size:
        return NAN
    place = np.minimum((scores * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(place, weights=scores - frauds, minlength=bins)
    return float(np.abs(gaps).sum() / scores.size)


def alert_quality(is_fraud: ArrayLike, alerted: ArrayLike) -> AlertQuality:
    """Precision, recall and F1 (their harmonic mean) of alerts.

    >>> alert_quality([1, 1, 0, 0], [1, 0, 0, 0])
    AlertQuality(precision=1.0, recall=0.5, f1=0.6666666666666666)
    """
    frauds, alerts = np.asarray(is_fraud, dtype=np.bool_), np.asarray(alerted, dtype=np.bool_)
    right, raised, wanted = (int(np.count_nonzero(part)) for part in (frauds & alerts, alerts, frauds))
    return AlertQuality(
        precision=right / raised if raised else NAN,
        recall=right / wanted if wanted else NAN,
        f1=2 * right / (raised + wanted) if raised and wanted else NAN,
    )


def cost(is_fraud: ArrayLike, alerted: ArrayLike, amount: ArrayLike, *, alert_cost: float) -> float:
    """What the decisions cost: the amount of every missed fraud, and the work on every alert.

    The cost matrix of Bahnsen, Stojanovic, Aouada and Ottersten, ICMLA 2013.

    Args:
        is_fraud: 1 or True for a fraud.
        alerted: 1 or True where an alert was raised.
        amount: major units of one currency.
        alert_cost: of looking at one alert, the same units, >= 0.

    >>> cost([1, 1, 0], [1, 0, 0], [100.0, 40.0, 7.0], alert_cost=5.0)
    45.0
    """
    frauds, alerts = np.asarray(is_fraud, dtype=np.bool_), np.asarray(alerted, dtype=np.bool_)
    missed: Any = np.asarray(amount, dtype=np.float64)[frauds & ~alerts].sum()
    return float(missed) + alert_cost * int(np.count_nonzero(alerts))


def accuracy(is_fraud: ArrayLike, alerted: ArrayLike) -> float:
    """The share of transactions that were told right. With few frauds it says little: 0.99 is to alert none.

    >>> accuracy([1, 0, 0, 0], [0, 0, 0, 1])
    0.5
    """
    frauds, alerts = np.asarray(is_fraud, dtype=np.bool_), np.asarray(alerted, dtype=np.bool_)
    return float(np.mean(frauds == alerts)) if frauds.size else NAN


class CurvePoint(NamedTuple):
    """One threshold of a precision-recall curve."""

    recall: float
    precision: float
    threshold: float


def precision_recall_curve(is_fraud: ArrayLike, score: ArrayLike, *, points: int = 200) -> list[CurvePoint]:
    """Precision against recall, thinned to points that lie evenly in recall; recall rises.

    Args:
        is_fraud: 1 or True for a fraud.
        score: higher means more suspicious.
        points: at most so many, > 0.

    >>> [tuple(point) for point in precision_recall_curve([1, 0, 1], [0.9, 0.8, 0.7])]
    [(0.5, 1.0, 0.9), (1.0, 0.6666666666666666, 0.7)]
    """
    scores = np.asarray(score, dtype=np.float64)
    frauds, caught = _ranked(is_fraud, scores)
    if not frauds.size or frauds[-1] == 0:
        return []
    thresholds = -np.unique(-scores)
    rises = np.flatnonzero(np.diff(frauds, prepend=0.0) > 0)
    recall = frauds[rises] / frauds[-1]
    wanted = np.unique(np.searchsorted(recall, np.linspace(0.0, 1.0, points)).clip(max=rises.size - 1))
    return [
        CurvePoint(
            float(recall[at]), float(frauds[rises[at]] / caught[rises[at]]), float(thresholds[rises[at]])
        )
        for at in wanted.tolist()
    ]


class CalibrationPoint(NamedTuple):
    """Transactions of about one score: what was predicted of them, and what happened."""

    predicted: float
    observed: float
    transactions: int


def calibration_curve(is_fraud: ArrayLike, score: ArrayLike, *, bins: int = 12) -> list[CalibrationPoint]:
    """Mean score and share of frauds of groups of equal log-odds width; empty groups are left out.

    Groups are equally wide in log-odds, from 1 in 10,000 up: with few frauds, bins of equal width in
    probability would put nearly everything in the first.

    Args:
        is_fraud: 1 or True for a fraud.
        score: a probability.
        bins: how many groups, > 1.

    >>> [tuple(point) for point in calibration_curve([1, 0, 1], [0.5, 0.5, 0.9])]
    [(0.5, 0.5, 2), (0.9, 1.0, 1)]
    """
    scores, frauds = np.asarray(score, dtype=np.float64), np.asarray(is_fraud, dtype=np.float64)
    clipped = np.clip(scores, 1e-4, 1.0 - 1e-4)
    log_odds = np.log(clipped / (1.0 - clipped))
    place = np.searchsorted(np.linspace(log_odds_of(1e-4), log_odds_of(1.0 - 1e-4), bins + 1)[1:-1], log_odds)
    counts = np.bincount(place, minlength=bins)
    predicted = np.bincount(place, weights=scores, minlength=bins)
    observed = np.bincount(place, weights=frauds, minlength=bins)
    return [
        CalibrationPoint(float(predicted[at] / counts[at]), float(observed[at] / counts[at]), int(counts[at]))
        for at in np.flatnonzero(counts).tolist()
    ]


def log_odds_of(probability: float) -> float:
    """ln(p / (1 - p)).

    >>> log_odds_of(0.5)
    0.0
    """
    return float(np.log(probability / (1.0 - probability)))


def top_mean_and_rate(is_fraud: ArrayLike, score: ArrayLike, *, share: float = 0.01) -> tuple[float, float]:
    """Of the share of transactions with the highest scores: the mean score, and the rate of frauds.

    >>> top_mean_and_rate([1, 0, 0, 0], [0.9, 0.1, 0.2, 0.3], share=0.5)
    (0.6, 0.5)
    """
    scores, frauds = np.asarray(score, dtype=np.float64), np.asarray(is_fraud, dtype=np.float64)
    if not scores.size:
        return NAN, NAN
    top = np.argsort(-scores, kind="stable")[: max(round(scores.size * share), 1)]
    return float(scores[top].mean()), float(frauds[top].mean())
