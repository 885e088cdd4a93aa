"""Slots move from master to master while the store is worked with: nothing is lost, nothing is done twice."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from itertools import count
from typing import TypeVar

from models.features.decay import weights
from models.features.profiles import Event, label_delta
from stream.adapters.memory.store import MemoryStore
from stream.adapters.redis.store import RedisStore
from stream.ports import DependencyDown, EntityRef, EventUpdate, LabelUpdate
from tests.support.redis_servers.cluster import STEP, Cluster, slots_of

HALF_LIVES = (60.0, 3600.0)
SHARDS = 8
BATCH = 40
Answer = TypeVar("Answer")


def event_update(offset: int) -> EventUpdate:
    event = Event(60.0 * offset, 10.0, math.log1p(10.0 + offset), weights(60.0 * offset, HALF_LIVES), b"n")
    entities = tuple(EntityRef(kind, f"{kind}{offset % 53}", 2) for kind in ("card", "merchant", "device"))
    return EventUpdate(0, offset, event, entities)


def label(offset: int) -> LabelUpdate:
    delta = label_delta(f"t{offset}", 60.0 * offset, True, HALF_LIVES)
    return LabelUpdate(offset, f"t{offset}", True, 9.0, delta, event_update(offset).entities, b"")


def persistently(call: Callable[[], Answer]) -> tuple[Answer, int]:
    """As a worker does: the same again while a dependency is down. The answer, and how often it was down."""
    for downs in count():
        try:
            return call(), downs
        except DependencyDown:
            continue
    raise AssertionError


def test_slots_that_move_under_load_keep_every_profile_decision_and_label(
    redis_cluster: Cluster, redis_cluster_url: str
) -> None:
    store = RedisStore(redis_cluster_url, HALF_LIVES, SHARDS, decision_ttl_seconds=600, label_ttl_seconds=600)
    oracle = MemoryStore(HALF_LIVES)
    fencing_tokens, theirs = store.claim([0]), oracle.claim([0])
    moved: list[int] = []
    failed: list[BaseException] = []
    last = -1

    def batch() -> int:
        """One more batch on both; says how often Redis was down."""
        nonlocal last
        first, end = last + 1, last + BATCH
        updates = [event_update(offset) for offset in range(first, end + 1)]
        labels = [label(offset) for offset in range(first, end + 1)]
        made = [(0, f"t{offset}", b"%d" % offset) for offset in range(first, end + 1)]

        def whole() -> object:
            snapshots = store.apply(
                updates, ends={0: end}, recorded={0: first - 1}, fencing_tokens=fencing_tokens
            )
            recorded = store.record(made, fencing_tokens=fencing_tokens)
            statuses = store.apply_labels(labels, learned=0, passed=first - 1)
            store.advance_labels(end, passed=first - 1)
            return snapshots, recorded, statuses

        answer, downs = persistently(whole)
        last = end
        assert answer == (
            oracle.apply(updates, ends={0: end}, recorded={0: first - 1}, fencing_tokens=theirs),
            oracle.record(made, fencing_tokens=theirs),
            oracle.apply_labels(labels, learned=0, passed=first - 1),
        )
        oracle.advance_labels(end, passed=first - 1)
        return downs

    def move() -> None:
        try:
            for slot in slots_of("rw", range(SHARDS)):
                worked.wait(10)
                worked.clear()
                moved.append(redis_cluster.move(slot, 1 - redis_cluster.owner(slot), pause=0.01))
        except BaseException as error:  # noqa: BLE001 - shown by the test itself
            failed.append(error)

    for _ in range(10):
        batch()
    worked = threading.Event()
    mover = threading.Thread(target=move)
    mover.start()
    while mover.is_alive():
        batch()
        worked.set()
    batch()
    assert not failed, failed
    assert len(moved) == SHARDS
    assert all(keys > BATCH for keys in moved), "a slot that moved held live keys"
    names = [(kind, f"{kind}{number}") for kind in ("card", "merchant", "device") for number in range(53)]
    assert [store.profile(*name) for name in names] == [oracle.profile(*name) for name in names]
    assert [store.label_profile(*name) for name in names] == [oracle.label_profile(*name) for name in names]
    assert store.counts() == oracle.counts()


def test_a_slot_with_keys_on_both_sides_makes_the_store_wait_and_nothing_is_done_by_halves(
    redis_cluster: Cluster, redis_cluster_url: str
) -> None:
    store = RedisStore(redis_cluster_url, HALF_LIVES, SHARDS, decision_ttl_seconds=600, label_ttl_seconds=600)
    fencing_tokens = store.claim([0])
    updates = [event_update(offset) for offset in range(2000)]
    snapshots = store.apply(updates, ends={0: 1999}, recorded={}, fencing_tokens=fencing_tokens)
    made = [(0, f"t{offset}", b"first") for offset in range(2000)]
    store.record(made, fencing_tokens=fencing_tokens)
    [slot] = slots_of("rw", [0])
    refused: list[DependencyDown] = []

    def half_way(moved: int) -> None:
        if moved != STEP:
            return
        try:
            store.record([(0, name, b"second") for _, name, _ in made], fencing_tokens=fencing_tokens)
        except DependencyDown as down:
            refused.append(down)

    redis_cluster.move(slot, 1 - redis_cluster.owner(slot), watch=half_way)
    assert refused
    assert "a slot is moving to another master" in str(refused[0])
    assert (
        store.record([(0, name, b"third") for _, name, _ in made], fencing_tokens=fencing_tokens)
        == [b"first"] * 2000
    )
    assert store.apply(updates, ends={0: 1999}, recorded={}, fencing_tokens=fencing_tokens) == snapshots


def test_journals_that_are_trimmed_away_while_their_slot_moves_are_written_on(
    redis_cluster: Cluster, redis_cluster_url: str
) -> None:
    store = RedisStore(redis_cluster_url, HALF_LIVES, 1, decision_ttl_seconds=600, label_ttl_seconds=600)
    fencing_tokens = store.claim([0])
    store.apply([event_update(0)], ends={0: 0}, recorded={}, fencing_tokens=fencing_tokens)
    early = LabelUpdate(1, "t9", True, 9.0, None, (), b"1 {}")  # what waits is there, too
    assert store.apply_labels([label(0), early], learned=0) == ["new", "pending"]
    entities = event_update(0).entities
    [slot] = slots_of("rw", [0])
    first: list[object] = []
    known = label(2)._replace(transaction_id="t0", is_fraud=False, known_at=10.0, entities=entities)

    def before(moved: int) -> None:
        if not moved:
            again = event_update(1)._replace(entities=entities)
            first.append(store.apply([again], ends={0: 1}, recorded={0: 0}, fencing_tokens=fencing_tokens))
            assert store.apply_labels([known], learned=2) == ["correction"]

    redis_cluster.move(slot, 1 - redis_cluster.owner(slot), watch=before)
    again = event_update(1)._replace(entities=entities)
    assert [store.apply([again], ends={0: 1}, recorded={0: 0}, fencing_tokens=fencing_tokens)] == first
    assert store.apply_labels([known], learned=2) == ["correction"]
    assert store.profile("card", "card0").updates == 2
