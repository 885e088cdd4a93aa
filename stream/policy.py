"""A score is not a decision: the policy turns one into the other. Pure.

By an alert budget: the given shares of all transactions are declined or reviewed; the thresholds come with
the model, from the scores it gave, so they move only when the model does.
By cost: the action with the least expected cost (Bahnsen, Aouada, Stojanovic and Ottersten,
"Example-Dependent Cost-Sensitive Decision Trees", 2015, section 3): a fraud that is approved costs its
amount, a review its fee, a genuine payment that is declined a share of its amount.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from models.features.currencies import major_units
from stream.messages import Action


class Thresholds(NamedTuple):
    """Scores from which a transaction is reviewed, and declined: 0 < review <= decline."""

    review: float
    decline: float


class Policy(NamedTuple):
    """How to decide.

    Attributes:
        kind: `budget` or `cost`.
        review_share, decline_share: budget: shares of transactions, 0 < decline_share <= review_share < 1.
        review_cost: cost: of one review, major units.
        decline_cost: cost: of declining a genuine payment, as a share of its amount.
    """

    kind: Literal["budget", "cost"] = "budget"
    review_share: float = 0.01
    decline_share: float = 0.002
    review_cost: float = 5.0
    decline_cost: float = 0.3


def thresholds_for_budget(threshold: Callable[[float], float], policy: Policy) -> Thresholds:
    """Score thresholds for review and decline: the alert budget of a policy, by a model's own scores.

    Args:
        threshold: of a model: the score above which a share of all transactions lies.
        policy: whose shares are the budget.

    >>> thresholds_for_budget(lambda share: 1.0 - share, Policy("budget", 0.02, 0.005))
    Thresholds(review=0.98, decline=0.995)
    """
    review = threshold(policy.review_share)
    return Thresholds(review, max(review, threshold(policy.decline_share)))


def decide(score: float, amount_minor: int, currency: str, policy: Policy, thresholds: Thresholds) -> Action:
    """What to do with a transaction.

    >>> decide(0.9, 10_00, "EUR", Policy(), Thresholds(0.2, 0.8))
    'decline'
    >>> by_cost = Policy(kind="cost", review_cost=5.0, decline_cost=0.3)
    >>> decide(0.1, 20_00, "EUR", by_cost, Thresholds(0.2, 0.8))
    'approve'
    >>> decide(0.1, 200_00, "EUR", by_cost, Thresholds(0.2, 0.8))
    'review'
    """
    if policy.kind == "budget":
        if score >= thresholds.decline:
            return "decline"
        return "review" if score >= thresholds.review else "approve"
    amount = major_units(amount_minor, currency)
    costs: tuple[tuple[float, Action], ...] = (
        (score * amount, "approve"),
        (policy.review_cost, "review"),
        ((1.0 - score) * policy.decline_cost * amount, "decline"),
    )
    # On equal costs the milder action, which stands first.
    return min(costs, key=lambda pair: pair[0])[1]
