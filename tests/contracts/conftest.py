"""The stores that the contract suites run on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import redis

from infra.process import port_is_free
from infra.services import LocalRedis, free_port, redis_problem
from stream.adapters.memory import MemoryStore
from stream.adapters.redis_store import RedisStore

HALF_LIVES = (60.0, 3600.0)
Store = MemoryStore | RedisStore
Open = Callable[[], Store]


def open_redis(url: str, shards: int) -> RedisStore:
    return RedisStore(url, HALF_LIVES, shards, decision_ttl_seconds=600, label_ttl_seconds=600)


@pytest.fixture(params=["memory", "redis, 1 shard", "redis, 4 shards", "redis cluster"])
def open_store(request: pytest.FixtureRequest) -> Open:
    """Opens the store under test; every call gives the same data, in Redis through a new object."""
    if request.param == "memory":
        store = MemoryStore(HALF_LIVES)
        return lambda: store
    if request.param == "redis cluster":
        url = request.getfixturevalue("redis_cluster_url")
        return lambda: open_redis(url, 8)
    url = request.getfixturevalue("redis_url")
    shards = 1 if request.param == "redis, 1 shard" else 4
    return lambda: open_redis(url, shards)


@pytest.fixture
def store(open_store: Open) -> Store:
    return open_store()


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[LocalRedis]]:
    """Two servers that share the slots of one Redis Cluster."""
    if problem := redis_problem():
        pytest.skip(problem)
    with ExitStack() as running:
        nodes = []
        for name in ("first", "second"):
            settings = {"cluster-enabled": "yes", "cluster-node-timeout": "5000"}
            state = tmp_path_factory.mktemp("cluster")
            nodes.append(LocalRedis(state, _bus_port(), settings=settings, name=name))
            nodes[-1].start()
            running.callback(nodes[-1].stop)
        clients = [running.enter_context(redis.Redis.from_url(node.url)) for node in nodes]
        for client, slots in zip(clients, (range(8000), range(8000, 16384)), strict=True):
            client.execute_command("CLUSTER", "ADDSLOTS", *slots)
        clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[1].port)
        deadline = time.monotonic() + 30
        while any(client.cluster("INFO")["cluster_state"] != "ok" for client in clients):
            assert time.monotonic() < deadline, "the cluster did not form"
            time.sleep(0.05)
        yield nodes


@pytest.fixture
def redis_cluster_url(redis_cluster: list[LocalRedis]) -> str:
    """The cluster, with nothing in it."""
    for node in redis_cluster:
        with redis.Redis.from_url(node.url) as client:
            client.flushall()
    return node.url.replace("redis://", "redis+cluster://").removesuffix("/0")


def _bus_port() -> int:
    """A free port whose cluster bus, 10,000 above it, is free and not one the system gives to clients."""
    while (port := free_port()) > 22_000 or not port_is_free(port + 10_000):
        pass
    return port
