"""The stores that the contract suites run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from infra.services import redis_problem
from stream.adapters.memory.store import MemoryStore
from stream.adapters.redis.store import RedisStore
from tests.support.redis_servers.cluster import Cluster

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
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two servers that share the slots of one Redis Cluster."""
    if problem := redis_problem():
        pytest.skip(problem)
    settings = {"cluster-node-timeout": "5000"}
    with Cluster(tmp_path_factory.mktemp("cluster"), 2, appendonly=False, settings=settings) as cluster:
        yield cluster


@pytest.fixture
def redis_cluster_url(redis_cluster: Cluster) -> str:
    """The cluster, with nothing in it."""
    for master in redis_cluster.masters:
        with redis.Redis.from_url(master.url) as client:
            client.flushall()
    return redis_cluster.url.replace("redis://", "redis+cluster://")
