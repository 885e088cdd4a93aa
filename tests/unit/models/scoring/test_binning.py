"""Bins hold the borders that tell frauds from the genuine, and stay few."""

from __future__ import annotations

import random

from models.scoring.binning import FIRST_FRAUDS, FIRST_GENUINE, Binner


def test_bins_hold_the_borders_that_tell_classes_apart() -> None:
    binner = Binner(20, 8, frozenset({"amount"}), seed=1)
    chance = random.Random(1)
    for _ in range(20_000):
        y = chance.random() < 0.1
        binner.learn({"amount": chance.uniform(100.0, 200.0) if y else chance.uniform(0.0, 150.0)}, y)
    for edges in (binner.edges["amount"], binner.coarse_edges["amount"]):
        assert min(abs(edge - 100.0) for edge in edges) < 4.0
        assert min(abs(edge - 150.0) for edge in edges) < 4.0
        assert edges == sorted(set(edges))


def test_border_far_in_the_tail_is_found_sharply() -> None:
    # A border lies anywhere in a cell: without looking into cells, misses of about 1 are usual.
    misses = []
    for seed in (1, 2, 3):
        binner = Binner(20, 8, frozenset(), seed=1)
        chance = random.Random(seed)
        for _ in range(60_000):
            amount = chance.expovariate(0.05)
            y = amount > 80.0
            if not y and chance.random() < 0.1:
                amount, y = chance.uniform(30.0, 300.0), True
            binner.learn({"amount": amount}, y)
        misses.append(min(abs(edge - 80.0) for edge in binner.edges["amount"]))
    assert sum(misses) / 3 < 0.7


def test_bins_stay_few_and_rows_forget() -> None:
    binner = Binner(10, 4, frozenset({"a"}), seed=1)
    for number in range(30_000):
        binner.learn({"a": float(number)}, number % 3 == 0)
    assert len(binner.edges["a"]) < 10
    assert len(binner.coarse_edges["a"]) < 4
    assert min(row["a"] for row in binner.genuine) > 500.0


def test_constant_feature_has_no_edge() -> None:
    binner = Binner(10, 4, frozenset(), seed=1)
    for number in range(2 * (FIRST_FRAUDS + FIRST_GENUINE)):
        binner.learn({"a": 3.0}, number % 2 == 0)
    assert binner.edges == {"a": []}
