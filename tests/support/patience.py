"""How long a test waits for what must come."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 240.0
"""Seconds after which it is taken never to come: the limit ends a hang.

It is far above what a slow and busy machine needs, for no verdict may tell how fast a machine is;
and it is below the limit of a whole test.
"""


def until(done: Callable[[], object], what: str, *, look_every: float = 0.02) -> None:
    """Wait for a condition; one that does not come fails the test with `what` is wrong."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, f"{what} after {PATIENCE:.0f} s"
        time.sleep(look_every)
