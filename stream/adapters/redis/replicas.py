"""Waits until what was written is on replicas too, so that a failover loses nothing that was emitted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redis.cluster import RedisCluster
from redis.exceptions import AskError, MovedError

from stream.ports import DependencyDown

PATIENCE_MS = 2000  # below the clients' socket timeout


class Replicas:
    """The replicas that must have what is written before anything follows from it.

    A replica hears its master's writes in their order. So once it has a write that came last, it has all
    that was written before: by this worker, and by others whatever this worker has read of theirs.

    Args:
        client: a `redis.Redis` or `redis.RedisCluster`.
        count: of replicas, of each master; 0: nothing is waited for.
        place: named in errors.
    """

    def __init__(self, client: Any, count: int, place: str) -> None:
        self._client = client
        self._count = count
        self._place = place

    def have_all(self, keys: Iterable[bytes | str]) -> None:
        """Return when enough replicas have all that was written to the masters of some keys.

        Args:
            keys: one in each slot that was written to; each is written now, and means nothing.

        Raises:
            DependencyDown: they have not, within two seconds; asking again is right.
            RedisError: no answer.
        """
        if self._count:
            for client, key in self._masters(keys):
                self._wait(client, key)

    def _masters(self, keys: Iterable[bytes | str]) -> list[tuple[Any, bytes | str]]:
        if not isinstance(self._client, RedisCluster):
            return [(self._client, key) for key in [*keys][:1]]
        first: dict[str, tuple[Any, bytes | str]] = {}
        for key in keys:
            node = self._client.get_node_from_key(key)  # type: ignore[no-untyped-call] # redis-py's own gap
            if node is None:
                raise DependencyDown(f"Redis at {self._place}: no master holds the slot of {key!r} now")
            first.setdefault(node.name, (self._client.get_redis_connection(node), key))
        return [*first.values()]

    def _wait(self, client: Any, key: bytes | str) -> None:
        # On one connection: WAIT is about what was written on its own before, and that about all before it.
        with client.pipeline(transaction=False) as pipeline:
            pipeline.execute_command("SET", key, b"")
            pipeline.execute_command("WAIT", self._count, PATIENCE_MS)
            written, have = pipeline.execute(raise_on_error=False)
        if isinstance(written, (MovedError, AskError)):
            self._client.execute_command("SET", key, b"")  # it follows, and learns where the slot is now
            raise DependencyDown(f"Redis at {self._place}: a slot moves to another master ({written})")
        for answer in (written, have):
            if isinstance(answer, Exception):
                raise answer
        if have < self._count:
            raise DependencyDown(
                f"Redis at {self._place}: {have} of {self._count} replicas have what was written, and "
                "nothing leaves before they have; see to its replicas and their lag, or lower "
                "RIVERWATCH_REDIS_REPLICAS"
            )
