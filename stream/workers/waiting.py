"""A dependency that is down is waited for, visibly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stream.adapters.redis.heartbeat import Heartbeat
from stream.ports import DependencyDown, OtherLog
from stream.runtime.handler import Retry


@contextmanager
def waiting_visibly(heartbeat: Heartbeat) -> Iterator[None]:
    """Have a batch tried again while a dependency is down or a log is another one, and let `status` say why.

    Raises:
        Retry: a dependency is down, a log is another one, or the block itself wants to wait.
    """
    try:
        yield
    except (DependencyDown, OtherLog) as down:
        heartbeat.waiting(str(down))
        raise Retry(str(down)) from down
    except Retry as retry:
        heartbeat.waiting(retry.reason)
        raise
