"""What every `DecisionLog` promises."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

from stream.adapters.disk.decision_log import DiskDecisionLog
from stream.adapters.memory.store import MemoryStore
from stream.adapters.redis.store import RedisStore
from stream.ports import DecisionLog, DependencyDown

Fill = Callable[[Iterable[tuple[str, bytes]]], object]


class Filled(NamedTuple):
    log: DecisionLog
    fill: Fill


def _recording(store: MemoryStore | RedisStore) -> Filled:
    fencing_tokens = store.claim([0])
    return Filled(
        store,
        lambda rows: store.record(
            [(0, key, decision) for key, decision in rows], fencing_tokens=fencing_tokens
        ),
    )


@pytest.fixture(params=["memory", "redis", "disk"])
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> Filled:
    if request.param == "memory":
        return _recording(MemoryStore(1))
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        return _recording(RedisStore(url, (60.0,), 3, decision_ttl_seconds=60, label_ttl_seconds=60))
    log = DiskDecisionLog(tmp_path / "new" / "log.sqlite")
    return Filled(log, lambda rows: log.add((key, 0.0, decision) for key, decision in rows))


def test_a_decision_is_found_as_it_was_recorded(filled: Filled) -> None:
    anything = bytes(range(256))
    filled.fill([("a", anything), ("ü:{}\N{SNOWMAN}", b"odd"), ("b", b"")])
    assert filled.log.decisions(["b", "ü:{}\N{SNOWMAN}", "a"]) == [b"", b"odd", anything]


def test_what_was_never_decided_is_none_in_its_place(filled: Filled) -> None:
    filled.fill([("a", b"1")])
    assert filled.log.decisions(["x", "a", "y", "a"]) == [None, b"1", None, b"1"]
    assert filled.log.decisions([]) == []


def test_the_first_writer_wins_in_one_batch_and_across_batches(filled: Filled) -> None:
    filled.fill([("a", b"1"), ("a", b"2")])
    filled.fill([("a", b"3"), ("b", b"4")])
    assert filled.log.decisions(["a", "b"]) == [b"1", b"4"]


def test_a_thousand_decisions_are_found_in_one_call(filled: Filled) -> None:
    rows = [(f"t{n}", b"%d" % n) for n in range(1000)]
    filled.fill(rows)
    assert filled.log.decisions([key for key, _ in rows]) == [decision for _, decision in rows]


def test_the_disk_log_survives_its_process(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    DiskDecisionLog(path).add([("a", 1.0, b"1")])
    assert DiskDecisionLog(path).decisions(["a"]) == [b"1"]


def test_pruning_forgets_exactly_the_events_before_a_time(tmp_path: Path) -> None:
    log = DiskDecisionLog(tmp_path / "log.sqlite")
    assert log.add([("a", 1.0, b"1"), ("b", 2.0, b"2"), ("c", 3.0, b"3"), ("b", 9.0, b"x")]) == 3
    assert log.prune(2.0) == 1
    assert log.decisions(["a", "b", "c"]) == [None, b"2", b"3"]
    assert len(log) == 2


def test_a_batch_that_breaks_leaves_nothing_on_disk(tmp_path: Path) -> None:
    log = DiskDecisionLog(tmp_path / "log.sqlite")
    with pytest.raises(sqlite3.IntegrityError):
        log.add([("a", 1.0, b"1"), ("b", 2.0, None)])  # type: ignore[list-item]  # breaks NOT NULL on purpose
    assert log.decisions(["a", "b"]) == [None, None]
    assert log.add([("a", 1.0, b"1")]) == 1


def test_a_disk_log_held_by_another_writer_is_a_dependency_that_is_down(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    log = DiskDecisionLog(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    log._database.execute("PRAGMA busy_timeout=10")
    with pytest.raises(DependencyDown, match="no other process writes it"):
        log.add([("a", 1.0, b"1")])
    other.execute("ROLLBACK")
    other.close()
    assert log.add([("a", 1.0, b"1")]) == 1


def test_a_full_disk_log_is_down_keeps_what_it_has_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    log = DiskDecisionLog(tmp_path / "log.sqlite")
    log.add([("a", 1.0, b"1")], {0: 1})
    [pages] = log._database.execute("PRAGMA page_count").fetchone()
    log._database.execute(f"PRAGMA max_page_count={pages}")
    rows = [(f"t{number}", 2.0, bytes(1000)) for number in range(500)]
    with pytest.raises(DependencyDown, match=r"log\.sqlite .*full.* check that its disk has room"):
        log.add(rows, {0: 501})
    assert log.decisions(["a", "t0"]) == [b"1", None], "all of a batch or nothing"
    assert log.positions() == {0: 1}
    log._database.execute("PRAGMA max_page_count=100000")
    assert log.add(rows, {0: 501}) == 500
    assert log.positions() == {0: 501}


def test_a_disk_log_that_cannot_be_opened_says_which(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DependencyDown, match=r"file.log\.sqlite"):
        DiskDecisionLog(tmp_path / "file" / "log.sqlite")


def test_recorded_decisions_end_with_their_time_to_live(redis_url: str) -> None:
    store = RedisStore(redis_url, (60.0,), decision_ttl_seconds=7, label_ttl_seconds=60)
    store.record([(0, "a", b"1")], fencing_tokens=store.claim([0]))
    assert 0 < store._shards._client.ttl("rw:{s0}:d:a") <= 7
