"""The linear model of bins and crosses: its steps, its places, and what is stored of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from river import linear_model, optim

from models.scoring.sparse_linear import Edges, Linear
from tests.unit.models.scoring.test_fraud_model import Example


def test_steps_with_the_power_of_a_half_are_those_of_rivers_adagrad() -> None:
    chance = random.Random(1)
    names = [f"n{number}" for number in range(60)]
    rivers = linear_model.LogisticRegression(optim.AdaGrad(0.3, eps=1e-8), intercept_lr=0.0)
    own = Linear((), 8, {name: ([0.0], None) for name in names}, rate=0.3, before=1e-8, power=0.5)
    for _ in range(2000):
        x = {name: chance.choice((-1.0, 1.0)) for name in chance.sample(names, 20)}
        y = chance.random() < 0.2
        bins = {"bias": 1.0} | {f"{name} {value}": 1.0 for name, value in x.items()}
        assert own.score(x) == pytest.approx(rivers._raw_dot_one(bins), abs=1e-9)
        own.learn(x, y)
        rivers.learn_one(bins, y)


def test_the_first_step_falls_with_the_power_that_is_asked_for() -> None:
    model = Linear((), 8, {"a": ([], None)}, rate=0.3, before=0.3, power=0.6)
    assert model.learn({"a": 1.0}, y=True) == 0.0
    step = 0.3 / (0.3 + 0.5**2) ** 0.6 * 0.5
    assert model.score({"a": 1.0}) == 2.0 * step  # of the input, and of the bias
    assert model.learn({"a": 1.0}, y=False) == 2.0 * step


def test_bins_and_crosses_at_their_limits_keep_to_their_places() -> None:
    names, edges = ("a", "b", "c"), [float(edge) for edge in range(61)]
    tables: dict[Any, Edges] = dict.fromkeys(names, (edges, edges))
    model = Linear((names, ("a", "b")), 62, tables, 0.3, 0.3, 0.6)
    model.add("country=1")
    for value in (-1.0, 30.5, 99.0):
        alone = Linear((names, ("a", "b")), 62, tables, 0.3, 0.3, 0.6)
        alone.add("country=1")
        x = {name: value + shift for shift, name in enumerate(names)} | {"country=1": 1.0}
        alone.learn(x, y=True)
        model.learn(x, y=True)
        weights, squares = alone.stored()
        assert len(weights) == len(squares) == 1 + 3 + 1 + 2  # the bias, three bins, a category, two crosses
        again = Linear((names, ("a", "b")), 62, tables | {"country=1": ([], None)}, 0.3, 0.3, 0.6)
        again.load(weights, squares)
        assert again.score(x) == alone.score(x) == pytest.approx(7.0 * next(iter(weights.values())))
    assert len(model.stored()[0]) == 1 + 1 + 3 * (3 + 2)


def test_what_is_stored_of_the_linear_model_makes_the_same_again() -> None:
    chance = random.Random(2)
    crosses = (("a", "b"), ("a", "b", "c"))
    tables: dict[Any, Edges] = {name: ([1.0, 2.0], [1.5]) for name in "abcd"}
    one = Linear(crosses, 8, tables, 0.3, 0.3, 0.6)

    def examples(count: int) -> Iterator[Example]:
        for _ in range(count):
            yield (
                {name: chance.uniform(0.0, 3.0) for name in chance.sample("abcde", 4)},
                chance.random() < 0.3,
            )

    for x, y in examples(500):
        one.learn(x, y)
    other = Linear(crosses, 8, tables, 0.3, 0.3, 0.6)
    other.load(*one.stored())
    assert len(one.stored()[0]) > 30  # of bins, of crosses, and the bias
    for x, y in examples(100):
        assert other.score(x) == one.score(x)
        assert other.learn(x, y) == one.learn(x, y)
    assert other.stored() == one.stored()
