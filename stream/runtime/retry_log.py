"""What is said of a wait that is tried again and again: at once, then ever more rarely, and its end."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST, MOST = 5.0, 600.0
"""Seconds after which a wait is said again: doubled from the first, never more than the most apart."""

log = logging.getLogger(__name__)


class WaitLog:
    """Says that something waits, for what, and when it is over: three kinds of line, whatever the retries.

    What was not said before in the same wait is said at once. Sentences that differ in figures alone are one:
    a count that moves with every try is no news.

    Args:
        goes_on: what is said at the end: `score goes on`.
        clock: monotonic seconds.
    """

    def __init__(self, goes_on: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._goes_on = goes_on
        self._clock = clock
        self._since: float | None = None
        self._next = FIRST  # seconds of waiting at which it is said again
        self._said: set[str] = set()

    def tried(self, why: str) -> None:
        """A try failed; `why` says what waits and for what."""
        now = self._clock()
        if self._since is None:
            self._since = now
            self._next = FIRST
            self._said.clear()
        kind = re.sub(r"\d+", "0", why)
        lasts = now - self._since
        if lasts >= self._next:
            self._next = lasts + min(lasts, MOST)
            log.warning("For %.0f s now: %s", lasts, why)
        elif kind not in self._said:
            log.warning("%s", why)
        self._said.add(kind)

    def over(self) -> None:
        """It was tried, and went well."""
        if self._since is not None:
            log.warning("%s after %.0f s", self._goes_on, self._clock() - self._since)
            self._since = None
