"""How far each partition of a generation was read, taken in hand, handled and committed.

Offsets only ever move along a chain: a run begins where the last one ended. So a record that went missing
between broker and handler breaks the chain and is noticed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from faust.types import TP

from stream.records import Passed
from stream.runtime.handler import SkippedRecordsError

log = logging.getLogger(__name__)


class Run(NamedTuple):
    """Consecutive records of one partition: all that the log holds for readers from `begin` up to `end`.

    `begin` is the offset that was expected, which is lower than the first record's where compaction or a
    transaction's marker left a gap. So the runs of a partition join without gaps even where offsets do not.
    `lost` are the offsets before the first record that the log had and has no more.
    """

    generation: int
    tp: TP
    begin: int
    records: list[Any]
    lost: int = 0

    @property
    def end(self) -> int:
        """The offset after the last record: what a commit of this run says."""
        return int(self.records[-1].offset) + 1

    def split(self, size: int) -> tuple[Run, Run | None]:
        """Cut off at most `size` (> 0) records; the second part begins where the first ends."""
        if len(self.records) <= size:
            return self, None
        head = self._replace(records=self.records[:size])
        return head, self._replace(begin=head.end, records=self.records[size:], lost=0)


def lower(starts: dict[TP, int], wanted: Mapping[TP, int]) -> None:
    """Start partitions below where they were handled up to, as `on_assigned` wants it.

    Raises:
        SkippedRecordsError: when it wants to start where something before was never handled.
    """
    for tp, offset in wanted.items():
        if not 0 <= offset <= starts[tp]:
            raise SkippedRecordsError(
                f"on_assigned wants {tp.topic}[{tp.partition}] to start at {offset}, but only what lies "
                f"before {starts[tp]} was handled: return an offset from 0 to {starts[tp]}, or none"
            )
        log.warning("Going back on %s[%s] from %s to %s", tp.topic, tp.partition, starts[tp], offset)
        starts[tp] = offset


class Positions:
    """The offsets of the partitions that one generation holds.

    Args:
        starts: where each is read from.
        passed: what the commits say of offsets without a record.

    Attributes:
        began: where this generation began to read.
        next: the offset that the next record should have.
        taken: everything below was in a handler's hand.
        handled: everything below was handled.
        dirty: the partitions acknowledged since the last commit.
        committed: everything below is acknowledged in Kafka, by its own answer.
        passed: offsets below `handled` that held no record.
    """

    def __init__(self, starts: Mapping[TP, int], passed: Mapping[TP, Passed] | None = None) -> None:
        self.began = dict(starts)
        self.next = dict(starts)
        self.taken = dict(starts)
        self.handled = dict(starts)
        self.dirty: set[TP] = set()
        self.committed = dict(starts)
        self.passed = {tp: Passed(0, start) for tp, start in starts.items()}
        self.passed.update({tp: said for tp, said in (passed or {}).items() if said.number})

    def acknowledge(self, run: Run) -> None:
        """Everything up to the end of a run was handled.

        Raises:
            SkippedRecordsError: when it does not begin where the last acknowledgement ended.
        """
        if run.begin != (expected := self.handled[run.tp]):
            raise SkippedRecordsError(
                f"acknowledging {run.tp.topic}[{run.tp.partition}] from {run.begin} to {run.end}, but "
                f"offset {expected} has to be handled next: restart the worker, it reads from there"
            )
        self.handled[run.tp] = run.end
        self.passed[run.tp] = _further(self.passed[run.tp], run)
        self.dirty.add(run.tp)

    def left_over(self) -> int:
        """How many offsets were in a handler's hand and are not committed: they will be again."""
        return sum(max(end - self.committed.get(tp, end), 0) for tp, end in self.taken.items())


def _further(passed: Passed, run: Run) -> Passed:
    if run.end <= passed.to:
        return passed
    if run.begin < passed.to:  # it went back: what lies below is counted already
        records = sum(record.offset >= passed.to for record in run.records)
        return Passed(passed.number + run.end - passed.to - records, run.end)
    return Passed(passed.number + run.end - run.begin - len(run.records) - run.lost, run.end)
