"""The arithmetic of the linear model: features to indicators of bins, categories, crosses; and its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int to Python; compiled, it is a number of the machine

BITS: Final = 6  # of a bin's number
SHIFT: Final = 18  # three bins
WIDTH: Final = 1 << SHIFT  # of the numbers of one cross: of at most three features
BIAS: Final = (
    -1
)  # an input that is always there, in place of River's intercept: its rate falls as the others'

Table = tuple[int, list[float], list[float] | None]
"""Of a feature: where its inputs begin, its edges, and those of its coarse bins. Plain, to unpack fast."""


def place_of(edges: list[float], value: float) -> i64:
    """How many edges (rising) are not above a value: `bisect_right`, which is slower than this compiled."""
    low: i64 = 0
    high: i64 = len(edges)
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
    bins: dict[str, i64] = {}
    place: i64
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


def count(cells: dict[str, Any], x: dict[str, float], y: bool) -> None:
    """Count the values of an example in the cells of its features (`models.binning._Cells`)."""
    for name, value in x.items():
        found = cells.get(name)
        if found is not None:
            edges: list[float] = found.edges
            counts: list[float]
            sums: list[float]
            counts, sums = (found.frauds, found.fraud_sums) if y else (found.genuine, found.genuine_sums)
            place = place_of(edges, value)
            counts[place] += 1.0
            sums[place] += value


def step(
    weights: Any,
    inputs: dict[int, float],
    slope: float,
    squares: Any,
    rate: float,
    before: float,
    power: float,
) -> None:
    """A step of AdaGrad of any power against a loss; `weights` and `squares` are changed in place.

    Args:
        weights: of inputs, 0 where there is none yet.
        inputs: those that are 1.
        slope: of the loss, in the log-odds: its gradient by each of them.
        squares: of inputs; the sum of squared gradients.
        rate: of the first step, times `before` ** -power.
        before: what the sum begins with, > 0.
        power: of the sum, in (0, 1).
    """
    square = slope * slope
    get = weights.get
    for key in inputs:
        total: float = squares[key] + square
        squares[key] = total
        weight: float = get(key, 0.0)
        weights[key] = weight - rate / (total + before) ** power * slope
