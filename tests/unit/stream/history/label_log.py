"""A log of labels, and its replay."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from stream.admission import Limits
from stream.history.labels import ReplayedLabels
from stream.messages import encode
from stream.records import Record
from tests.support.builders import START, label
from tests.unit.stream.verify.test_judge import SPEC


def reported(name: str, *, fraud: bool, day: float) -> bytes:
    return encode(label(name, fraud=fraud, days=day, source="analyst"))


class Log:
    """A log of labels, and its replay."""

    def __init__(self) -> None:
        self.labels = ReplayedLabels(SPEC, Limits(future_tolerance=1e9), 0.5, 1e7)
        self.count = 0

    def add(self, value: bytes, *, waited: int | None = None, came: float = 0.0) -> int:
        headers = () if waited is None else (("waited", b"%d" % waited),)
        at = int((START.timestamp() + came) * 1000)
        self.labels.add(Record("labels", 0, self.count, at, b"k", value, headers))
        self.count += 1
        return self.count - 1

    def decide(self, name: str, *, after: float = 0.0) -> None:
        value = {
            "event_time": START,
            "decided_at": START + timedelta(seconds=after),
            "entities": {"card": ("c1", 0, 0)},
            "features": {"amount": 1.0},
        }
        self.labels.add_decision(name, msgspec.json.encode(value))

    def statuses(self) -> list[str]:
        found: list[str] = []
        self.labels.play(lambda resolved: found.append(resolved.status))
        return found
