"""Numbers to bins, learned online: a bin only ever splits, and its halves inherit what was learned of it.

A linear model on bins is a sum of step functions, one a feature. Edges that move would take the meaning from
learned weights; edges that are only added keep the function exactly as it was, with finer steps to learn on.

Every feature has many narrow cells, placed by quantiles of a sample with as many frauds as genuine examples
(frauds are rare, and the borders that matter lie where they are), which count frauds and genuine. Bins are
runs of cells, split where these counts tell the classes apart.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from models.features.vector import Example, is_category, named
from models.scoring.sparse_linear import CELL_BLOCK, Counter
from models.scoring.split_search import MIN_SIDE, best_split, likelihood, losses_of
from models.scoring.sums import added

ROWS = 256  # examples remembered of each class, to place cells by
MEMORY = 16  # times ROWS: about as many examples of its class back does the sample reach
CELLS = 96  # of a feature, at most; CELL_BLOCK with those that are split by SHARP
FIRST_FRAUDS = (
    30  # examples of each class before the first bins; then they grow with every half as many more,
)
FIRST_GENUINE = 200
MOST_GROWTH = 20_000  # and at least this often
FIRST_BINS = 4  # early bins are placed by early data: most wait for more
MORE_BINS = 1.5  # at each growth
MIN_GAIN = 4.0  # of an edge, in log-likelihood: less is chance
WORTH = 1.0  # times what they tell now must new bins tell: a move blurs what was learned
SHARP = 16  # cells split at a growth because the classes lie apart in them
MIN_APART = 4.0  # log-likelihood that such a split must promise
TINY = 1e-9  # count of an empty cell
COARSE_SPREAD = 0.001
SPREAD = 0.005  # of the examples: what an edge that halves them is worth though it tells no classes apart


class Move(NamedTuple):
    """New edges of a feature, and what becomes of its bins.

    Attributes:
        parts: for each new bin the old ones that it is made of, with their shares in it.
        splits: the same, with the share of the old bin that went into the new one.
    """

    feature: str
    edges: list[float]
    parts: list[dict[int, float]] | None  # None: the feature had no bins
    splits: list[dict[int, float]]


class Growth(NamedTuple):
    """The moves of a moment: of fine bins, and of the coarse ones that crosses are made of."""

    fine: list[Move]
    coarse: list[Move]


class Cells:
    """Narrow cells of one feature and what was counted in them."""

    def __init__(self) -> None:
        self.edges: list[float] = []
        self.frauds = [0.0]
        self.genuine = [0.0]
        self.fraud_sums = [0.0]
        self.genuine_sums = [0.0]

    def counts(self) -> list[float]:
        """What was counted, as `models.scoring.sparse_linear.Counter` has it: four numbers for each cell."""
        columns = zip(self.genuine, self.genuine_sums, self.frauds, self.fraud_sums, strict=True)
        return [value for cell in columns for value in cell]

    def take(self, counts: list[float]) -> None:
        """What `counts` gives, after more was counted."""
        self.genuine, self.genuine_sums, self.frauds, self.fraud_sums = (counts[at::4] for at in range(4))

    def sharpen(self) -> None:
        """Split cells in which the classes lie apart: the means of their values tell (a score test)."""
        for _ in range(SHARP):
            best, place = 0.0, -1
            for at in range(1, len(self.frauds) - 1):
                gain = self._apart(at)
                if gain > best:
                    best, place = gain, at
            if best < MIN_APART:
                return
            if len(self.frauds) >= CELL_BLOCK:
                losses = losses_of(self.frauds, self.genuine)
                pair = losses.index(min(losses))
                if pair in (place, place - 1) or losses[pair] * 2.0 > best:
                    return
                self._merge(pair)
                place -= pair < place
            low, high = self.edges[place - 1], self.edges[place]
            mean = (
                self.fraud_sums[place] / self.frauds[place] + self.genuine_sums[place] / self.genuine[place]
            ) / 2.0
            quarter = (high - low) / 4.0
            edge = min(max(2.0 * mean - (low + high) / 2.0, low + quarter / 2), high - quarter / 2)
            if not low < edge < high:
                return
            self._split(place, edge, low, high)

    def _apart(self, at: int) -> float:
        frauds, genuine = self.frauds[at], self.genuine[at]
        if frauds < MIN_SIDE or genuine < MIN_SIDE:
            return 0.0
        width = self.edges[at] - self.edges[at - 1]
        apart = (self.fraud_sums[at] / frauds - self.genuine_sums[at] / genuine) / width
        return 6.0 * apart * apart * frauds * genuine / (frauds + genuine)

    def _merge(self, pair: int) -> None:
        del self.edges[pair]
        for counts in (self.frauds, self.genuine, self.fraud_sums, self.genuine_sums):
            counts[pair : pair + 2] = [counts[pair] + counts[pair + 1]]

    def _split(self, at: int, edge: float, low: float, high: float) -> None:
        """Split a cell; each class is shared so that the mean of its values stays."""
        left, right = (low + edge) / 2.0, (edge + high) / 2.0
        self.edges.insert(at, edge)
        for counts, sums in ((self.frauds, self.fraud_sums), (self.genuine, self.genuine_sums)):
            count, total = counts[at], sums[at]
            share = min(max((right - total / count) / (right - left), 0.0), 1.0) if count else 0.5
            counts[at : at + 1] = [count * share, count * (1.0 - share)]
            sums[at : at + 1] = [count * share * left, count * (1.0 - share) * right]

    def move(self, name: str, old: list[float], new: list[float]) -> Move:
        """From old edges to new ones; shares by what was counted."""
        result: list[dict[int, float]] = [{} for _ in range(len(new) + 1)]
        for low, fraud, genuine in zip((-math.inf, *self.edges), self.frauds, self.genuine, strict=True):
            part = result[bisect_right(new, low)]
            at = bisect_right(old, low)
            part[at] = part.get(at, 0.0) + fraud + genuine + TINY
        totals = [0.0] * (len(old) + 1)
        for part in result:
            for at, mass in part.items():
                totals[at] += mass
        return Move(
            name,
            new,
            [{at: mass / added(part.values()) for at, mass in part.items()} for part in result],
            [{at: mass / totals[at] for at, mass in part.items()} for part in result],
        )

    def refine(self, values: list[tuple[float, float]]) -> None:
        """Split the heaviest cells of a weighted sample (value, weight; rising), merge the lightest."""
        parts: list[list[tuple[float, float]]] = [[] for _ in self.frauds]
        for value in values:
            parts[bisect_right(self.edges, value[0])].append(value)
        masses = [_mass(part) for part in parts]
        ripe = [_ripe(part) for part in parts]
        while True:
            at = max(range(len(ripe)), key=ripe.__getitem__)
            if ripe[at] <= 0.0:
                return
            if len(ripe) >= CELLS:
                losses = losses_of(self.frauds, self.genuine)
                pairs = [pair for pair, loss in enumerate(losses) if loss <= MIN_GAIN]
                if not pairs:
                    return
                pair = min(pairs, key=lambda i: masses[i] + masses[i + 1])
                if masses[pair] + masses[pair + 1] > ripe[at] / 2.0:
                    return
                self._merge(pair)
                masses[pair : pair + 2] = [masses[pair] + masses[pair + 1]]
                parts[pair : pair + 2] = [parts[pair] + parts[pair + 1]]
                ripe[pair : pair + 2] = [0.0]  # merged now, not split again before the next time
                at -= pair < at
            edge = _median(parts[at])
            halves = [[item for item in parts[at] if (item[0] < edge) is low] for low in (True, False)]
            share = _mass(halves[0]) / masses[at]
            self.edges.insert(at, edge)
            left, right = (added(value for value, _ in half) / len(half) for half in halves)
            for counts, sums in ((self.frauds, self.fraud_sums), (self.genuine, self.genuine_sums)):
                low, high = counts[at] * share, counts[at] * (1.0 - share)
                counts[at : at + 1] = [low, high]
                sums[at : at + 1] = [low * left, high * right]
            parts[at : at + 1] = halves
            masses[at : at + 1] = [_mass(half) for half in halves]
            ripe[at : at + 1] = [_ripe(half) for half in halves]


def _ripe(part: list[tuple[float, float]]) -> float:
    """The mass of a part that can be split, 0 where all its values are the same."""
    return _mass(part) if part and part[0][0] < part[-1][0] else 0.0


class Binner:
    """Fine and coarse bins of every numeric feature.

    Args:
        bins: most fine bins of a feature.
        coarse: most coarse bins of a feature.
        crossed: the features that have coarse bins.
        seed: of the sampling.
    """

    def __init__(self, bins: int, coarse: int, crossed: frozenset[str], seed: int) -> None:
        self.bins = bins
        self.coarse = coarse
        self.crossed = crossed
        self.learned = 0
        self.edges: dict[str, list[float]] = {}
        self.coarse_edges: dict[str, list[float]] = {}
        self._cells: dict[str, Cells] = {}
        self._counter: Counter | None = None  # what is counted between two growths
        self._growths = 0
        self._next_growth = 0
        self._rows: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
        self._seen = [0, 0]
        self._random = random.Random(seed)

    def __getstate__(self) -> dict[str, Any]:
        self._fold()
        return self.__dict__.copy()

    def _counting(self) -> Counter:
        if self._counter is None:
            cells = self._cells.values()
            self._counter = Counter(
                list(self._cells), [one.edges for one in cells], [one.counts() for one in cells]
            )
        return self._counter

    def _fold(self) -> None:
        """Take what was counted into the cells."""
        if self._counter is not None:
            for cells, counts in zip(self._cells.values(), self._counter.counts(), strict=True):
                cells.take(counts)
            self._counter = None

    def remembered(self) -> list[tuple[dict[str, float], bool]]:
        """Examples of both classes, mixed."""
        examples = [(row, bool(y)) for y, rows in enumerate(self._rows) for row in rows]
        random.Random(self.learned).shuffle(examples)
        return examples

    @property
    def genuine(self) -> list[dict[str, float]]:
        """Remembered genuine examples."""
        return self._rows[0]

    def learn(self, x: Example, y: bool) -> Growth | None:
        """Remember an example; now and then, grow: the splits that happened."""
        self.learned += 1
        self._remember(x, y)
        self._counting().count(x, y)
        if (
            self.learned < self._next_growth
            or len(self._rows[0]) < FIRST_GENUINE
            or self._seen[1] < FIRST_FRAUDS
        ):
            return None
        self._next_growth = self.learned + min(self.learned // 2, MOST_GROWTH)
        self._growths += 1
        return self._grow()

    def _remember(self, x: Example, y: bool) -> None:
        rows = self._rows[y]
        self._seen[y] += 1
        if len(rows) < ROWS:
            rows.append(named(x))
        # A reservoir that forgets: uniform at first, later weighted to the last examples of its class.
        elif self._random.random() * min(self._seen[y], MEMORY * ROWS) < ROWS:
            rows[self._random.randrange(ROWS)] = named(x)

    def _grow(self) -> Growth:
        self._fold()
        growth = Growth([], [])
        fine = min(FIRST_BINS + int(MORE_BINS * self._growths), self.bins)
        coarse = min(fine, self.coarse)
        for name in sorted(
            {name for rows in self._rows for row in rows for name in row if not is_category(name)}
        ):
            cells = self._cells.get(name)
            first = cells is None
            if cells is None:
                cells = self._cells[name] = Cells()
            cells.refine(self._balanced(name))
            cells.sharpen()
            if first:
                counter = Counter([name], [cells.edges], [cells.counts()])
                for y, rows in enumerate(self._rows):
                    for row in rows:
                        counter.count(row, bool(y))
                cells.take(counter.counts()[0])
            for known, most, moves in (
                (self.edges, fine, growth.fine),
                (self.coarse_edges, coarse, growth.coarse),
            ):
                if known is self.coarse_edges and name not in self.crossed:
                    continue
                old = known.get(name)
                new = _bins(cells, most, SPREAD if known is self.edges else COARSE_SPREAD)
                if old is None or _worth(new, cells) > WORTH * _worth(old, cells) + MIN_GAIN:
                    known[name] = new
                    moves.append(Move(name, new, None, []) if old is None else cells.move(name, old, new))
        return growth

    def _balanced(self, name: str) -> list[tuple[float, float]]:
        """(value, weight), rising; each class weighs the same in all."""
        result = []
        for rows in self._rows:
            if rows:
                weight = 1.0 / len(rows)
                result += [(row[name], weight) for row in rows if name in row]
        result.sort()
        return result


def _mass(part: list[tuple[float, float]]) -> float:
    return added(weight for _, weight in part)


def _median(part: list[tuple[float, float]]) -> float:
    """The border between two different values nearest to half of the mass."""
    half = _mass(part) / 2.0
    mass, edge, miss = 0.0, part[-1][0], math.inf
    for (value, weight), (following, _) in pairwise(part):
        mass += weight
        if value < following and abs(mass - half) < miss:
            # Halfway, unless that is too far for a float, or rounds to the lower value.
            middle = value / 2.0 + following / 2.0
            edge, miss = (middle if middle > value else following), abs(mass - half)
    return edge


def _worth(edges: list[float], cells: Cells) -> float:
    """What bins tell of the classes, in log-likelihood."""
    frauds, totals = [0.0] * (len(edges) + 1), [0.0] * (len(edges) + 1)
    for low, fraud, genuine in zip((-math.inf, *cells.edges), cells.frauds, cells.genuine, strict=True):
        at = bisect_right(edges, low)
        frauds[at] += fraud
        totals[at] += fraud + genuine
    whole = likelihood(added(frauds), added(totals))
    return added(likelihood(fraud, total) for fraud, total in zip(frauds, totals, strict=True)) - whole


def _bins(cells: Cells, bins: int, spread: float) -> list[float]:
    """The edges of bins, among those of cells, where they tell the classes apart best."""
    frauds = [0.0, *accumulate(cells.frauds)]
    totals = [a + b for a, b in zip(frauds, [0.0, *accumulate(cells.genuine)], strict=True)]
    borders = [0, len(cells.frauds)]
    splits = [best_split(borders[0], borders[1], frauds, totals, spread)]
    while len(splits) < bins:
        at = max(range(len(splits)), key=lambda index: splits[index].gain)
        split = splits[at]
        if split.gain <= MIN_GAIN:
            break
        low, high = borders[at], borders[at + 1]
        borders.insert(at + 1, split.at)
        splits[at : at + 1] = [
            best_split(low, split.at, frauds, totals, spread),
            best_split(split.at, high, frauds, totals, spread),
        ]
    return [cells.edges[border - 1] for border in borders[1:-1]]
