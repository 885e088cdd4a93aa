"""The arithmetic of the linear model, in plain numbers: bins, weights, steps, and counts of values.

These classes live between two growths of the bins: they are made of what a model stores, and give it back.
None of their public methods takes a `vec`: compiled, it would never be freed where plain code called them.
"""

from __future__ import annotations

import math
from typing import Any, Final

from librt.vecs import append, extend, vec
from mypy_extensions import i64  # an int to Python; compiled, it is a number of the machine

from models.features.vector import Example, Layout, Row

SHIFT: Final = 18  # of the number of a feature in a key: room for the places of three bins
BIAS: Final = -1  # an input that is always 1, in place of an intercept: its rate falls as the others'
BLOCK: Final = 64  # numbers kept for the bins of a feature
CELL_BLOCK: Final = 128  # and for its cells
BEYOND: Final = 700.0  # no slope is left, and `exp` would overflow
NONE: Final = -1  # in place of the number of a feature that is not known

Edges = tuple[list[float], list[float] | None]
"""Of a feature: its edges, rising, and those of its coarse bins."""


def _place_of(edges: vec[float], begin: i64, size: i64, value: float) -> i64:
    """How many of `size` edges (rising) from `begin` on are not above a value."""
    low = begin
    high = begin + size
    while low < high:
        middle = (low + high) >> 1
        if value < edges[middle]:
            high = middle
        else:
            low = middle + 1
    return low - begin


def _put(numbers: list[float], into: vec[float], at: i64) -> None:
    """Write numbers side by side, from a place on."""
    for number in numbers:
        into[at] = number
        at += 1


def slope_of(raw: float, y: bool) -> float:
    """The gradient of the log loss of raw log-odds: the probability of fraud less 1 or 0."""
    z = raw if y else -raw
    if z > BEYOND:
        return 0.0
    slope = 1.0 / (math.exp(z) + 1.0)
    return -slope if y else slope


class Numbers:
    """Features by number.

    Args:
        names: of the features, in the order of their numbers.
    """

    def __init__(self, names: list[Any]) -> None:
        self._of: dict[Any, int] = {name: number for number, name in enumerate(names)}
        self._layout: Layout | None = None  # the one that the next two are of
        self._places = vec[i64]()
        self._groups = vec[i64]()

    def add(self, name: Any) -> None:
        """Give a new feature the next number."""
        self._of[name] = len(self._of)
        self._layout = None

    def known(self, x: Example) -> tuple[vec[i64], vec[float]]:
        """The numbers of the features of an example that have one, in its order, and their values."""
        found = vec[i64](capacity=BLOCK)
        given = vec[float](capacity=BLOCK)
        number: i64
        if not isinstance(x, Row):
            for name, value in x.items():
                number = self._of.get(name, NONE)
                if number != NONE:
                    found, given = append(found, number), append(given, value)
            return found, given
        if x.layout is not self._layout:
            self._fit(x.layout)
        values = x.values
        at: i64 = 0
        for number in self._places:
            value = values[at]
            at += 1
            if number != NONE and value == value:  # noqa: PLR0124 - only NaN differs from itself
                found, given = append(found, number), append(given, value)
        begin: i64 = 0
        while at < len(values):
            value = values[at]
            at += 1
            if value == value:  # noqa: PLR0124 - the same
                group: i64 = int(value)
                number = self._groups[begin + group]
                if number != NONE:
                    found, given = append(found, number), append(given, 1.0)
            begin += x.layout.groups
        return found, given

    def _fit(self, layout: Layout) -> None:
        self._layout = layout
        self._places = vec[i64]([self._of.get(name, NONE) for name in layout.names])
        self._groups = vec[i64](
            [
                self._of.get(layout.group_name(field, group), NONE)
                for field in layout.fields
                for group in range(layout.groups)
            ]
        )


