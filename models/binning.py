"""Numbers to bins, learned online: a bin only ever splits, and its halves inherit what was learned of it.

A linear model on bins is a sum of step functions, one a feature. Edges that move would take the meaning from
learned weights; edges that are only added keep the function exactly as it was, with finer steps to learn on.
"""

from __future__ import annotations

import itertools
import random
from bisect import bisect_right
from collections.abc import Mapping
from typing import NamedTuple

ROWS = 256  # examples remembered of each class, to place edges by
FIRST_GROWTH = 200  # examples before the first edges; then at every growth by a half
MIN_SIDE = 4.0  # of 2 * ROWS: fewer balanced examples than this on one side are no reason for an edge
MISSING = -1

Row = Mapping[str, float]


class Split(NamedTuple):
    """How the bins of a feature grew: for each new bin the old one that it is a part of."""

    feature: str
    parents: tuple[int, ...]


def is_category(name: str) -> bool:
    """A categorical input (`country=17`) is an indicator and has no bins."""
    return "=" in name


class Binner:
    """Edges of every numeric feature, placed where a class-balanced sample of what was learned is dense.

    Frauds are rare, and the bins that tell them apart lie where they are: both classes count the same.

    Args:
        bins: most bins of a feature.
        seed: of the sampling.
    """

    def __init__(self, bins: int, seed: int) -> None:
        self.bins = bins
        self.edges: dict[str, list[float]] = {}
        self.learned = 0
        self._next_growth = FIRST_GROWTH
        self._rows: tuple[list[Row], list[Row]] = ([], [])
        self._seen = [0, 0]
        self._random = random.Random(seed)

    @property
    def genuine(self) -> list[Row]:
        """Remembered genuine examples."""
        return self._rows[0]

    def bin_of(self, name: str, value: float) -> int:
        """The bin of a value: 0 up to the number of edges."""
        return bisect_right(self.edges[name], value)

    def learn(self, x: Row, y: bool) -> list[Split]:
        """Remember an example; now and then, grow: the splits that happened."""
        self.learned += 1
        self._remember(x, y)
        if self.learned < self._next_growth:
            return []
        self._next_growth += self._next_growth // 2
        return self._grow()

    def _remember(self, x: Row, y: bool) -> None:
        rows = self._rows[y]
        self._seen[y] += 1
        if len(rows) < ROWS:
            rows.append(dict(x))
            return
        # A reservoir that forgets: uniform at first, later the last 16 * ROWS or so of its class.
        if self._random.random() * min(self._seen[y], 16 * ROWS) < ROWS:
            rows[self._random.randrange(ROWS)] = dict(x)

    def _grow(self) -> list[Split]:
        splits = []
        names = {name for rows in self._rows for row in rows for name in row if not is_category(name)}
        for name in sorted(names):
            values = self._balanced(name)
            old = self.edges.get(name, [])
            new = _grown(old, values, self.bins)
            if len(new) > len(old):
                self.edges[name] = new
                lows = [float("-inf"), *new]
                splits.append(Split(name, tuple(bisect_right(old, low) for low in lows)))
        return splits

    def _balanced(self, name: str) -> list[tuple[float, float]]:
        """(value, weight), rising; the weights of each class sum to ROWS."""
        result = []
        for rows in self._rows:
            if rows:
                weight = ROWS / len(rows)
                result += [(row[name], weight) for row in rows if name in row]
        result.sort()
        return result


def _grown(edges: list[float], values: list[tuple[float, float]], bins: int) -> list[float]:
    """The edges with new ones at the medians of the fullest bins."""
    edges = list(edges)
    share = sum(weight for _, weight in values) / bins
    parts = _parts(edges, values)
    while len(edges) + 1 < bins:
        best, heaviest = -1, 2.0 * max(share / 2.0, MIN_SIDE)
        for index, part in enumerate(parts):
            mass = sum(weight for _, weight in part)
            if mass > heaviest and part[0][0] < part[-1][0]:
                best, heaviest = index, mass
        if best < 0:
            break
        edge = _median(parts[best])
        edges.insert(best, edge)
        part = parts[best]
        parts[best : best + 1] = [
            [pair for pair in part if pair[0] < edge],
            [pair for pair in part if pair[0] >= edge],
        ]
    return edges


def _parts(edges: list[float], values: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    parts: list[list[tuple[float, float]]] = [[] for _ in range(len(edges) + 1)]
    for pair in values:
        parts[bisect_right(edges, pair[0])].append(pair)
    return parts


def _median(part: list[tuple[float, float]]) -> float:
    """The border between two different values nearest to half of the mass."""
    half = sum(weight for _, weight in part) / 2.0
    mass, edge, miss = 0.0, part[-1][0], float("inf")
    for (value, weight), (following, _) in itertools.pairwise(part):
        mass += weight
        if value < following and abs(mass - half) < miss:
            # Halfway, unless that is too far for a float, or rounds to the lower value.
            middle = value / 2.0 + following / 2.0
            edge, miss = (middle if middle > value else following), abs(mass - half)
    return edge
