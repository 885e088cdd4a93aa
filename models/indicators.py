"""From features to the inputs of the linear model: an indicator for each bin, category and cross."""

from __future__ import annotations

from typing import Any, Final

BITS: Final = 6  # of a bin's number
SHIFT: Final = 18  # three bins
WIDTH: Final = 1 << SHIFT  # of the numbers of one cross: of at most three features
BIAS: Final = (
    -1
)  # an input that is always there, in place of River's intercept: its rate falls as the others'

Table = tuple[int, list[float], list[float] | None]
"""Of a feature: where its inputs begin, its edges, and those of its coarse bins. Plain, to unpack fast."""


def place_of(edges: list[float], value: float) -> int:
    """How many of the edges (rising) are not above a value, as `bisect_right`: compiled, it is twice as fast."""
    low, high = 0, len(edges)
    while low < high:
        middle = (low + high) >> 1
        if value < edges[middle]:
            high = middle
        else:
            low = middle + 1
    return low


def indicators(
    x: dict[Any, float], tables: dict[str, Table], crosses: tuple[tuple[str, ...], ...]
) -> dict[int, float]:
    """The numbers of the inputs that are 1; all others are 0.

    Args:
        x: names and values of features; those without a table are left out.
        tables: of features, by name; the inputs of crosses come before all of theirs.
        crosses: names of two or three features each; the bin of a feature that is missing is 0.
    """
    inputs = {BIAS: 1.0}
    bins: dict[str, int] = {}
    for name, value in x.items():
        table = tables.get(name)
        if table is not None:
            base, edges, coarse = table
            inputs[base + place_of(edges, value)] = 1.0
            if coarse is not None:
                bins[name] = place_of(coarse, value) + 1
    base = 0
    for cross in crosses:
        place = 0
        for name in cross:
            place = place << BITS | bins.get(name, 0)
        if place:
            inputs[base + place] = 1.0
        base += WIDTH
    return inputs
