"""What the stores cost: CPU of the caller and of Redis for an event, and bytes.

    python -m benchmarks.bench_store --redis redis://127.0.0.1:6379/9

The database is emptied. CPU, not elapsed time: `process_time` of this process, `INFO cpu` of the server.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import redis
from rich.console import Console
from rich.table import Table

from infra.services import LocalRedis
from models.features.decay import weights
from models.features.profiles import Event, label_delta
from stream.adapters.disk.decision_log import DiskDecisionLog
from stream.adapters.memory.store import MemoryStore
from stream.adapters.redis.store import RedisStore
from stream.ports import EntityRef, EventUpdate, LabelUpdate

HALF_LIVES = (3600.0, 86_400.0, 604_800.0)
BATCH = 200
KINDS = (("card", 5000, 5), ("merchant", 500, 0), ("device", 4000, 0), ("ip", 3000, 0), ("country", 40, 0))
DECISION = b"d" * 1000


class Cost(NamedTuple):
    """Microseconds of CPU an event."""

    client: float
    redis: float


def stream(events: int, entities: int, seed: int = 1) -> list[EventUpdate]:
    """Events of one partition, each touching the first so many of KINDS."""
    chance = random.Random(seed)
    now = 1.7e9
    updates = []
    for offset in range(events):
        now += chance.random() * 3.0
        amount = chance.lognormvariate(3.0, 1.0)
        event = Event(now, amount, math.log1p(amount), weights(now, HALF_LIVES), chance.randbytes(12))
        refs = tuple(
            EntityRef(kind, f"{kind}-{min(int(chance.expovariate(4.0 / many)), many)}", max_recent)
            for kind, many, max_recent in KINDS[:entities]
        )
        updates.append(EventUpdate(0, offset, event, refs))
    return updates


def batches(updates: list[EventUpdate]) -> Iterator[tuple[list[EventUpdate], int]]:
    """The stream in batches, each with the offset up to which decisions are recorded."""
    for start in range(0, len(updates), BATCH):
        yield updates[start : start + BATCH], start - 1


def apply_all(store: MemoryStore | RedisStore, updates: list[EventUpdate]) -> None:
    """The profiles of the whole stream."""
    fencing_tokens = store.claim([0])
    for batch, recorded in batches(updates):
        store.apply(batch, ends={0: batch[-1].offset}, recorded={0: recorded}, fencing_tokens=fencing_tokens)


def record_all(store: RedisStore, updates: list[EventUpdate]) -> None:
    """Look up and record a decision for each event."""
    fencing_tokens = store.claim([0])
    for batch, _ in batches(updates):
        ids = [f"transaction-{update.offset:08}" for update in batch]
        store.lookup(ids)
        store.record([(0, key, DECISION) for key in ids], fencing_tokens=fencing_tokens)


def learn_all(store: RedisStore, updates: list[EventUpdate]) -> None:
    """A label for each event."""
    for batch, recorded in batches(updates):
        labels = [
            LabelUpdate(
                offset,
                f"transaction-{offset:08}",
                offset % 10 == 0,
                event.time,
                label_delta(f"transaction-{offset:08}", event.time, offset % 10 == 0, HALF_LIVES),
                entities,
                b"",
            )
            for _, offset, event, entities in batch
        ]
        store.apply_labels(labels, learned=recorded)


def measured(work: Callable[[], None], events: int, client: redis.Redis | None = None) -> Cost:
    """The cost of some work."""

    def server() -> float:
        if client is None:
            return 0.0
        info: dict[str, Any] = client.info("cpu")
        return float(info["used_cpu_user"] + info["used_cpu_sys"])

    before, began = server(), time.process_time()
    work()
    ours = time.process_time() - began
    return Cost(ours / events * 1e6, (server() - before) / events * 1e6)


def bench_stores(url: str | None, events: int, rounds: int) -> Table:
    """CPU by store, number of entities and step; the best of some rounds."""
    table = Table("store / shards", "step", "entities", "client us", "Redis us")

    def row(store: str, step: str, entities: int, costs: list[Cost]) -> None:
        best = min(costs, key=sum)
        table.add_row(
            store, step, str(entities), f"{best.client:.1f}", f"{best.redis:.1f}" if best.redis else ""
        )

    for entities in (2, 5):
        updates = stream(events, entities)
        memory = [
            measured(lambda: apply_all(MemoryStore(HALF_LIVES), updates), events)  # noqa: B023 - runs at once
            for _ in range(rounds)
        ]
        row("memory", "apply", entities, memory)
        if url is None:
            continue
        client = redis.Redis.from_url(url)
        for shards in (1, 4):
            costs: dict[str, list[Cost]] = {"apply": [], "look up, record": [], "label": []}
            for _ in range(rounds):
                client.flushdb()
                store = RedisStore(
                    url, HALF_LIVES, shards, decision_ttl_seconds=86_400, label_ttl_seconds=86_400
                )
                for step, work in zip(costs, (apply_all, record_all, learn_all), strict=True):
                    costs[step].append(
                        measured(lambda: work(store, updates), events, client)  # noqa: B023 - runs at once
                    )
            for step, each in costs.items():
                row(f"Redis / {shards}", step, entities, each)
    return table


def sizes(client: redis.Redis) -> Table:
    """Mean MEMORY USAGE of each kind of key, key and allocator included."""
    table = Table("in Redis", "bytes")
    for name, pattern in (
        ("profile, no notes", "rw:*:e:merchant:*"),
        ("profile, five notes of 12 bytes", "rw:*:e:card:*"),
        ("label profile", "rw:*:l:merchant:*"),
        ("decision of 1,000 bytes", "rw:*:d:*"),
        ("what is known of a transaction", "rw:*:k:*"),
    ):
        keys = [key for _, key in zip(range(300), client.scan_iter(pattern, 1000), strict=False)]
        usage = [int(client.memory_usage(key) or 0) for key in keys]
        table.add_row(name, f"{sum(usage) / len(usage):.0f}")
    return table


def bench_disk(events: int) -> Table:
    """Speed and bytes of the decision log on disk."""
    table = Table("decision log on disk", "")
    with TemporaryDirectory() as folder:
        log = DiskDecisionLog(Path(folder) / "decisions.sqlite")
        ids = [f"transaction-{n:04}" for n in range(events)]
        rows = [(key, float(n), DECISION) for n, key in enumerate(ids)]

        def add() -> None:
            for at in range(0, events, BATCH):
                log.add(rows[at : at + BATCH])

        def read() -> None:
            for at in range(0, events, BATCH):
                log.decisions(ids[at : at + BATCH])

        adding, reading = measured(add, events), measured(read, events)
        log.close()
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    table.add_row("add, CPU us", f"{adding.client:.1f}")
    table.add_row("read, CPU us", f"{reading.client:.1f}")
    table.add_row("bytes a decision of 1,000 bytes", f"{size / events:.0f}")
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", help="URL of a database that may be emptied; by default one is started")
    parser.add_argument("--disk", action="store_true", help="measure the decision log on disk too")
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    if asked.redis:
        measure(asked)
    else:
        with TemporaryDirectory() as folder, LocalRedis(Path(folder)) as server:
            asked.redis = server.url
            measure(asked)


def measure(asked: argparse.Namespace) -> None:
    """Measure as asked, and print."""
    console = Console()
    info: dict[str, Any] = redis.Redis.from_url(asked.redis).info("server")
    server = f", {info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"
    console.print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}{server}; "
        f"{asked.events} events in batches of {BATCH}, {len(HALF_LIVES)} half-lives, best of {asked.rounds}"
    )
    console.print(bench_stores(asked.redis, asked.events, asked.rounds))
    console.print(sizes(redis.Redis.from_url(asked.redis)))
    if asked.disk:
        console.print(bench_disk(asked.events))


if __name__ == "__main__":
    main()
