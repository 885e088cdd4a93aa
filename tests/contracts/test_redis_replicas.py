"""What has left is on a replica: a failover loses none of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from infra.services import LocalRedis, redis_problem
from models.features.decay import weights
from models.features.profiles import Event, label_delta
from stream.adapters.redis import replicas as redis_replicas
from stream.adapters.redis.due_queues import RedisDueQueue
from stream.adapters.redis.store import RedisStore
from stream.ports import DependencyDown, EntityRef, EventUpdate, LabelUpdate
from tests.support.redis_servers.standby import Standby

HALF_LIVES = (60.0,)
ENTITIES = (EntityRef("card", "c", 2), EntityRef("merchant", "m", 0))


def event_update(offset: int) -> EventUpdate:
    event = Event(60.0 * offset, 10.0, math.log1p(10.0), weights(60.0 * offset, HALF_LIVES), b"n")
    return EventUpdate(0, offset, event, ENTITIES)


def label(offset: int) -> LabelUpdate:
    delta = label_delta(f"t{offset}", 60.0 * offset, True, HALF_LIVES)
    return LabelUpdate(offset, f"t{offset}", True, 9.0, delta, ENTITIES, b"")


def open_store(url: str, shards: int = 4) -> RedisStore:
    return RedisStore(url, HALF_LIVES, shards, decision_ttl_seconds=600, label_ttl_seconds=600, replicas=1)


def work(store: RedisStore, offset: int, fencing_tokens: dict[int, int]) -> None:
    """What a score worker does of one event before it emits, and a learner of one label before it learns."""
    store.apply(
        [event_update(offset)], ends={0: offset}, recorded={0: offset - 1}, fencing_tokens=fencing_tokens
    )
    store.record([(0, f"t{offset}", b"decided")], fencing_tokens=fencing_tokens)
    store.apply_labels([label(offset)], learned=0, passed=offset - 1)
    store.advance_labels(offset, passed=offset - 1)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_replicas, "PATIENCE_MS", 200)


@pytest.fixture
def standby(tmp_path: Path) -> Iterator[tuple[LocalRedis, Standby]]:
    if problem := redis_problem():
        pytest.skip(problem)
    with (
        LocalRedis(tmp_path, administered=True) as master,
        Standby(tmp_path, master, fsync="everysec", name="standby") as found,
    ):
        yield master, found


def test_a_failover_loses_nothing_that_returned_and_what_did_not_is_done_again(
    standby: tuple[LocalRedis, Standby],
) -> None:
    master, replica = standby
    store = open_store(master.url)
    queue = RedisDueQueue(redis.Redis.from_url(master.url), replicas=1)
    fencing_tokens = store.claim([0])
    for offset in range(5):
        work(store, offset, fencing_tokens)
        queue.add(3, [(60.0 * offset, f"t{offset}")])
    replica.cut_off()
    with pytest.raises(DependencyDown, match="0 of 1 replicas have what was written"):
        work(store, 5, fencing_tokens)
    with pytest.raises(DependencyDown, match="0 of 1 replicas"):
        store.advance_labels(5, passed=4)
    with pytest.raises(DependencyDown, match="0 of 1 replicas"):
        queue.add(3, [(300.0, "t5")])
    with replica.promoted() as promoted, Standby(promoted.state_dir, promoted, fsync="everysec", name="next"):
        assert store.progress([0]) == {0: 4}
        assert store.lookup([f"t{offset}" for offset in range(6)]) == [b"decided"] * 5 + [None]
        assert [name for _, name in queue.due(3, 1e9, 9)] == [f"t{offset}" for offset in range(5)]
        work(store, 5, fencing_tokens)
        assert store.profile("merchant", "m").updates == 6
        assert store.label_profile("merchant", "m").updates == 6


def test_each_master_of_a_cluster_needs_its_replicas(redis_cluster_url: str) -> None:
    store = RedisStore(
        redis_cluster_url, HALF_LIVES, 8, decision_ttl_seconds=600, label_ttl_seconds=600, replicas=1
    )
    with pytest.raises(DependencyDown, match="0 of 1 replicas"):
        store.claim([0])


def test_who_waits_for_no_replica_writes_nothing_more(redis_url: str) -> None:
    store = RedisStore(redis_url, HALF_LIVES, 4, decision_ttl_seconds=600, label_ttl_seconds=600)
    work(store, 0, store.claim([0]))
    with redis.Redis.from_url(redis_url) as client:
        assert not list(client.scan_iter(match="*settled*"))
