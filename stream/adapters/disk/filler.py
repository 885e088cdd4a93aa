"""Fills a decision log on disk from the topic `scores`, in a thread of its own, and tells what has come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from stream.adapters.disk.decision_log import DiskDecisionLog
from stream.adapters.kafka.reader import TopicReader
from stream.config.settings import Settings
from stream.ports import DependencyDown, DependencyRefused
from stream.records import Record
from stream.runtime.retry_log import WaitLog
from stream.views import timed_decision

BATCH = 1000
_PAUSE = 1.0
PRUNE_EVERY = 86400.0  # seconds of event time


class DiskFiller:
    """Every learn worker fills a log of its own: whoever takes over the labels has all decisions at hand.

    Args:
        settings: addresses, and for how long decisions are kept.
        log: what is filled.
        came: called in the filler's thread with the transactions whose decisions are on disk now.
    """

    def __init__(
        self, settings: Settings, log: DiskDecisionLog, came: Callable[[Sequence[str]], object]
    ) -> None:
        self._settings = settings
        self._log = log
        self._came = came
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)
        self._latest = self._prune_at = 0.0
        self._waits = WaitLog("the decision log is filled again")

    def start(self) -> None:
        """Begin to fill."""
        self._thread.start()

    def stop(self) -> None:
        """End; what was read is on disk."""
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._fill()
            except (DependencyDown, DependencyRefused) as down:
                self._waits.tried(f"the decision log is not filled: {down}")
                self._stop.wait(_PAUSE)

    def _fill(self) -> None:
        with TopicReader(self._settings, self._settings.topic("scores")) as reader:
            known = self._log.positions()
            reader.start(
                {number: max(known.get(number, low), low) for number, (low, _) in reader.bounds().items()}
            )
            while not self._stop.is_set():
                if records := reader.poll(0.2, BATCH):
                    self._keep(records)

    def _keep(self, records: Sequence[Record]) -> None:
        rows = []
        for record in records:
            if record.value:
                head = timed_decision(record.value)
                rows.append((head.transaction_id, head.event_time.timestamp(), record.value))
        self._log.add(rows)
        # Only now: a label that is requeued finds its decision. And before it is noted that they were read:
        # where it fails, or the worker ends, they are read and told once more.
        self._came([name for name, _, _ in rows])
        self._log.add((), {record.partition: record.offset + 1 for record in records})
        self._waits.over()
        self._latest = max([self._latest, *(time for _, time, _ in rows)])
        if self._latest >= self._prune_at:
            self._log.prune(self._latest - self._settings.decision_ttl)
            self._prune_at = self._latest + PRUNE_EVERY
