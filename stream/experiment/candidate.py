"""One model in an experiment: it scores, it learns, and what that takes is measured."""

from __future__ import annotations

import copy
import time
from array import array
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from models.features.vector import Example
from stream.experiment.model_failed import ModelFailedError
from stream.policy import Policy
from stream.serving import served

__all__ = ["Candidate", "Effects", "Model", "ModelFailedError"]

MOST_WAITING = 2048  # rows for a model that scores many at once
SAMPLE = 64  # of so many scores one is timed: reading the clock costs as much as a tenth of a score
_OWN = "own"


class Model(Protocol):
    """What a model must offer, as `models.scoring.fraud_model.FraudModel` does.

    Features come by name (`dict[str, float]`), or as a `models.features.vector.Row` where its class has
    `takes_rows`.
    """

    def learn_one(self, x: Any, y: bool) -> None:
        """Learn from features as served and what became known."""
        ...

    def score_one(self, x: Any) -> float:
        """The probability of fraud."""
        ...

    def explain_one(self, x: Any) -> list[tuple[str, float]]:
        """Contributions by feature, strongest first; empty where the model has none."""
        ...

    def threshold(self, share: float) -> float:
        """The score above which a share of all transactions lies."""
        ...


class Effects:
    """Sums of contributions by feature, of frauds and of genuine transactions apart."""

    def __init__(self) -> None:
        self.counts = [0, 0]
        self.sums: dict[str, list[float]] = {}

    def add(self, contributions: list[tuple[str, float]], y: bool) -> None:
        """Take the contributions to one score in."""
        self.counts[y] += 1
        for name, value in contributions:
            self.sums.setdefault(name, [0.0, 0.0])[y] += value


class Candidate:
    """A model, its scores so far, and its cost.

    Args:
        name: in the results.
        model: is changed, unless it is frozen.
        policy: whose share of reviews is the alert budget.
        is_frozen: it never learns.

    Attributes:
        scores: one for each transaction.
        alerted: whether each score reached the threshold that held when it was made.
        effects: of features, sampled from labelled transactions.
        takes_rows: whether features are to be given as a row, not by name.
        own_from: the place of the first transaction that the model itself scored; None while the anomaly
            score serves in its stead.
        cpu: nanoseconds spent scoring (estimated from a sample) and learning.
    """

    def __init__(self, name: str, model: Model, policy: Policy, *, is_frozen: bool = False) -> None:
        self.name = name
        self.model = model
        self.is_frozen = is_frozen
        self.scores = array("d")
        self.alerted = bytearray()
        self.effects = Effects()
        self.learned = 0
        self.own_from: int | None = None
        self._policy = policy
        self._cpu = 0
        self._calls = 0
        # A batch model scores many rows at once, and changes only when it says so: `learns_next`.
        self._score_many: Callable[[list[Example]], list[float]] | None = getattr(model, "score_many", None)
        self._waiting: list[Example] = []
        self._score: Callable[[Any], float] = model.score_one
        self._is_first = True
        self.takes_rows = False
        self._threshold = 1.0
        self.refresh()

    def refresh(self) -> None:
        """Serve the model as a worker would: an unsupervised one until it has learned enough frauds."""
        self.settle()
        now = served(_OWN, self.model, self._policy)
        self._is_first = now.version != _OWN
        if self.own_from is None and not self._is_first:
            self.own_from = len(self.scores)
        self._score = (lambda x: now.score(x)[0]) if self._is_first else self.model.score_one
        # Of the class itself: one that is made of such a class may look features up by name.
        self.takes_rows = not self._is_first and bool(vars(type(self.model)).get("takes_rows"))
        self._threshold = now.thresholds.review

    def score(self, x: Example, transaction_id: str) -> None:
        """Score a transaction."""
        if self._score_many is not None and not self._is_first:
            self._waiting.append(x)
            if len(self._waiting) >= MOST_WAITING:
                self.settle()
            return
        self._calls += 1
        timed = self._calls % SAMPLE == 0
        begun = time.thread_time_ns() if timed else 0
        try:
            value = self._score(x)
            self.scores.append(value)
        except Exception as error:  # noqa: BLE001 - whatever a user's model raises
            self._failed("scoring", transaction_id, error)
        self.alerted.append(value >= self._threshold)
        if timed:
            self._cpu += (time.thread_time_ns() - begun) * SAMPLE

    def settle(self) -> None:
        """Give every transaction so far its score: a model that scores many at once is asked only now."""
        if self._score_many is None or not self._waiting:
            return
        begun = time.thread_time_ns()
        try:
            values = self._score_many(self._waiting)
            self.scores.extend(values)
            self._waiting = []
        except Exception as error:  # noqa: BLE001 - whatever a user's model raises
            self._failed("scoring", f"{len(self.scores) + 1:,} and those after it", error)
        self.alerted += bytes(value >= self._threshold for value in values)
        self._cpu += time.thread_time_ns() - begun

    def learn(self, x: Example, y: bool, transaction_id: str) -> None:
        """Learn from a transaction whose label became known."""
        begun = time.thread_time_ns()
        if self._waiting and getattr(self.model, "learns_next", True):
            self.settle()
        try:
            self.model.learn_one(x, y)
        except Exception as error:  # noqa: BLE001 - whatever a user's model raises
            self._failed("learning from", transaction_id, error)
        self.learned += 1
        if self._is_first and y:
            self.refresh()
        self._cpu += time.thread_time_ns() - begun

    def explain(self, x: Example, y: bool, transaction_id: str) -> None:
        """Remember what each feature contributed to the score of a transaction."""
        try:
            self.effects.add(self.model.explain_one(x), y)
        except Exception as error:  # noqa: BLE001 - whatever a user's model raises
            self._failed("explaining", transaction_id, error)

    def frozen(self) -> Candidate:
        """A copy that never learns, with no scores before this moment."""
        self.settle()
        other = Candidate(f"{self.name} (frozen)", copy.deepcopy(self.model), self._policy, is_frozen=True)
        other.scores = array("d", [float("nan")]) * len(self.scores)
        other.alerted = bytearray(len(self.alerted))
        return other

    @property
    def budget(self) -> float:
        """The share of transactions that may raise an alert."""
        return self._policy.review_share

    @property
    def cpu(self) -> int:
        """Nanoseconds of CPU so far."""
        return self._cpu

    def _failed(self, doing: str, transaction_id: str, error: Exception) -> NoReturn:
        text = " ".join(str(error).split()) or "without a message"
        raise ModelFailedError(
            f"model {self.name}: raised {type(error).__name__} while {doing} transaction {transaction_id}: "
            f"{text}: correct the model, or leave it out"
        ) from error
