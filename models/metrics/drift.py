"""Detectors that speak in signals: what changed, from what to what, and since when.

ADWIN (Bifet and Gavalda, SIAM Data Mining 2007): on payments, Page-Hinkley, KSWIN and DDM with their
defaults raise false alarms by the dozen. ADWIN takes its values as independent, and those of payments are
not: a stolen card is a burst of frauds, a tested card number a run of small amounts. Fed one by one, a burst
is a change of the mean. So it is fed means over blocks, in units of the deviation that such means have.

Frauds are few, and ADWIN, whose bound holds for any distribution, asks for more of them than weeks have.
Means over blocks of them are nearly normal: Student's t between the blocks before and after the best split
tells the same in a fraction of the time.

ADWIN says that a mean has changed, but drops no more of its window than it must, so the mean it is left with
is still mostly the old one. Where the change began and the means on both sides are therefore estimated here,
from the blocks of its window, at the split that separates them best.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

DELTA = 0.0005  # confidence of ADWIN; smaller is quieter
MEMORY = 2048  # last blocks in which the beginning of a change is looked for
LEAST_AFTER = 3  # blocks after a change, for their mean to be called one: fewer, and chance picks the split
LEAST_STUDENT = (6, 4)  # the same of Student's t, before and after: it is told by no more than their spread
SAME = 1e-9  # blocks that differ by less, relatively, are the same but for rounding
DAY = 86400.0
HOUR = 3600.0
LEAST_SCORE = 0.01  # a fraud scored below is as surprising as one scored so: a few must not be an alarm


class Manner(NamedTuple):
    """How a signal is watched.

    Attributes:
        values: of a block, at least, > 0.
        seconds: of event time that a block spans, at least, >= 0.
        first: blocks by which it is learned how much blocks differ, >= 2.
        rising: only a rise is told; a fall is the model learning.
        settle: event time from the first value on that is not looked at, seconds, >= 0: what a model that has
            only begun to learn says changes by learning.
        student: Student's t from which on a change is told, > 0; None: ADWIN tells.
    """

    values: int
    seconds: float
    first: int
    rising: bool = False
    settle: float = 0.0
    student: float | None = None


# Chosen on streams without a change, on which they raise no alarm, and on changed ones: docs/quality.md.
INPUT = Manner(25, 3 * HOUR, first=20)
SCORE = Manner(300, DAY / 2, first=10, settle=14 * DAY)
ERROR = Manner(300, DAY / 2, first=10, rising=True)
FRAUD_LOSS = Manner(10, 0.0, first=12, rising=True, student=5.0)


def fraud_loss(score: float) -> float:
    """How surprised a model was by a fraud: minus the logarithm of its score.

    Unlike "it raised no alert" it does not jump with the threshold, and it tells a fraud that was narrowly
    missed from one that looked like any payment.

    >>> round(fraud_loss(0.5), 2), round(fraud_loss(0.01), 2), fraud_loss(1.0)
    (0.69, 4.61, 0.0)
    >>> fraud_loss(0.0001) == fraud_loss(0.01)
    True
    """
    return -math.log(max(score, LEAST_SCORE)) if score < 1.0 else 0.0


class DriftFound(NamedTuple):
    """A change of a mean.

    Attributes:
        signal: what is watched.
        before, after: the means before and after the change; `after` rests on the few blocks since.
        since: event time at which it seems to have begun, seconds: that of a block's first value.
        event_time: of the value at which it was found, seconds.
        detector: `adwin` or `student`.
    """

    signal: str
    before: float
    after: float
    since: float
    event_time: float
    detector: str


class _Block(NamedTuple):
    mean: float
    since: float


class _Splits(NamedTuple):
    """Every split of the blocks: how many lie after it, their sum, and the step between both sides.

    Attributes:
        total: sum of all means.
        step: difference of the means of both sides, times the root of their harmonic size: its square is what
            the split takes from `whole`.
        whole: sum of squares about the mean of all.
    """

    after: NDArray[np.int64]
    tails: NDArray[np.float64]
    total: float
    step: NDArray[np.float64]
    whole: float


class DriftWatch:
    """One signal under a detector.

    What came after a change is what the next one is measured against, so one slow change can be found several
    times; while the watch is `quiet` only the first is told. Constant memory: some 200 kB.

    Args:
        signal: its name.
        manner: how it is watched.
        delta: confidence, 0 < delta < 1: the chance of a false alarm on a stream without change.
        quiet: event time after a finding in which no further one is told, seconds, >= 0.

    >>> watch = DriftWatch("amount_log", Manner(values=10, seconds=0.0, first=20))
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
        found = (
            self._by_adwin(block, event_time) if self.manner.student is None else self._by_student(event_time)
        )
        if found is None:
            return None
        self.found += 1
        if event_time < self._quiet_until or (self.manner.rising and found.after <= found.before):
            return None
        self._quiet_until = event_time + self._quiet
        return found

    def _by_adwin(self, block: _Block, event_time: float) -> DriftFound | None:
        if self._detector is None:
            self._begin()
            return None
        self._detector.update(block.mean / self._deviation)
        if not self._detector.drift_detected:
            return None
        splits = self._splits(LEAST_AFTER, LEAST_AFTER)
        # the split with the greatest likelihood ratio for a step in the mean
        found = self._change(splits, int(np.argmax(np.abs(splits.step))), event_time)
        self._detector = self._fed()
        return found

    def _by_student(self, event_time: float) -> DriftFound | None:
        least_before, least_after = LEAST_STUDENT
        if len(self._blocks) < max(self.manner.first, least_before + least_after):
            return None
        splits = self._splits(least_before, least_after)
        size = len(self._blocks)
        within = np.sqrt(np.maximum(splits.whole - splits.step * splits.step, 0.0) / (size - 2))
        t = splits.step if self.manner.rising else np.abs(splits.step)
        t = np.divide(t, within, out=np.zeros_like(t), where=within > SAME)
        best = int(np.argmax(t))
        if self.manner.student is None or t[best] < self.manner.student:
            return None
        return self._change(splits, best, event_time)

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
        from river.drift import ADWIN  # noqa: PLC0415 - takes a second to import, and few processes come so far

        detector: Any = ADWIN(delta=self._delta, clock=1)  # type: ignore[no-untyped-call] # River's has no types
        for block in self._blocks:
            detector.update(block.mean / self._deviation)
        return detector

    def _splits(self, least_before: int, least_after: int) -> _Splits:
        means = np.array([block.mean for block in self._blocks])
        total, size = float(means.sum()), means.size
        after = np.arange(least_after, size - least_before + 1)
        tails: NDArray[np.float64] = np.cumsum(means[::-1])[after - 1]
        before = size - after
        gap = tails / after - (total - tails) / before
        whole = float(np.square(means - total / size).sum())
        return _Splits(after, tails, total, gap * np.sqrt(after * (before / size)), whole)

    def _change(self, splits: _Splits, best: int, event_time: float) -> DriftFound:
        """What changed; the blocks before it are forgotten."""
        blocks = list(self._blocks)
        kept, tail = int(splits.after[best]), float(splits.tails[best])
        self._blocks = deque(blocks[-kept:], maxlen=MEMORY)
        return DriftFound(
            self.signal,
            before=(splits.total - tail) / (len(blocks) - kept),
            after=tail / kept,
            since=blocks[-kept].since,
            event_time=event_time,
            detector="adwin" if self.manner.student is None else "student",
        )
