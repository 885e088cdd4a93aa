"""How labels come: late, some never, some wrong at first. What nobody reports has no label."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import msgspec
import numpy as np

from producers.simulator.habits import DAY

_HOUR = 3600.0


class Delay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long until it is known: log-normal.

    Attributes:
        median: seconds, > 0.
        spread: of the logarithm, >= 0.
    """

    median: float
    spread: float = 0.6


class Reporting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who reports what, and when. Shares are between 0 and 1.

    Attributes:
        missing: share of the frauds that nobody ever reports.
        customer: share of the reported frauds that the card holder reports.
        analyst: share of them that an analyst finds; chargebacks bring the rest.
        misjudged: share of the reported frauds that an analyst first calls genuine; the truth comes after.
        accused: share of the genuine payments that a card holder reports in error; an analyst corrects it.
        reviewed: share of the genuine payments that an analyst confirms as genuine.
    """

    missing: float = 0.05
    customer: float = 0.25
    analyst: float = 0.15
    misjudged: float = 0.03
    accused: float = 0.0004
    reviewed: float = 0.004
    chargeback_after: Delay = Delay(median=5 * DAY)
    customer_after: Delay = Delay(median=1.5 * DAY, spread=0.8)
    analyst_after: Delay = Delay(median=8 * _HOUR, spread=0.8)


class LabelToCome(NamedTuple):
    """A label to come: `known` is in seconds since the start of the simulation."""

    known: float
    order: int
    transaction_id: str
    is_fraud: bool
    source: str


class Reports:
    """Labels that are not known yet, the next one first."""

    def __init__(self, reporting: Reporting, *, rng: np.random.Generator) -> None:
        self._reporting = reporting
        self._rng = rng
        self._coming: list[LabelToCome] = []
        self._order = 0

    def happened(self, fraud: list[bool], seconds: list[float], transaction_ids: list[str]) -> None:
        """Payments were made: draw what will become known of them."""
        reporting, size = self._reporting, len(fraud)
        chances = self._rng.random(size)
        kinds = self._rng.random(size)
        spoken = np.flatnonzero(
            np.array(fraud, dtype=bool) | (chances < reporting.accused + reporting.reviewed)
        )
        for row in spoken.tolist():
            of = seconds[row], transaction_ids[row]
            if not fraud[row]:
                self._genuine(*of, accused=bool(chances[row] < reporting.accused))
            elif chances[row] >= reporting.missing:
                self._fraud(*of, kind=float(kinds[row]))

    def due(self, second: float) -> LabelToCome | None:
        """The next label that is known by then."""
        if self._coming and self._coming[0].known <= second:
            return heapq.heappop(self._coming)
        return None

    def _fraud(self, second: float, transaction_id: str, *, kind: float) -> None:
        reporting = self._reporting
        if kind < reporting.customer:
            source, after = "customer", reporting.customer_after
        elif kind < reporting.customer + reporting.analyst:
            source, after = "analyst", reporting.analyst_after
        else:
            source, after = "chargeback", reporting.chargeback_after
        known = second + self._draw(after)
        if self._rng.random() < reporting.misjudged:
            known = self._first(known, second, transaction_id, is_fraud=False, source="analyst", after=after)
        self._add(known, transaction_id, is_fraud=True, source=source)

    def _genuine(self, second: float, transaction_id: str, *, accused: bool) -> None:
        reporting = self._reporting
        known = second + self._draw(reporting.analyst_after)
        if accused:
            after = reporting.chargeback_after
            known = self._first(known, second, transaction_id, is_fraud=True, source="customer", after=after)
        self._add(known, transaction_id, is_fraud=False, source="analyst")

    def _first(
        self, known: float, second: float, transaction_id: str, *, is_fraud: bool, source: str, after: Delay
    ) -> float:
        """A wrong label comes first; when the right one comes instead."""
        wrong = second + self._draw(self._reporting.analyst_after)
        self._add(wrong, transaction_id, is_fraud=is_fraud, source=source)
        return max(known, wrong + self._draw(after))

    def _draw(self, delay: Delay) -> float:
        # At least a second: nothing is known of a payment before it is made.
        return 1.0 + float(self._rng.lognormal(np.log(delay.median), delay.spread))

    def _add(self, known: float, transaction_id: str, *, is_fraud: bool, source: str) -> None:
        self._order += 1
        heapq.heappush(self._coming, LabelToCome(known, self._order, transaction_id, is_fraud, source))
