"""Where transactions wait until they are assumed genuine, by partition: in Redis, and in memory.

In Redis a sorted set for each partition, some 110 bytes an entry; only the learned share
of the genuine waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from stream.adapters.redis.errors import passing
from stream.adapters.redis.replicas import Replicas
from stream.adapters.redis.shards import place_of


class RedisDueQueue:
    """`DueQueue` in Redis.

    Args:
        client: a `redis.Redis` or `redis.RedisCluster`.
        prefix: of all keys.
        replicas: of each server, that have what was added when `add` returns.
    """

    def __init__(self, client: Any, *, prefix: str = "rw", replicas: int = 0) -> None:
        self._client = client
        self._place = place_of(client)
        self._replicas = Replicas(client, replicas, self._place)
        self._prefix = prefix

    def _key(self, partition: int) -> str:
        return f"{self._prefix}:{{due{partition}}}"

    def add(self, partition: int, due: Sequence[tuple[float, str]]) -> None:
        """Remember (time in seconds, transaction_id); again is once."""
        with passing(self._place):
            self._client.zadd(self._key(partition), {name: time for time, name in due})
            self._replicas.have_all([f"{self._key(partition)}:settled"])

    def due(self, partition: int, until: float, limit: int) -> list[tuple[float, str]]:
        """What falls due up to a time, the earliest first."""
        with passing(self._place):
            found = self._client.zrangebyscore(
                self._key(partition), "-inf", until, start=0, num=limit, withscores=True
            )
        return [(float(time), cast("bytes", name).decode()) for name, time in found]

    def done(self, partition: int, transaction_ids: Sequence[str]) -> None:
        """Forget what was emitted."""
        with passing(self._place):
            self._client.zrem(self._key(partition), *transaction_ids)


class MemoryDueQueue:
    """`DueQueue` in this process's memory."""

    def __init__(self) -> None:
        self._due: dict[int, dict[str, float]] = {}

    def add(self, partition: int, due: Sequence[tuple[float, str]]) -> None:
        """Remember (time in seconds, transaction_id); again is once."""
        self._due.setdefault(partition, {}).update((name, time) for time, name in due)

    def due(self, partition: int, until: float, limit: int) -> list[tuple[float, str]]:
        """What falls due up to a time, the earliest first."""
        waiting = self._due.get(partition, {})
        return sorted((time, name) for name, time in waiting.items() if time <= until)[:limit]

    def done(self, partition: int, transaction_ids: Sequence[str]) -> None:
        """Forget what was emitted."""
        for name in transaction_ids:
            self._due.get(partition, {}).pop(name, None)