class Linear:
    """Indicators of bins, of categories and of crosses of coarse bins; each has a weight.

    Weights lie side by side: the bias, then those of every cross, then BLOCK for each feature.

    Args:
        crosses: names of two or three features each; the coarse bin of one that is missing is 0.
        coarse: most coarse bins of a feature.
        tables: the edges of features, by name, in the order of their numbers.
        rate: of the first step, times `before` ** -power.
        before: what the sum of squares begins with, > 0.
        power: of that sum, in (0, 1); a half is AdaGrad.
    """

    def __init__(
        self,
        crosses: tuple[tuple[str, ...], ...],
        coarse: int,
        tables: dict[Any, Edges],
        rate: float,
        before: float,
        power: float,
    ) -> None:
        self._rate = rate
        self._before = before
        self._power = power
        self.radix = coarse + 1
        self._crosses = crosses
        self._names = list(tables)
        self._numbers = Numbers(self._names)
        crossed = sorted({name for cross in crosses for name in cross})
        self._sizes = vec[i64]([len(edges) for edges, _ in tables.values()])
        self._edges = vec[float]([0.0] * (BLOCK * len(tables)))
        self._crossed = vec[i64]([crossed.index(name) if name in crossed else NONE for name in tables])
        self._coarse_sizes = vec[i64]([NONE] * len(crossed))
        self._coarse_edges = vec[float]([0.0] * (BLOCK * len(crossed)))
        self._cross_of = vec[i64]([NONE] * (len(crosses) * 3))
        self._cross_starts = vec[i64]([0] * len(crosses))
        begin: i64 = BLOCK
        at: i64
        number: i64 = 0
        for cross in crosses:
            self._cross_starts[number] = begin
            at = number * 3
            for name in cross:
                self._cross_of[at] = crossed.index(name)
                at += 1
            begin += BLOCK * -(-(self.radix ** len(cross)) // BLOCK)
            number += 1
        self._first = begin
        size = begin + BLOCK * len(tables)
        self._weights = vec[float]([0.0] * size)
        self._squares = vec[float]([0.0] * size)
        number = 0
        for edges, bins in tables.values():
            _put(edges, self._edges, number * BLOCK)
            if bins is not None:
                place = self._crossed[number]
                self._coarse_sizes[place] = len(bins)
                _put(bins, self._coarse_edges, place * BLOCK)
            number += 1

    def add(self, name: Any) -> None:
        """Know a new category: a feature without edges."""
        self._names.append(name)
        self._numbers.add(name)
        self._sizes = append(self._sizes, 0)
        self._crossed = append(self._crossed, NONE)
        nothing = [0.0] * BLOCK
        self._edges = extend(self._edges, nothing)
        self._weights = extend(self._weights, nothing)
        self._squares = extend(self._squares, nothing)

    def _inputs(self, x: Example) -> vec[i64]:
        """The places of the inputs that are 1; all others are 0, as those of unknown features."""
        found = vec[i64](capacity=2 * BLOCK)
        found = append(found, 0)
        bins = vec[i64]([0] * len(self._coarse_sizes))
        numbers, values = self._numbers.known(x)
        at: i64 = 0
        for number in numbers:
            value = values[at]
            at += 1
            begin = number * BLOCK
            found = append(
                found, self._first + begin + _place_of(self._edges, begin, self._sizes[number], value)
            )
            crossed = self._crossed[number]
            if crossed != NONE and self._coarse_sizes[crossed] != NONE:
                begin = crossed * BLOCK
                bins[crossed] = _place_of(self._coarse_edges, begin, self._coarse_sizes[crossed], value) + 1
        at = 0
        radix: i64 = self.radix
        for start in self._cross_starts:
            place: i64 = 0
            for _ in range(3):
                crossed = self._cross_of[at]
                at += 1
                if crossed != NONE:
                    place = place * radix + bins[crossed]
            if place:
                found = append(found, start + place)
        return found

    def _raw(self, inputs: vec[i64]) -> float:
        weights = self._weights
        total = 0.0
        for at in inputs:
            total += weights[at]
        return total

    def score(self, x: Example) -> float:
        """The sum of the weights of the inputs that are 1: raw log-odds."""
        return self._raw(self._inputs(x))

    def learn(self, x: Example, y: bool) -> float:
        """A step of AdaGrad of any power against the log loss; the score before it."""
        inputs = self._inputs(x)
        raw = self._raw(inputs)
        slope = slope_of(raw, y)
        weights, squares = self._weights, self._squares
        rate, before, power = self._rate, self._before, self._power
        square = slope * slope
        for at in inputs:
            total = squares[at] + square
            squares[at] = total
            weights[at] -= rate / math.pow(total + before, power) * slope
        return raw

    def shares(self, x: Example) -> tuple[float, dict[Any, float]]:
        """The score, and what each feature has in it, a cross shared evenly; what is left is `bias`."""
        inputs = self._inputs(x)
        found: dict[Any, float] = {}
        crosses: i64 = len(self._crosses)
        for at in inputs:
            if at:
                number: i64 = self._key(at) >> SHIFT
                owners = self._crosses[number] if number < crosses else (self._names[number - crosses],)
                share = self._weights[at] / len(owners)
                for name in owners:
                    found[name] = found.get(name, 0.0) + share
        return self._raw(inputs), found

    @property
    def bias(self) -> float:
        """The weight of the input that is always 1."""
        return self._weights[0]

    def _key(self, at: i64) -> int:
        """What a place is called outside: number of the cross or feature, and the place in it."""
        if at == 0:
            return BIAS
        crosses = len(self._cross_starts)
        if at >= self._first:
            place = at - self._first
            return (crosses + place // BLOCK) << SHIFT | place % BLOCK
        number: i64 = crosses - 1
        while self._cross_starts[number] > at:
            number -= 1
        return number << SHIFT | at - self._cross_starts[number]

    def _at(self, key: int) -> i64:
        if key == BIAS:
            return 0
        number: i64 = key >> SHIFT
        place: i64 = key & (1 << SHIFT) - 1
        crosses = len(self._cross_starts)
        if number >= crosses:
            return self._first + (number - crosses) * BLOCK + place
        return self._cross_starts[number] + place

    def stored(self) -> tuple[dict[int, float], dict[int, float]]:
        """Weights and sums of squared slopes of every input that was ever 1, by key, rising."""
        weights: dict[int, float] = {}
        squares: dict[int, float] = {}
        at: i64 = 0
        for weight in self._weights:
            square = self._squares[at]
            if weight != 0.0 or square != 0.0:
                key = self._key(at)
                weights[key] = weight
                squares[key] = square
            at += 1
        return weights, squares

    def load(self, weights: dict[int, float], squares: dict[int, float]) -> None:
        """Take what `stored` gave."""
        for key, weight in weights.items():
            self._weights[self._at(key)] = weight
        for key, square in squares.items():
            self._squares[self._at(key)] = square


class Counter:
    """Counts and sums of the values of features in narrow cells, of frauds and of genuine examples apart.

    Args:
        names: of the features.
        edges: of the cells of each, rising, fewer than CELL_BLOCK.
        counts: genuine count, genuine sum, fraud count, fraud sum of each cell of each feature.
    """

    def __init__(self, names: list[Any], edges: list[list[float]], counts: list[list[float]]) -> None:
        self._numbers = Numbers(list(names))
        self._sizes = vec[i64]([len(each) for each in edges])
        self._edges = vec[float]([0.0] * (CELL_BLOCK * len(names)))
        self._counts = vec[float]([0.0] * (4 * CELL_BLOCK * len(names)))
        number: i64 = 0
        for each in edges:
            _put(each, self._edges, number * CELL_BLOCK)
            _put(counts[number], self._counts, number * 4 * CELL_BLOCK)
            number += 1

    def count(self, x: Example, y: bool) -> None:
        """Count the values of an example."""
        numbers, values = self._numbers.known(x)
        counts = self._counts
        place: i64 = 0
        for number in numbers:
            value = values[place]
            place += 1
            begin = number * CELL_BLOCK
            at = 4 * (begin + _place_of(self._edges, begin, self._sizes[number], value)) + (2 if y else 0)
            counts[at] += 1.0
            counts[at + 1] += value

    def counts(self) -> list[list[float]]:
        """What was counted, as it was given."""
        result: list[list[float]] = []
        begin: i64 = 0
        at: i64
        for size in self._sizes:
            found: list[float] = []
            at = begin
            while at < begin + 4 * (size + 1):
                found.append(self._counts[at])
                at += 1
            result.append(found)
            begin += 4 * CELL_BLOCK
        return result
