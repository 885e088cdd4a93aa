"""A disk without room, for one process, that every user can make: its files may not grow."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

CAN_LIMIT = hasattr(resource, "prlimit")
WHY_NOT = "only Linux limits a process from outside"


@contextmanager
def no_file_above(size: int, pid: int = 0) -> Iterator[None]:
    """Let writes fail beyond so many bytes of a file.

    The kernel says EFBIG where a full disk says ENOSPC; Python ignores the signal that comes with it.

    Args:
        size: bytes, > 0; the log that a process writes grows within it.
        pid: of the process; 0 for this one.
    """
    was = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, was[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, was)
