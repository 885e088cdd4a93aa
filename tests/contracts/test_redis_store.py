"""What the Redis store promises beyond its ports: faults, settings, and where things live."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from infra.services import LocalRedis, free_port, redis_problem
from models.features.decay import weights
from models.features.profiles import Event, ProfileSnapshot, label_delta
from stream.adapters.memory.store import MemoryStore
from stream.adapters.redis.restore import RedisRestore
from stream.adapters.redis.shards import Call, RedisShards
from stream.adapters.redis.store import RedisStore, layout_of
from stream.ports import DependencyDown, EntityRef, EventUpdate, LabelUpdate, StaleOwner, StoreBehind

HALF_LIVES = (60.0, 3600.0)


def open_store(url: str, shards: int = 4, half_lives: tuple[float, ...] = HALF_LIVES) -> RedisStore:
    return RedisStore(url, half_lives, shards, decision_ttl_seconds=600, label_ttl_seconds=700)


def event_update(offset: int) -> EventUpdate:
    event = Event(60.0 * offset, 10.0, math.log1p(10.0 + offset), weights(60.0 * offset, HALF_LIVES), b"n")
    entities = tuple(
        EntityRef(kind, f"{kind}{offset % 3}", 2) for kind in ("card", "merchant", "device", "ip")
    )
    return EventUpdate(0, offset, event, entities)


def entities() -> list[tuple[str, str]]:
    return [(kind, f"{kind}{n}") for kind in ("card", "merchant", "device", "ip") for n in range(3)]


def label(offset: int) -> LabelUpdate:
    delta = label_delta(f"t{offset}", 60.0 * offset, True, HALF_LIVES)
    return LabelUpdate(offset, f"t{offset}", True, 9.0, delta, event_update(offset).entities, b"")


class LosingAnswers(RedisShards):
    """Does what is asked in some shards, and then loses the answer."""

    def __init__(self, shards: RedisShards, survivors: dict[str, set[int]]) -> None:
        self.__dict__.update(shards.__dict__)
        self.survivors = survivors

    def run(self, script: str, calls: Sequence[Call]) -> list[Any]:
        if script not in self.survivors:
            return super().run(script, calls)
        super().run(script, [call for call in calls if call.shard in self.survivors[script]])
        raise DependencyDown("the answer was lost")


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[LocalRedis]:
    """A server that a test may break."""
    if problem := redis_problem():
        pytest.skip(problem)
    with LocalRedis(tmp_path, administered=True) as server:
        yield server


@pytest.mark.parametrize("survivors", [set(), {0}, {1, 3}, {0, 1, 2, 3}])
def test_a_call_that_only_some_shards_saw_is_completed_by_calling_again(
    redis_url: str, survivors: set[int]
) -> None:
    store, oracle = open_store(redis_url), MemoryStore(HALF_LIVES)
    fencing_tokens, expected_fencing_tokens = store.claim([0]), oracle.claim([0])
    batch = [event_update(n) for n in range(20)]
    expected = oracle.apply(batch, ends={0: 19}, recorded={}, fencing_tokens=expected_fencing_tokens)
    shards = store._shards
    store._shards = LosingAnswers(shards, {"apply": survivors})
    with pytest.raises(DependencyDown):
        store.apply(batch, ends={0: 19}, recorded={}, fencing_tokens=fencing_tokens)
    store._shards = shards
    assert store.progress([0]) == {0: 19 if len(survivors) == 4 else -1}
    assert store.apply(batch[:9], ends={0: 8}, recorded={}, fencing_tokens=fencing_tokens) == expected[:9]
    assert store.apply(batch, ends={0: 19}, recorded={}, fencing_tokens=fencing_tokens) == expected
    for kind, key in entities():
        assert store.profile(kind, key) == oracle.profile(kind, key)


@pytest.mark.parametrize("script", ["resolve_labels", "apply_labels"])
@pytest.mark.parametrize("survivors", [set(), {0}, {1, 3}, {0, 1, 2, 3}])
def test_labels_that_only_some_shards_saw_are_completed_by_calling_again(
    redis_url: str, script: str, survivors: set[int]
) -> None:
    store, oracle = open_store(redis_url), MemoryStore(HALF_LIVES)
    labels = [label(n) for n in range(12)]
    shards = store._shards
    store._shards = LosingAnswers(shards, {script: survivors})
    with pytest.raises(DependencyDown):
        store.apply_labels(labels, learned=0)
    store._shards = shards
    assert store.apply_labels(labels[:5], learned=0) == ["new"] * 5
    assert store.apply_labels(labels, learned=0) == ["new"] * 12
    oracle.apply_labels(labels, learned=0)
    for kind, key in entities():
        assert store.label_profile(kind, key) == oracle.label_profile(kind, key)


def test_a_label_leaves_the_pending_ones_and_their_times_in_one_step(redis_url: str) -> None:
    store = open_store(redis_url)
    store.apply_labels([label(n)._replace(delta=None, raw=b"%d {}" % n) for n in range(12)], learned=0)
    shards, entries = store._shards, [(f"t{n}", b"%d {}" % n) for n in range(12)]
    store._shards = LosingAnswers(shards, {"remove_pending": {0, 2}})
    with pytest.raises(DependencyDown):
        store.remove_pending(entries)
    pending, times = (
        {name for shard in range(4) for name in read(shards.key(shard, kind))}
        for read, kind in (
            (shards._client.hkeys, "room"),
            (lambda key: shards._client.zrange(key, 0, -1), "room-times"),
        )
    )
    assert pending == times == {name.encode() for name, _ in entries if shards.of(name) in {1, 3}}
    store._shards = shards
    store.remove_pending(entries)
    assert store.expired(1e12, 100) == []


def test_a_time_that_a_lost_moment_left_without_its_label_is_not_due(redis_url: str) -> None:
    store = open_store(redis_url)
    store.apply_labels([label(n)._replace(delta=None, raw=b"%d {}" % n) for n in range(2)], learned=0)
    shards = store._shards
    shards._client.hdel(shards.key(shards.of("t0"), "room"), "t0")
    for _ in range(2):
        assert store.expired(1e12, 100) == [("t1", b"1 {}")]


def test_a_shard_that_lost_its_last_moments_is_behind_and_redelivery_makes_it_right(redis_url: str) -> None:
    store, oracle = open_store(redis_url), MemoryStore(HALF_LIVES)
    fencing_tokens = store.claim([0])
    updates = [event_update(n) for n in range(30)]
    for last in (9, 19, 29):
        batch = updates[last - 9 : last + 1]
        store.apply(batch, ends={0: last}, recorded={0: last - 10}, fencing_tokens=fencing_tokens)
        oracle.apply(batch, ends={0: last}, recorded={}, fencing_tokens={0: 1})
        if last == 9:
            client = store._shards._client
            kept = {key: client.dump(key) for key in client.keys("rw:{s2}:*")}
    for key in client.keys("rw:{s2}:*"):
        client.delete(key)
    for key, value in kept.items():
        client.restore(key, 0, value)
    assert store.progress([0]) == {0: 9}
    fencing_tokens = store.claim([0])
    with pytest.raises(StoreBehind) as behind:
        store.apply([], ends={0: 30}, recorded={0: 29}, fencing_tokens=fencing_tokens)
    assert behind.value.starts == {0: 10}
    store.apply(updates[10:], ends={0: 29}, recorded={0: 9}, fencing_tokens=fencing_tokens)
    for kind, key in entities():
        assert store.profile(kind, key) == oracle.profile(kind, key)


def test_an_owner_of_before_a_loss_of_redis_holds_no_newest_fencing_token(redis_url: str) -> None:
    before = open_store(redis_url).claim([0])
    redis.Redis.from_url(redis_url).flushdb()
    rightful = open_store(redis_url)
    fencing_tokens = rightful.claim([0])
    assert fencing_tokens[0] > before[0]
    rightful.apply([event_update(0)], ends={0: 0}, recorded={}, fencing_tokens=fencing_tokens)
    with pytest.raises(StaleOwner):
        open_store(redis_url).apply([event_update(0)], ends={0: 0}, recorded={}, fencing_tokens=before)


def test_what_workers_at_work_at_once_read_tells_the_order_of_updates(redis_url: str) -> None:
    """For entities that partitions share: sorted by what they read, their events rebuild the same bits."""
    names = ("even", "odd")
    logs: list[list[tuple[EventUpdate, tuple[ProfileSnapshot, ...]]]] = [[], []]

    def work(partition: int) -> None:
        store = open_store(redis_url)
        fencing_tokens = store.claim([partition])
        for start in range(0, 400, 8):
            batch = []
            for offset in range(start, start + 8):
                time = 1.7e9 + offset + partition / 7
                event = Event(time, 5.0 + offset, math.log1p(5.0 + offset), weights(time, HALF_LIVES), b"")
                batch.append(
                    EventUpdate(partition, offset, event, (EntityRef("merchant", names[offset % 2], 0),))
                )
            found = store.apply(
                batch, ends={partition: start + 7}, recorded={}, fencing_tokens=fencing_tokens
            )
            logs[partition] += [(each, row) for each, row in zip(batch, found, strict=True) if row]
        store.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, (0, 1)))
    store, oracle = open_store(redis_url), MemoryStore(HALF_LIVES)
    fencing_tokens = oracle.claim([0])
    for place, name in enumerate(names):
        order = sorted(
            (row[0].profile.updates, each.event)
            for log in logs
            for each, row in log
            if each.entities[0].key == name
        )
        assert [updates for updates, _ in order] == list(range(400))
        updates = [
            EventUpdate(0, 1000 * place + n, event, (EntityRef("merchant", name, 0),))
            for n, (_, event) in enumerate(order)
        ]
        oracle.apply(updates, ends={0: updates[-1].offset}, recorded={}, fencing_tokens=fencing_tokens)
        assert store.profile("merchant", name) == oracle.profile("merchant", name)


def test_a_first_shard_that_forgot_its_tokens_still_issues_higher_ones(redis_url: str) -> None:
    store = open_store(redis_url)
    for _ in range(5):
        before = store.claim([0])
    store._shards._client.delete("rw:{s0}:partitions")
    assert store.claim([0])[0] > before[0]
    with pytest.raises(StaleOwner):
        store.apply([event_update(0)], ends={0: 0}, recorded={}, fencing_tokens=before)


def test_scripts_that_redis_forgot_are_loaded_again(redis_url: str) -> None:
    store = open_store(redis_url)
    fencing_tokens = store.claim([0])
    store._shards._client.script_flush()
    assert (
        store.apply([event_update(0)], ends={0: 0}, recorded={}, fencing_tokens=fencing_tokens)[0] is not None
    )
    store._shards._client.script_flush()
    assert store.apply_labels([label(0)], learned=0) == ["new"]


def test_other_settings_than_those_it_was_written_with_are_refused(redis_url: str) -> None:
    open_store(redis_url).claim([0])
    with pytest.raises(ValueError, match="go back to those"):
        open_store(redis_url, shards=2).claim([0])
    with pytest.raises(ValueError, match="go back to those"):
        open_store(redis_url, half_lives=(60.0, 3601.0)).apply_labels([label(0)], learned=0)
    RedisStore(redis_url, (1.0,), decision_ttl_seconds=1, label_ttl_seconds=1, prefix="other").claim([0])


@pytest.mark.parametrize(("shards", "decision", "labels"), [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_settings_that_cannot_be_are_refused(shards: int, decision: int, labels: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        RedisStore(
            "redis://127.0.0.1:1", (1.0,), shards, decision_ttl_seconds=decision, label_ttl_seconds=labels
        )


def test_a_client_that_decodes_answers_is_refused(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    with pytest.raises(ValueError, match="decode"):
        RedisStore(client, (1.0,), decision_ttl_seconds=1, label_ttl_seconds=1)


def test_every_key_carries_the_tag_of_its_shard(redis_url: str) -> None:
    store = open_store(redis_url)
    fencing_tokens = store.claim([0])
    store.apply([event_update(0)], ends={0: 0}, recorded={}, fencing_tokens=fencing_tokens)
    store.record([(0, "t0", b"1")], fencing_tokens=fencing_tokens)
    store.apply_labels([label(0)], learned=0)
    keys = store._shards._client.keys()
    assert len(keys) > 12
    assert all(key.startswith(tuple(b"rw:{s%d}:" % shard for shard in range(4))) for key in keys)
    assert {key for key in keys if store._shards._client.ttl(key) > 0} == {
        store._shards.key(store._shards.of("t0"), name) for name in ("d:t0", "k:t0")
    }


def test_no_answer_is_a_dependency_that_is_down_and_no_password_is_told() -> None:
    port = free_port()
    store = open_store(f"redis://user:geheim@127.0.0.1:{port}/0?socket_connect_timeout=0.2")
    calls: list[Callable[[], object]] = [
        lambda: store.claim([0]),
        lambda: store.lookup(["t"]),
        lambda: store.progress([0]),
        lambda: store.apply([event_update(0)], ends={0: 0}, recorded={}, fencing_tokens={0: 1}),
        lambda: store.record([(0, "t", b"")], fencing_tokens={0: 1}),
        lambda: store.apply_labels([label(0)], learned=0),
        lambda: store.pending(["t"]),
        lambda: store.expired(1.0, 1),
    ]
    for call in calls:
        with pytest.raises(DependencyDown, match=f"Redis at 127.0.0.1:{port} cannot serve now") as raised:
            call()
        assert "geheim" not in str(raised.value)
    with pytest.raises(DependencyDown, match="cannot serve now") as raised:
        open_store(f"redis+cluster://user:geheim@127.0.0.1:{port}")
    assert "geheim" not in str(raised.value)


def test_a_full_redis_is_down_changes_nothing_and_goes_on_when_it_has_room(own_redis: LocalRedis) -> None:
    store = open_store(own_redis.url, shards=1)
    fencing_tokens = store.claim([0])
    store.apply([event_update(0)], ends={0: 0}, recorded={}, fencing_tokens=fencing_tokens)
    store.apply_labels([label(0)], learned=0)
    client = store._shards._client
    client.config_set("maxmemory", 1)
    with pytest.raises(DependencyDown, match="raise maxmemory"):
        store.apply([event_update(1)], ends={0: 1}, recorded={0: 0}, fencing_tokens=fencing_tokens)
    with pytest.raises(DependencyDown, match="raise maxmemory"):
        store.record([(0, "t", b"1")], fencing_tokens=fencing_tokens)
    with pytest.raises(DependencyDown, match="raise maxmemory"):
        store.apply_labels([label(1)], learned=1)
    assert store.progress([0]) == {0: 0}
    client.config_set("maxmemory", 0)
    [snapshots] = store.apply([event_update(1)], ends={0: 1}, recorded={0: 0}, fencing_tokens=fencing_tokens)
    assert snapshots is not None
    assert store.apply_labels([label(1)], learned=1) == ["new"]
    assert store.label_profile("card", "card1").updates == 1


def test_a_replica_is_down_until_it_is_promoted(own_redis: LocalRedis) -> None:
    store = open_store(own_redis.url)
    fencing_tokens = store.claim([0])
    client = store._shards._client
    client.replicaof("127.0.0.1", free_port())
    with pytest.raises(DependencyDown, match="replica"):
        store.apply([event_update(0)], ends={0: 0}, recorded={}, fencing_tokens=fencing_tokens)
    client.replicaof("NO", "ONE")
    assert (
        store.apply([event_update(0)], ends={0: 0}, recorded={}, fencing_tokens=fencing_tokens)[0] is not None
    )


def test_a_redis_that_stops_answering_is_down_within_the_timeout(own_redis: LocalRedis) -> None:
    store = open_store(f"{own_redis.url}?socket_timeout=0.1")
    fencing_tokens = store.claim([0])
    with redis.Redis.from_url(own_redis.url) as other:
        other.client_pause(5_000, all=True)
        with pytest.raises(DependencyDown, match="Timeout"):
            store.apply([event_update(0)], ends={0: 0}, recorded={}, fencing_tokens=fencing_tokens)


def test_nothing_is_changed_while_what_is_stored_is_rebuilt(redis_url: str) -> None:
    store = open_store(redis_url)
    fencing_tokens = store.claim([0])
    store.apply([event_update(0)], ends={0: 0}, recorded={}, fencing_tokens=fencing_tokens)
    with redis.Redis.from_url(redis_url) as client:
        restore = RedisRestore(client, 4, "rw", layout_of(HALF_LIVES))
        restore.begin()
        for attempt in (
            lambda: store.claim([0]),
            lambda: store.apply(
                [event_update(1)], ends={0: 1}, recorded={0: 0}, fencing_tokens=fencing_tokens
            ),
            lambda: store.record([(0, "t", b"1")], fencing_tokens=fencing_tokens),
            lambda: store.apply_labels([label(1)], learned=0),
            lambda: store.pending(["t"]),
        ):
            with pytest.raises(
                DependencyDown, match="a rebuild is running and workers go on when it is done"
            ):
                attempt()
        names = {key.rpartition(b"}:")[2] for key in client.scan_iter()}
        assert names == {b"partitions", b"labels", b"layout"}, "what was there is gone"
        restore.fields(0, "partitions", {"decided": 3})
        restore.end()
    assert store.counts() == {"decided": 3, "rejected": 0, "duplicates": 0}
    assert store.apply([event_update(0)], ends={0: 0}, recorded={}, fencing_tokens=fencing_tokens), (
        "an owner stays one"
    )
    assert store.claim([0])[0] > fencing_tokens[0]
    assert store.apply_labels([label(1)], learned=0) == ["new"]
    assert store.pending(["t"]) == [None]
