"""A score becomes an action: by the budget's thresholds, or by the least expected cost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.features.currencies import EXPONENTS, minor_units
from stream.policy import Policy, Thresholds, decide
from stream.serving import ServedModel, first_model, served

BY_COST = Policy(kind="cost", review_cost=5.0, decline_cost=0.3)
SEVERITY = {"approve": 0, "review": 1, "decline": 2}

scores = st.floats(0.0, 1.0)
amounts = st.integers(1, 10**15)


class Fixed:
    """A model whose threshold is a function of the share."""

    def __init__(self, *, ready: bool = True) -> None:
        self.ready = ready

    def score_one(self, x: dict[str, float]) -> float:
        return x["amount"]

    def explain_one(self, x: dict[str, float]) -> list[tuple[str, float]]:
        return [("amount", x["amount"])]

    def threshold(self, share: float) -> float:
        return 1.0 - share


def test_a_threshold_belongs_to_the_action_it_opens() -> None:
    thresholds = Thresholds(0.2, 0.8)
    actions = [
        decide(score, 100, "EUR", Policy(), thresholds) for score in (0.0, 0.1999, 0.2, 0.7999, 0.8, 1.0)
    ]
    assert actions == ["approve", "approve", "review", "review", "decline", "decline"]


def test_equal_thresholds_decline_and_never_review() -> None:
    assert decide(0.5, 100, "EUR", Policy(), Thresholds(0.5, 0.5)) == "decline"
    assert decide(0.49, 100, "EUR", Policy(), Thresholds(0.5, 0.5)) == "approve"


@given(scores, amounts, amounts)
def test_a_budget_does_not_look_at_the_amount(score: float, one: int, other: int) -> None:
    thresholds = Thresholds(0.2, 0.8)
    assert decide(score, one, "EUR", Policy(), thresholds) == decide(
        score, other, "JPY", Policy(), thresholds
    )


@given(scores, scores, amounts, st.sampled_from(["EUR", "JPY", "KWD"]), st.sampled_from([Policy(), BY_COST]))
def test_a_higher_score_is_never_treated_more_mildly(
    one: float, other: float, amount: int, currency: str, policy: Policy
) -> None:
    low, high = sorted((one, other))
    thresholds = Thresholds(0.2, 0.8)
    before, after = (decide(score, amount, currency, policy, thresholds) for score in (low, high))
    assert SEVERITY[before] <= SEVERITY[after]


@given(scores, amounts, st.sampled_from(sorted(EXPONENTS)))
def test_by_cost_no_other_action_is_expected_to_cost_less(score: float, amount: int, currency: str) -> None:
    major = amount / minor_units(currency)
    costs = {
        "approve": score * major,
        "review": BY_COST.review_cost,
        "decline": (1.0 - score) * BY_COST.decline_cost * major,
    }
    action = decide(score, amount, currency, BY_COST, Thresholds(0.2, 0.8))
    assert costs[action] == min(costs.values())


def test_on_equal_costs_the_milder_action_is_taken() -> None:
    assert decide(0.05, 100_00, "EUR", BY_COST, Thresholds(0.2, 0.8)) == "approve"  # 5.00 either way


def test_by_cost_money_is_counted_in_major_units() -> None:
    # The same number of minor units is 100 times the money in yen.
    assert decide(0.1, 30_00, "EUR", BY_COST, Thresholds(0.2, 0.8)) == "approve"
    assert decide(0.1, 30_00, "JPY", BY_COST, Thresholds(0.2, 0.8)) == "review"


def test_the_thresholds_are_those_of_the_models_own_scores() -> None:
    model = ServedModel("m@1", Fixed(), Policy(review_share=0.05, decline_share=0.01))
    assert model.thresholds == Thresholds(0.95, 0.99)


def test_declining_never_begins_below_reviewing() -> None:
    model = ServedModel("m@1", Fixed(), Policy(review_share=0.01, decline_share=0.05))
    assert model.thresholds.review == model.thresholds.decline == 0.99


def test_a_model_that_is_not_ready_does_not_serve_yet() -> None:
    policy = Policy()
    assert served("m@1", Fixed(ready=False), policy).version == first_model(policy).version
    assert served("m@1", Fixed(ready=True), policy).version == "m@1"


def test_what_scores_before_the_first_label_says_so() -> None:
    assert first_model(Policy()).version.startswith("unsupervised")
    thresholds = first_model(Policy()).thresholds
    assert 0.0 < thresholds.review <= thresholds.decline <= 1.0
