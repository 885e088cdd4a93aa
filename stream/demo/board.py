"""What the demo has seen: fed by the topics, read by the screen and the summary. No clock, no Kafka."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from stream.adapters.redis.heartbeat import WorkerState
from stream.messages import Alert, DriftSignal

ALERTS_SHOWN = 8


class Point(msgspec.Struct, frozen=True):
    """A measurement and the event time up to which it holds."""

    event_time: datetime
    value: float


class Board:
    """Everything the demo shows.

    Args:
        changes_at: the event time at which the fraud pattern changes.
        k: of card precision at k.
    """

    def __init__(self, changes_at: datetime, k: int) -> None:
        self.changes_at = changes_at
        self.k = k
        self.phase = "starting"
        self.published = 0
        self.labels = 0
        self.event_time: datetime | None = None
        self.alerts: deque[Alert] = deque(maxlen=ALERTS_SHOWN)
        self.alert_counts = {"review": 0, "decline": 0}
        self.metrics: dict[str, list[Point]] = {}
        self.drifts: list[DriftSignal] = []
        self.workers: list[WorkerState] = []
        self.peak_rate = 0.0
        self._seen: set[str] = set()

    def on_alert(self, alert: Alert) -> bool:
        """Take an alert in; False for one that was seen before."""
        if alert.alert_id in self._seen:
            return False
        self._seen.add(alert.alert_id)
        self.alerts.appendleft(alert)
        self.alert_counts[alert.action] += 1
        return True

    def on_signal(self, signal: DriftSignal) -> None:
        """Take a drift signal or a measurement in."""
        if signal.kind == "drift":
            self.drifts.append(signal)
        elif signal.segment == "all":
            self.metrics.setdefault(signal.signal, []).append(Point(signal.event_time, signal.value))

    def on_workers(self, workers: Sequence[WorkerState]) -> None:
        """Take in what the workers say of themselves."""
        self.workers = list(workers)
        self.peak_rate = max(self.peak_rate, self.rate)

    def total(self, role: str, name: str) -> int:
        """A count over all workers of a role."""
        return sum(worker.totals.get(name, 0) for worker in self.workers if worker.role == role)

    @property
    def rate(self) -> float:
        """Decisions a second."""
        return sum(worker.rate for worker in self.workers if worker.role == "score")

    @property
    def latency(self) -> tuple[float, float]:
        """p50 and p99 of the slowest score worker, milliseconds."""
        score = [worker for worker in self.workers if worker.role == "score"]
        return max((w.p50_ms for w in score), default=0.0), max((w.p99_ms for w in score), default=0.0)

    @property
    def model_version(self) -> str:
        """The model that scores."""
        return next((worker.model_version for worker in self.workers if worker.role == "score"), "")

    @property
    def waiting(self) -> list[str]:
        """What workers wait for."""
        return [f"{worker.role}: {worker.waiting}" for worker in self.workers if worker.waiting]

    def metric(self, name: str) -> float | None:
        """The latest measurement."""
        points = self.metrics.get(name)
        return points[-1].value if points else None

    def summary(self) -> dict[str, Any]:
        """The demo in figures."""
        precision = self.metrics.get("average_precision", [])
        before = [point.value for point in precision if point.event_time < self.changes_at]
        after = [point.value for point in precision if point.event_time >= self.changes_at]
        noticed = [signal for signal in self.drifts if signal.event_time >= self.changes_at]
        p50, p99 = self.latency
        return {
            "transactions": self.published,
            "decisions": self.total("score", "decided"),
            "dead_letters": self.total("score", "rejected"),
            "alerts": dict(self.alert_counts),
            "labels_published": self.labels,
            "labels_learned": self.total("learn", "learned"),
            "matured": self.total("learn", "matured"),
            "model_version": self.model_version,
            "peak_events_per_second": round(self.peak_rate),
            "latency_ms": {"p50": round(p50, 1), "p99": round(p99, 1)},
            "average_precision": {
                "before_change": before[-1] if before else None,
                "lowest_after": min(after) if after else None,
                "end": after[-1] if after else None,
            },
            f"card_precision_at_{self.k}": self.metric(f"card_precision@{self.k}"),
            "pattern_changed_at": self.changes_at.isoformat(),
            "drift_signals": [
                {
                    "signal": signal.signal,
                    "event_time": signal.event_time.isoformat(),
                    "before": signal.reference,
                    "after": signal.value,
                }
                for signal in self.drifts
            ],
            "first_signal_after_change": noticed[0].signal if noticed else None,
        }
