"""Sums that every Python rounds alike."""

from __future__ import annotations

from collections.abc import Iterable


def added(values: Iterable[float]) -> float:
    """The sum, added one by one in order: the built-in `sum` of floats rounds otherwise from Python 3.12 on.

    >>> added([0.1] * 10)
    0.9999999999999999
    """
    total = 0.0
    for value in values:
        total += value
    return total
