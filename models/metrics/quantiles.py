"""Quantiles of durations without keeping the durations."""

from __future__ import annotations

import math


class Durations:
    """Quantiles of durations, each within 5 %, from 10 us up. Counts on a logarithmic scale: bounded memory.

    >>> durations = Durations()
    >>> for milliseconds in range(1, 1001):
    ...     durations.add(milliseconds / 1000)
    >>> 0.475 < durations.quantile(0.5) < 0.525
    True
    """

    _LEAST = 1e-5
    _STEP = math.log(1.1)

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0

    def add(self, seconds: float) -> None:
        """Count a duration; a negative one (two clocks) counts as none at all."""
        place = int(math.log(max(seconds, self._LEAST) / self._LEAST) / self._STEP)
        self._counts[place] = self._counts.get(place, 0) + 1
        self.count += 1

    def quantile(self, share: float) -> float:
        """The duration that a share of all does not exceed, seconds; NaN of none."""
        wanted = share * self.count
        seen = 0
        for place, count in sorted(self._counts.items()):
            seen += count
            if seen >= wanted:
                return self._LEAST * math.exp((place + 0.5) * self._STEP)
        return math.nan
