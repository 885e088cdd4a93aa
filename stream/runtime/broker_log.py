"""What is said while the broker is away.

Once what is missing, every few seconds that it still is, once that it is back. aiokafka alone says it some
90 times a second.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_OUTAGE = (
    "Unable connect to",
    "Unable to request metadata",
    "Unable to update metadata",
    "Error sending %s to node",
    "Marking the coordinator dead",
    "Heartbeat send request failed",
    "Heartbeat session expired",
    "Group Coordinator Request failed",
    "Failed fetch messages from",
    "Failed fetch offsets from",
    "OffsetCommit failed before join",
    "LeaveGroup request failed",
)
"""How aiokafka 0.14.0 begins what it says when a broker cannot be reached. Anything else it says passes."""

log = logging.getLogger(__name__)


class BrokerOutageFilter(logging.Filter):
    """A log filter that holds back aiokafka's lines about a broker it cannot reach, and sums them up.

    What is over within a second (a leader that moves, a group's first coordinator) is not mentioned.

    Args:
        bootstrap: the address that is said to be missing.
        every: seconds between two lines while it lasts, > 0.
        clock: monotonic seconds.
    """

    def __init__(
        self, bootstrap: str, every: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._bootstrap = bootstrap
        self._every = every
        self._clock = clock
        self._since: float | None = None
        self._said: float | None = None
        self._last = 0.0
        self._held_back = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a line about an unreachable broker; any other passes."""
        if not (isinstance(record.msg, str) and record.msg.startswith(_OUTAGE)):
            return True
        self._last = now = self._clock()
        self._held_back += 1
        if self._since is None:
            self._since = now
        elif self._said is None and now - self._since >= 1.0:
            self._said = now
            log.warning(
                "Kafka at %s cannot be reached (%s). Nothing is acknowledged; trying until it answers",
                self._bootstrap, record.getMessage(),
            )  # fmt: skip
        elif self._said is not None and now - self._said >= self._every:
            self._said = now
            log.warning(
                "Kafka at %s cannot be reached for %.0f s now (%d lines of aiokafka held back)",
                self._bootstrap, now - self._since, self._held_back,
            )  # fmt: skip
        return False

    def tick(self, *, reachable: bool) -> None:
        """To be called about every second; `reachable` is what the consumer knows by itself."""
        if self._since is None or not reachable or self._clock() - self._last < 1.0:
            return
        if self._said is not None:
            log.warning("Kafka at %s is back after %.0f s", self._bootstrap, self._last - self._since)
        self._since, self._said, self._held_back = None, None, 0
