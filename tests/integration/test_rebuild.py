"""Redis is lost and comes back from Kafka: the same bits, and the workers go on as if nothing had been."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from producers.simulator.simulate import DEMO, simulate
from stream.adapters.clients import redis_client
from stream.adapters.redis.restore import RedisRestore
from stream.adapters.redis.store import layout_of
from stream.config.factories import feature_spec
from stream.messages import Label, Transaction
from stream.recovery.rebuild import rebuild
from stream.verify.audit import Audit

if TYPE_CHECKING:
    from tests.support.installation import Installation

pytestmark = pytest.mark.guarantee

Install = Callable[..., "Installation"]


def simulated(count: int, seed: int) -> list[Transaction | Label]:
    return list(islice(simulate(DEMO, seed=seed), count))


def stood(client: Any, silent: set[bytes]) -> dict[bytes, Any]:
    """Everything in Redis but journals, owners, and assumed labels that would come again.

    Args:
        client: of Redis.
        silent: transactions whose assumed label is in the log already.
    """
    readers = {b"string": client.get, b"hash": client.hgetall}
    found: dict[bytes, Any] = {}
    for key in client.scan_iter("rw:{*"):
        if b":journal:" in key:
            continue
        kind = client.type(key)
        if kind == b"zset":
            entries = client.zrange(key, 0, -1, withscores=True)
            due = b"{due" in key
            found[key] = [(name, score) for name, score in entries if not (due and name in silent)]
        else:
            found[key] = readers[kind](key)
        if key.endswith(b"}:partitions"):
            kept = (b"fence:", b"decided", b"rejected", b"copies")
            found[key] = {name: value for name, value in found[key].items() if name.startswith(kept)}
        if key.endswith(b"}:labels"):  # of several shards each ends at the last label it saw itself
            del found[key]
    return found


def labels_before(items: list[Transaction | Label]) -> list[Label]:
    """Two labels on some of the payments, and one on a payment that never comes."""
    day = timedelta(days=1)
    paid = [item for item in items if isinstance(item, Transaction)]
    early = [
        Label(transaction_id=item.transaction_id, is_fraud=fraud, known_at=item.event_time + late, source="x")
        for item in paid[::150]
        for fraud, late in ((True, 2 * day), (False, day))
    ]
    ghosts = [
        Label(transaction_id="ghost", is_fraud=fraud, known_at=paid[-1].event_time + late, source="x")
        for fraud, late in ((True, 2 * day), (False, day))
    ]
    return early + ghosts


@pytest.mark.parametrize("own", [{}, {"shards": 3, "features_in_scores": False}], ids=["one", "shards"])
def test_everything_is_rebuilt_to_the_same_bits(install: Install, own: dict[str, Any]) -> None:
    changed = {"negative_sampling_rate": 0.3, "maturity": "2d", **own}
    system = install(partitions=2, **changed)
    workers = [system.start("score", **changed), system.start("learn", **changed)]
    items = simulated(3000, seed=8)
    system.send(labels_before(items))
    system.drained("learn", "labels")
    system.send(items)
    system.send(item for item in items[::300] if isinstance(item, Transaction))
    system.send_raw("transactions", b"c", b"junk")
    system.flush()
    system.settled()
    for process in workers:
        process.stop(15)
    client = redis_client(system.settings)
    silent = {r.key for r in system.read("labels") if r.key and b'"maturity"' in (r.value or b"")}
    before = stood(client, silent)
    kinds = {key.rpartition(b"}:")[2].partition(b":")[0] for key in before}
    assert kinds >= {b"e", b"l", b"d", b"k", b"room", b"room-times", b"standings", b"partitions"}
    assert sum(b"{due" in key for key in before) == 2
    client.flushdb()
    done = rebuild(system.settings)
    assert done.remarks == ()
    after = stood(client, silent)
    assert after.keys() == before.keys()
    assert {key for key in before if before[key] != after[key]} == set()
    system.start("score", **changed)
    system.start("learn", **changed)
    system.send(simulated(4000, seed=8)[3000:])
    system.settled()
    report = Audit(system.settings).run()
    assert {promise.verdict for promise in report.promises} == {"holds"}, report


def test_workers_wait_while_the_store_is_rebuilt_and_go_on_after_it(install: Install) -> None:
    """Redis loses everything under traffic; a rebuild is broken off, and the next one ends."""
    changed = {"negative_sampling_rate": 0.3, "maturity": "2d", "batch_size": 20}
    system = install(partitions=2, **changed)
    for role in ("score", "score", "learn"):
        system.start(role, **changed)
    items = simulated(6000, seed=9)
    system.send(items[:2000])
    system.settled()
    client = redis_client(system.settings)
    parts = iter(range(2000, 6000, 50))
    ended = threading.Event()

    def traffic() -> None:
        for at in parts:
            system.send(items[at : at + 50])
            ended.wait(0.03)

    def says(what: str) -> bool:
        return any(what in worker.waiting for worker in system.workers())

    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        system.until(lambda: system.behind("score", "transactions") > 0, 30, "there is no traffic")
        client.flushdb()
        system.until(lambda: says("Redis holds nothing of"), 30, "the learner did not notice")
        spec = feature_spec(system.settings)
        RedisRestore(client, 1, "rw", layout_of(spec.half_lives)).begin()
        system.until(lambda: says("a rebuild is running"), 30, "nobody says that a rebuild is running")
        rebuild(system.settings)
    finally:
        ended.set()
        thread.join()
    system.settled()
    report = Audit(system.settings).run()
    assert {promise.verdict for promise in report.promises} == {"holds"}, report
