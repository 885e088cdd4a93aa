"""Which offsets the broker's answers went over: how a gap is known for one that the log has.

A transaction ends with a marker, and what was aborted is not handed out; compaction takes records away. The
broker's answers go over such offsets, and aiokafka walks over them batch by batch. Where records were lost on
the way to the handler, or went by retention, the next answer was asked for behind them.

docs/adr/0002-faust-in-batches.md lists the private names this stands on.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple


class Gap(NamedTuple):
    """Offsets that an answer went over without a record: `begin` up to `end`, empty where they are equal."""

    begin: int
    end: int


class Answers(OrderedDict[Any, Any]):
    """aiokafka's buffer of answers that were fetched and not taken yet, by partition.

    An answer goes over all offsets from the one that was asked for. It follows the last one of its partition
    when it was asked for where that one ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self._walking: dict[Any, Any] = {}
        self._ended: dict[Any, int] = {}
        self._begun: dict[Any, int] = {}

    def __setitem__(self, tp: Any, answer: Any) -> None:
        """One came."""
        records = getattr(answer, "_partition_records", None)
        if records is not None:  # else it is an error
            begin = records.next_fetch_offset
            if self._ended.get(tp) != begin:
                self._begun[tp] = begin
            self._walking[tp] = records
        super().__setitem__(tp, answer)

    def __delitem__(self, tp: Any) -> None:
        """It was taken, or thrown away."""
        records = self._walking.pop(tp, None)
        if records is not None:
            self._ended[tp] = records.next_fetch_offset
        super().__delitem__(tp)

    def clear(self) -> None:
        """The assignment has gone, and they with it."""
        super().clear()
        self._walking.clear()
        self._ended.clear()
        self._begun.clear()

    def taken(self, tp: Any, first: int) -> Gap:
        """Records from `first` on were taken of a partition: what was gone over since the last time."""
        walking = self._walking.get(tp)
        reached = walking.next_fetch_offset if walking is not None else self._ended.get(tp, first)
        begin = self._begun.get(tp, first)
        self._begun[tp] = reached
        return Gap(begin, first)
