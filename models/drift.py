"""Detectors that speak in signals: what changed, from what to what, and since when.

ADWIN only (Bifet and Gavalda, SIAM Data Mining 2007): on payments, Page-Hinkley, KSWIN and DDM with their
defaults raise false alarms by the dozen. ADWIN takes its values as independent, and those of payments are
not: a stolen card is a burst of frauds, a tested card number a run of small amounts. Fed one by one, a burst
is a change of the mean. So it is fed means over blocks, in units of the deviation that such means have.

ADWIN says that a mean has changed, but drops no more of its window than it must, so the mean it is left with
is still mostly the old one. Where the change began and the means on both sides are therefore estimated here,
from the blocks of its window, at the split that separates them best.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, NamedTuple

import numpy as np
from river.drift import ADWIN

DELTA = 0.0005  # confidence of ADWIN; smaller is quieter
MEMORY = 2048  # last blocks in which the beginning of a change is looked for
LEAST_AFTER = 3  # blocks after a change, for their mean to be called one: fewer, and chance picks the split
SAME = 1e-9  # blocks that differ by less, relatively, are the same but for rounding
DAY = 86400.0
HOUR = 3600.0
LEAST_SCORE = 1e-4  # a fraud scored below is as surprising as one scored so: one fraud must not be an alarm


class Manner(NamedTuple):
    """How a signal is watched.

    Attributes:
        values: of a block, at least, > 0.
        seconds: of event time that a block spans, at least, >= 0.
        first: blocks by which it is learned how much blocks differ, >= 2.
        rising: only a rise is told; a fall is the model learning.
        settle: event time from the first value on that is not looked at, seconds, >= 0: what a model that has
            only begun to learn says changes by learning.
    """

    values: int
    seconds: float
    first: int
    rising: bool = False
    settle: float = 0.0


# Chosen on streams without a change, on which they raise no alarm, and on changed ones: docs/quality.md.
INPUT = Manner(25, 3 * HOUR, first=20)
SCORE = Manner(300, DAY / 2, first=10, settle=14 * DAY)
ERROR = Manner(300, DAY / 2, first=10, rising=True)
FRAUD_LOSS = Manner(3, 0.0, first=20, rising=True)


def fraud_loss(score: float) -> float:
    """How surprised a model was by a fraud: minus the logarithm of its score.

    Unlike "it raised no alert" it does not jump with the threshold, and it tells a fraud that was narrowly
    missed from one that looked like any payment.

    >>> round(fraud_loss(0.5), 2), round(fraud_loss(0.01), 2), fraud_loss(1.0)
    (0.69, 4.61, 0.0)
    """
    return -math.log(max(score, LEAST_SCORE)) if score < 1.0 else 0.0


class DriftFound(NamedTuple):
    """A change of a mean.

    Attributes:
        signal: what is watched.
        before, after: the means before and after the change; `after` rests on the few blocks since.
        since: event time at which it seems to have begun, seconds: that of a block's first value.
        event_time: of the value at which it was found, seconds.
    """

    signal: str
    before: float
    after: float
    since: float
    event_time: float


class _Block(NamedTuple):
    mean: float
    since: float


class Watch:
    """One signal under an ADWIN.

    What came after a change is what the next one is measured against, so one slow change can be found several
    times; while the watch is `quiet` only the first is told. Constant memory: some 200 kB.

    Args:
        signal: its name.
        manner: how it is watched.
        delta: confidence, 0 < delta < 1: the chance of a false alarm on a stream without change.
        quiet: event time after a finding in which no further one is told, seconds, >= 0.

    >>> watch = Watch("amount_log", Manner(values=10, seconds=0.0, first=20))
    >>> values = [i % 7 / 10 for i in range(2000)] + [0.5 + i % 7 / 10 for i in range(500)]
    >>> found = [watch.update(value, event_time=float(i)) for i, value in enumerate(values)]
    >>> [(round(drift.before, 1), round(drift.after, 1), drift.since) for drift in found if drift]
    [(0.3, 0.8, 2000.0)]
    """

    def __init__(self, signal: str, manner: Manner, *, delta: float = DELTA, quiet: float = DAY) -> None:
        self.signal = signal
        self.manner = manner
        self.found = 0  # told or not
        self._delta = delta
        self._quiet = quiet
        self._quiet_until = -math.inf
        self._values, self._seconds = manner.values, manner.seconds
        self.reset()

    def reset(self) -> None:
        """Forget all values: what follows is another signal under the same name."""
        self._blocks: deque[_Block] = deque(maxlen=MEMORY)
        self._detector: Any = None
        self._deviation = 0.0
        self._count = 0
        self._total = 0.0
        self._since = 0.0
        self._settled: float | None = None

    def update(self, value: float, *, event_time: float) -> DriftFound | None:
        """Take a value in.

        Args:
            value: finite.
            event_time: seconds.
        """
        return self.update_many(1, value, since=event_time, event_time=event_time)

    def update_many(self, count: int, total: float, *, since: float, event_time: float) -> DriftFound | None:
        """Take some values in at once.

        Args:
            count: of the values, > 0.
            total: their sum, finite.
            since: event time of the first of them, seconds.
            event_time: of the last, seconds.
        """
        if self._settled is None:
            self._settled = since + self.manner.settle
        if since < self._settled:
            return None
        if not self._count:
            self._since = since
        self._count += count
        self._total += total
        if self._count < self._values or event_time - self._since < self._seconds:
            return None
        block = _Block(self._total / self._count, self._since)
        self._count, self._total = 0, 0.0
        return self._look(block, event_time)

    def _look(self, block: _Block, event_time: float) -> DriftFound | None:
        self._blocks.append(block)
        if self._detector is None:
            self._begin()
            return None
        self._detector.update(block.mean / self._deviation)
        if not self._detector.drift_detected:
            return None
        self.found += 1
        found = self._change(event_time)
        self._detector = self._fed()
        if event_time < self._quiet_until or (self.manner.rising and found.after <= found.before):
            return None
        self._quiet_until = event_time + self._quiet
        return found

    def _begin(self) -> None:
        """Learn from the first blocks how much blocks differ."""
        if len(self._blocks) < self.manner.first:
            return
        means = np.array([block.mean for block in self._blocks])
        deviation = float(means.std(ddof=1))
        if deviation > SAME * max(1.0, abs(float(means[0]))):
            self._deviation = deviation
            self._detector = self._fed()

    def _fed(self) -> Any:
        """A detector that knows the present blocks. It looks at every block, not at every 32nd."""
        detector: Any = ADWIN(delta=self._delta, clock=1)  # type: ignore[no-untyped-call] # River's has no types
        for block in self._blocks:
            detector.update(block.mean / self._deviation)
        return detector

    def _change(self, event_time: float) -> DriftFound:
        """What changed; the blocks before it are forgotten."""
        blocks = list(self._blocks)
        means = np.array([block.mean for block in blocks])
        total, size = float(means.sum()), means.size
        after = np.arange(LEAST_AFTER, size - LEAST_AFTER + 1)
        tails = np.cumsum(means[::-1])[after - 1]
        gap = tails / after - (total - tails) / (size - after)
        # the split with the greatest likelihood ratio for a step in the mean
        best = int(np.argmax(gap * gap * (after * ((size - after) / size))))
        kept, tail = int(after[best]), float(tails[best])
        self._blocks = deque(blocks[-kept:], maxlen=MEMORY)
        return DriftFound(
            self.signal,
            before=(total - tail) / (size - kept),
            after=tail / kept,
            since=blocks[-kept].since,
            event_time=event_time,
        )
