"""A progress bar on a terminal; elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from stream.experiment.measures.measure import day_name

EVERY = 15.0  # seconds between lines where there is no terminal


class Bar:
    """Shows where an experiment is; call it as often as you like."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[day]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._tasks: dict[str, TaskID] = {}
        self._next = time.monotonic() + EVERY

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, stage: str, done: int, total: int | None, event_time: float) -> None:
        """Say how far a stage is.

        Args:
            stage: what is being done.
            done: transactions so far.
            total: in all, where that is known.
            event_time: of the last one, seconds.
        """
        day = day_name(event_time)
        if self._progress.disable:
            now = time.monotonic()
            if now >= self._next:
                self._next = now + EVERY
                of = f" of {total:,}" if total else ""
                sys.stderr.write(f"{stage}: {done:,}{of} transactions, {day}\n")
            return
        task = self._tasks.get(stage)
        if task is None:
            for earlier in self._tasks.values():
                self._progress.stop_task(earlier)
            task = self._tasks[stage] = self._progress.add_task(stage, total=total, day=day)
        self._progress.update(task, completed=done, day=day)
