"""A dependency that is down is waited for, visibly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stream.adapters.redis.heartbeat import Heartbeat
from stream.ports import DependencyDown, DependencyRefused, OtherLog
from stream.runtime.handler import Retry, WorkerRefused


@contextmanager
def waiting_visibly(heartbeat: Heartbeat) -> Iterator[None]:
    """Have a batch tried again while a dependency is down or a log is another one, and let `status` say why.

    What refuses for good is not waited for: it ends the worker.

    Raises:
        Retry: a dependency is down, a log is another one, or the block itself wants to wait.
        WorkerRefused: a dependency refuses for good.
    """
    try:
        yield
    except (DependencyDown, OtherLog) as down:
        heartbeat.waiting(str(down))
        raise Retry(str(down)) from down
    except DependencyRefused as refused:
        raise WorkerRefused(str(refused)) from refused
    except Retry as retry:
        heartbeat.waiting(retry.reason)
        raise
