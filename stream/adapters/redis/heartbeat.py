"""What a worker says of itself, so that `riverwatch status` can tell: a small entry in Redis that fades.

It never matters to what is decided or learned: when Redis is away it is simply not written.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import msgspec
import redis

FADES = 15  # seconds after which a worker that says nothing is taken for gone
_EVERY = 1.0


class WorkerState(msgspec.Struct, kw_only=True):
    """One worker as `riverwatch status` shows it.

    Attributes:
        role: score, learn or monitor.
        worker: host and process.
        started_at, seen_at: seconds since 1970.
        rate: events a second, over the last seconds.
        totals: since it started.
        model_version: the model in use, or last published.
        waiting: what it waits for; empty while it works.
        trouble: what is wrong though it works; empty while nothing is.
        p50_ms, p99_ms: from a record's time in Kafka to its decision, over the last second; 0 without one.
    """

    role: str
    worker: str
    started_at: float
    seen_at: float = 0.0
    rate: float = 0.0
    totals: dict[str, int] = {}
    model_version: str = ""
    waiting: str = ""
    trouble: str = ""
    p50_ms: float = 0.0
    p99_ms: float = 0.0


_decoder = msgspec.json.Decoder(WorkerState)


class Heartbeat:
    """Counts what a worker does and writes it down once a second, in a thread of its own.

    Args:
        role: score, learn or monitor.
        client: a `redis.Redis`; None writes nothing.
        prefix: of the keys.
    """

    def __init__(self, role: str, client: Any = None, *, prefix: str = "rw") -> None:
        worker = f"{socket.gethostname()}:{os.getpid()}"
        self._key = f"{prefix}:worker:{role}:{worker}"
        self._client = client
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._state = WorkerState(role=role, worker=worker, started_at=time.time())
        self._events: list[tuple[float, int]] = []
        self._delays: list[float] = []
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        """Begin to write."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, and take the entry away."""
        self._stop.set()
        self._thread.join(2)
        if self._client is not None:
            try:
                self._client.delete(self._key)
            except redis.RedisError:  # it fades by itself
                return

    def count(
        self, counts: Mapping[str, int], *, model_version: str = "", delays_ms: list[float] | None = None
    ) -> None:
        """Add what became of a batch; the first number is its events."""
        with self._lock:
            totals = self._state.totals
            for name, number in counts.items():
                totals[name] = totals.get(name, 0) + number
            self._events.append((time.monotonic(), next(iter(counts.values()), 0)))
            self._state.waiting = ""
            self._state.model_version = model_version or self._state.model_version
            self._delays.extend(delays_ms or ())

    def waiting(self, reason: str) -> None:
        """The worker waits, and for what."""
        with self._lock:
            self._state.waiting = reason

    def trouble(self, reason: str) -> None:
        """The worker works, and something is wrong; empty: no longer."""
        with self._lock:
            self._state.trouble = reason

    def state(self) -> WorkerState:
        """As it is now."""
        with self._lock:
            now = time.monotonic()
            self._events = [(at, number) for at, number in self._events if at > now - 5.0]
            self._state.rate = sum(number for _, number in self._events) / 5.0
            self._state.seen_at = time.time()
            delays = sorted(self._delays[-5000:])
            self._delays.clear()
            if delays:
                self._state.p50_ms = delays[len(delays) // 2]
                self._state.p99_ms = delays[int(len(delays) * 0.99)]
            return msgspec.structs.replace(self._state, totals=dict(self._state.totals))

    def _run(self) -> None:
        while not self._stop.wait(_EVERY):
            state = self.state()
            if self._client is not None:
                try:
                    self._client.set(self._key, msgspec.json.encode(state), ex=FADES)
                except redis.RedisError:  # said by the worker itself, which needs Redis more than this does
                    continue


def check_announcing(client: Any, *, prefix: str = "rw") -> None:
    """Write what changes nothing: refused where Redis is full or a replica, though it can be read.

    Raises:
        redis.RedisError: no worker could announce itself now; `passing` tells what it means.
    """
    try:
        client.setrange(f"{prefix}:nothing", 0, "")
    except redis.exceptions.NoPermissionError:  # who looks may be allowed to read only
        return


def workers(client: Any, *, prefix: str = "rw") -> list[WorkerState]:
    """Every worker that is there, by role and name."""
    keys = sorted(client.scan_iter(match=f"{prefix}:worker:*", count=1000))
    found = (client.get(key) for key in keys)
    return [_decoder.decode(raw) for raw in found if raw is not None]
