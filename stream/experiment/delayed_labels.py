"""Payments and labels as a learner meets them: a label once it was known, an assumed label once it counts.

    payments ---+--> a payment, then the labels that came before it, then the assumed labels that fall due
    with it labels -----+--> a label when it became known

The rules are those of `stream.learning` and `stream.maturity`, over one stream in order of event time. Pure.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from stream.experiment.engine import REMEMBERED
from stream.history.event_order import Placed
from stream.learning import ASSUMED_GENUINE, NOTHING_KNOWN
from stream.messages import Label, Transaction

UNKNOWN = -1
LEAST_REMEMBERED = (
    2 * REMEMBERED
)  # as many ids as the engine may know: it finds no duplicate that is not found here


class _PaymentLabel(NamedTuple):
    """The latest knowledge of a payment: `verdict` is 1 for fraud, 0 for genuine."""

    row: int
    verdict: int
    known_at: float


class Correction(NamedTuple):
    """What turned out to be otherwise than was first known."""

    is_fraud: bool
    known_at: float


class DelayedLabelCounts(msgspec.Struct, kw_only=True):
    """What became of payments and labels.

    Attributes:
        payments: given; `duplicates` (of an id that had come) and `outside` (of the time limits) were not.
        labels: read, the assumed ones in a learner's log (`logged_assumed`) included.
        told: labels that were the first of their payment.
        silent: payments that nobody reported until they were assumed genuine.
        duplicate_labels: labels that said what was known.
        superseded: labels that a later knowledge had overtaken.
        late_frauds: reported when they had been assumed genuine; `corrections`: all labels that contradict
            the first.
        unknown: labels whose payment is not in the range, or came too long after them.
    """

    payments: int = 0
    outside: int = 0
    duplicates: int = 0
    first_duplicate: str = ""
    labels: int = 0
    logged_assumed: int = 0
    told: int = 0
    silent: int = 0
    duplicate_labels: int = 0
    superseded: int = 0
    corrections: int = 0
    late_frauds: int = 0
    unknown: int = 0


class DelayedLabels:
    """One pass over payments and labels.

    Memory: some 300 bytes and its id for each payment of the last `remembered` seconds.

    Args:
        maturity: seconds of event time after which a payment is assumed genuine, > 0.
        label_wait: seconds of event time that a label waits for its payment, > 0.
        remembered: seconds of event time that labels and duplicates still find a payment, > 0.
        start: payments from this time on, seconds; the others are left out.
        end: payments before this time; those after it only tell how late it is.

    Attributes:
        corrected: by row (the place of a payment among those given), what is known of it in the end.
    """

    def __init__(
        self,
        *,
        maturity: float,
        label_wait: float,
        remembered: float,
        start: float = float("-inf"),
        end: float = float("inf"),
    ) -> None:
        self._maturity = maturity
        self._label_wait = label_wait
        self._remembered = remembered
        self._start = start
        self._end = end
        self.counts = DelayedLabelCounts()
        self.corrected: dict[int, Correction] = {}
        self._clock = float("-inf")
        self._known: dict[str, _PaymentLabel] = {}
        self._held: deque[tuple[float, str]] = deque()
        self._due: list[tuple[float, str]] = []
        self._pending: dict[str, Label] = {}

    def items(
        self, payments: Iterable[Placed[Transaction]], labels: Iterable[Placed[Label]]
    ) -> Iterator[Transaction | Label]:
        """Payments and labels in the order in which they are known, each label of a payment after it.

        Args:
            payments: in order of event time.
            labels: in order of `known_at`.
        """
        coming = iter(labels)
        label = next(coming, None)
        for time, _, _, payment in payments:
            while label is not None and label.time <= time:
                yield from self._label(label.item, now=time)
                label = next(coming, None)
            if time < self._start:
                self.counts.outside += 1
                continue
            if time >= self._end:
                self.counts.outside += 1
            else:
                yield from self._payment(time, payment)
            self._clock = max(time, self._clock)
            yield from self._mature()
            self._forget()
            if self._clock >= self._end + self._maturity:
                break  # the horizon has passed for every payment
        while label is not None:
            yield from self._label(label.item, now=float("inf"))
            label = next(coming, None)
        self.counts.unknown += len(self._pending)
        self._pending.clear()

    def _payment(self, time: float, payment: Transaction) -> Iterator[Transaction | Label]:
        name = payment.transaction_id
        if name in self._known:
            self.counts.duplicates += 1
            self.counts.first_duplicate = self.counts.first_duplicate or name
            return
        self._known[name] = _PaymentLabel(self.counts.payments, UNKNOWN, NOTHING_KNOWN)
        self._held.append((time, name))
        heapq.heappush(self._due, (time + self._maturity, name))
        self.counts.payments += 1
        yield payment
        early = self._pending.pop(name, None)
        if early is not None:
            yield from self._resolve(early, self._known[name])

    def _label(self, label: Label, *, now: float) -> Iterator[Label]:
        self.counts.labels += 1
        if label.source == ASSUMED_GENUINE:
            self.counts.logged_assumed += 1  # counted anew: for every payment, and by the horizon asked for
            return
        known = self._known.get(label.transaction_id)
        if known is not None:
            yield from self._resolve(label, known)
            return
        if label.known_at.timestamp() < now - self._label_wait:
            self.counts.unknown += 1
            return
        pending = self._pending.pop(label.transaction_id, None)
        if pending is not None:
            self.counts.superseded += 1
        newest = pending if pending is not None and pending.known_at > label.known_at else label
        self._pending[label.transaction_id] = newest

    def _resolve(self, label: Label, known: _PaymentLabel) -> Iterator[Label]:
        verdict, known_at = int(label.is_fraud), label.known_at.timestamp()
        name = label.transaction_id
        if verdict == known.verdict:
            self.counts.duplicate_labels += 1
            self._known[name] = known._replace(known_at=max(known_at, known.known_at))
            return
        if known.verdict != UNKNOWN and known_at < known.known_at:
            self.counts.superseded += 1
            return
        self._known[name] = _PaymentLabel(known.row, verdict, known_at)
        if known.verdict == UNKNOWN:
            self.counts.told += 1
            yield label
            return
        self.counts.corrections += 1
        self.counts.late_frauds += known.known_at == NOTHING_KNOWN
        self.corrected[known.row] = Correction(label.is_fraud, known_at)

    def _mature(self) -> Iterator[Label]:
        while self._due and self._due[0][0] <= self._clock:
            due, name = heapq.heappop(self._due)
            known = self._known.get(name)
            if known is not None and known.verdict == UNKNOWN:
                self._known[name] = known._replace(verdict=0)
                self.counts.silent += 1
                when = datetime.fromtimestamp(due, UTC)
                yield Label(transaction_id=name, is_fraud=False, known_at=when, source=ASSUMED_GENUINE)

    def _forget(self) -> None:
        old = self._clock - self._remembered
        while self._held and self._held[0][0] < old and len(self._held) > LEAST_REMEMBERED:
            del self._known[self._held.popleft()[1]]
        while self._pending:
            name, label = next(iter(self._pending.items()))
            if label.known_at.timestamp() >= self._clock - self._label_wait:
                break
            del self._pending[name]
            self.counts.unknown += 1
