"""The named points between the steps, and a way to have a worker killed at one of them. For fault tests only.

    RIVERWATCH_CRASH_AT=recorded:3 riverwatch score    # kill -9 when it has recorded its third batch

Every step of a batch may be the last before a crash; each has a point behind it, and
`tests/faults/test_crash_points.py` has a worker killed at every one of them, under traffic.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

VARIABLE: Final = "RIVERWATCH_CRASH_AT"

SCORE: Final = ("looked-up", "profiles-applied", "scored", "recorded", "emitted", "committed")
LEARN: Final = (
    "labels-applied",
    "learned",
    "snapshot-written",
    "snapshot-published",
    "committed",
    "queued",
    "matured",
    "called-in",
    "given-up",
)
"""Where a worker of the role can be killed, in the order of its steps. `committed`: the acknowledgement of a
batch stands in Kafka. `called-in`, `given-up`: a waiting label was sent, and is still among the pending
labels."""

logger = logging.getLogger(__name__)


class CrashPointError(Exception):
    """`RIVERWATCH_CRASH_AT` names no point; the message lists those there are."""


def nothing(_point: str) -> None:
    """What happens at the named points outside of fault tests."""


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL cannot be survived")


def crash_point(
    environ: Mapping[str, str], points: tuple[str, ...], *, die: Callable[[], None] = _die
) -> Callable[[str], None]:
    """What is called at the named points: it kills the process where the environment says so.

    Args:
        environ: `RIVERWATCH_CRASH_AT=NAME:N` there arms the point: the process dies when it is reached for
            the N-th time. Without it nothing ever happens.
        points: of the role.
        die: how.

    Raises:
        CrashPointError: there is no such point, or N is no whole number above 0.
    """
    wanted = environ.get(VARIABLE)
    if not wanted:
        return nothing
    name, _, times = wanted.partition(":")
    if name not in points or not times.isdecimal() or int(times) < 1:
        raise CrashPointError(
            f"{VARIABLE}={wanted}: write NAME:N, N from 1 on, NAME one of {', '.join(points)}"
        )
    left = int(times)
    logger.warning("a fault test: this worker kills itself at '%s', the %dth time", name, left)

    def reached(point: str) -> None:
        nonlocal left
        if point == name:
            left -= 1
            if not left:
                die()

    return reached
