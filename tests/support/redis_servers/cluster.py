"""A Redis Cluster on loopback whose slots move and whose masters are killed while it is worked with."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import redis
from redis.crc import key_slot

from infra.process import HOST, port_is_free
from infra.services import LocalRedis, free_port
from tests.support.patience import PATIENCE

SLOTS = 16_384
STEP = 100  # keys a step
_HIGHEST = 22_000


class Cluster:
    """Masters without replicas that share the slots; usable as a context manager.

    Args:
        folder: data and logs.
        masters: how many, > 0.
        appendonly: a master that is killed and started again has everything it had.
        settings: of each server.
    """

    def __init__(
        self, folder: Path, masters: int, *, appendonly: bool, settings: Mapping[str, str] | None = None
    ) -> None:
        password = secrets.token_urlsafe(24)
        self.masters = [
            LocalRedis(
                folder,
                _bus_port(),
                appendonly=appendonly,
                appendfsync="always" if appendonly else "everysec",
                settings={"cluster-enabled": "yes", **(settings or {})},
                name=f"redis-master-{number}",
                password=password,
                administered=True,
                ready_within=PATIENCE,
            )
            for number in range(masters)
        ]
        self.url = self.masters[0].url.removesuffix("/0")
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for master in self.masters:
            self._stack.enter_context(master)
        clients = [self._stack.enter_context(redis.Redis.from_url(each.url)) for each in self.masters]
        share = -(-SLOTS // len(clients))
        for number, client in enumerate(clients):
            _said(client, "ADDSLOTS", *range(number * share, min((number + 1) * share, SLOTS)))
            if number:
                _said(clients[0], "MEET", HOST, self.masters[number].port)
        self._until(self.is_ok, "the cluster did not form")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def is_ok(self) -> bool:
        """Every master says that every slot is served."""
        for master in self.masters:
            with redis.Redis.from_url(master.url) as client:
                told = dict(line.split(":", 1) for line in _text(_said(client, "INFO")).split())
                if told["cluster_state"] != "ok" or told["cluster_known_nodes"] != str(len(self.masters)):
                    return False
        return True

    def owner(self, slot: int) -> int:
        """The number of the master that serves a slot."""
        return self._told(slot, self.masters[0])

    def move(
        self, slot: int, to: int, *, pause: float = 0.0, watch: Callable[[int], object] = lambda _moved: None
    ) -> int:
        """Move a slot to another master, some keys at a time, as `redis-cli --cluster reshard` does.

        Args:
            to: the number of a master that does not serve it.
            pause: seconds between two steps.
            watch: called before each step with how many keys have moved.

        Returns:
            How many keys moved.
        """
        source, target = self.masters[self.owner(slot)], self.masters[to]
        with redis.Redis.from_url(source.url) as old, redis.Redis.from_url(target.url) as new:
            _said(new, "SETSLOT", slot, "IMPORTING", _text(_said(old, "MYID")))
            _said(old, "SETSLOT", slot, "MIGRATING", _text(_said(new, "MYID")))
            moved = 0
            while keys := _said(old, "GETKEYSINSLOT", slot, STEP):
                watch(moved)
                old.execute_command(
                    "MIGRATE", HOST, target.port, "", 0, 5000, "AUTH", target.password, "KEYS", *keys
                )
                moved += len(keys)
                time.sleep(pause)
            for client in (new, old):
                _said(client, "SETSLOT", slot, "NODE", _text(_said(new, "MYID")))
        self._until(
            lambda: {self._told(slot, each) for each in self.masters} == {to}, "a move was not heard of"
        )
        return moved

    def _told(self, slot: int, teller: LocalRedis) -> int:
        """The number of the master that serves a slot, by the word of one of them."""
        with redis.Redis.from_url(teller.url) as client:
            for first, last, (_, port, *_), *_ in _said(client, "SLOTS"):
                if first <= slot <= last:
                    return next(number for number, each in enumerate(self.masters) if each.port == port)
        raise AssertionError(f"nobody serves slot {slot}")

    def _until(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, what
            time.sleep(0.02)


def slots_of(prefix: str, shards: Iterable[int]) -> list[int]:
    """The slots in which some shards of a store live.

    >>> slots_of("rw", [0, 1])
    [11097, 15224]
    """
    return [key_slot(f"{prefix}:{{s{shard}}}:".encode()) for shard in shards]


def _said(client: redis.Redis, *command: object) -> Any:
    """The plain answer: redis-py makes other things of it, not the same in every version."""
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command("CLUSTER", *command)  # type: ignore[no-untyped-call] # redis-py's own gap
        return connection.read_response()
    finally:
        client.connection_pool.release(connection)


def _text(answer: Any) -> str:
    return bytes(answer).decode()


def _bus_port() -> int:
    """A free port whose cluster bus, 10,000 above it, is free and not one the system gives to clients."""
    while (port := free_port()) > _HIGHEST or not port_is_free(port + 10_000):
        pass
    return port
