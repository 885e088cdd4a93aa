"""What befalls a Redis of more than one server, under traffic: every promise holds, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.process import GuardedProcess
from infra.services import LocalRedis, redis_problem
from stream.verify.audit import Audit
from tests.faults.second_opinion import second_opinion
from tests.support.fault_traffic import CHANGED, caught_up, traffic
from tests.support.installation import Install, Installation
from tests.support.redis_servers.cluster import Cluster, slots_of
from tests.support.redis_servers.standby import Standby

pytestmark = [
    pytest.mark.guarantee,
    pytest.mark.skipif(redis_problem() is not None, reason=str(redis_problem())),
]

SHARDS = 16


def holds(system: Installation) -> None:
    system.until(lambda: caught_up(system), 60, "the workers are behind")
    report = Audit(system.settings).run()
    assert {promise.verdict for promise in report.promises} == {"holds"}, report
    assert second_opinion(system.settings).findings == []


def say(worker: GuardedProcess, text: str) -> bool:
    return text in worker.log.read_text(errors="replace")


def test_failover_to_a_replica_that_lags_loses_nothing_where_workers_wait_for_it(
    install: Install, tmp_path: Path
) -> None:
    with (
        LocalRedis(tmp_path, appendonly=True, administered=True) as master,
        Standby(tmp_path, master, fsync="everysec", name="second") as second,
    ):
        system = install(redis_url=master.url, redis_replicas=1, **CHANGED)
        score, learn = system.start("score"), system.start("learn")
        system.send(traffic(0, 400))
        system.drained("score", "transactions")
        second.cut_off()
        system.send(traffic(400, 800))
        system.until(lambda: say(score, "0 of 1 replicas have what was written"), 20, "no worker says so")
        assert second.bytes_behind() > 0
        with second.promoted() as promoted, Standby(tmp_path, promoted, fsync="everysec", name="third"):
            system.send(traffic(800, 1000))
            holds(system)
            assert not say(score, "Redis is behind"), "nothing was lost"
            assert {worker.poll() for worker in (score, learn)} == {None}, "no worker ended"
            system.close()


def test_cluster_whose_slots_move_and_whose_master_is_killed_keeps_every_promise(
    install: Install, tmp_path: Path
) -> None:
    settings = {"cluster-node-timeout": "2000"}
    with Cluster(tmp_path, 3, appendonly=True, settings=settings) as cluster:
        system = install(redis_url=cluster.url, redis_cluster=True, shards=SHARDS, **CHANGED)
        workers = [system.start("score"), system.start("score"), system.start("learn")]
        system.send(traffic(0, 200))
        system.drained("score", "transactions")
        sent = 200
        for slot in slots_of("rw", range(0, SHARDS, 4)):
            system.send(traffic(sent, sent + 200))
            sent += 200
            moved = cluster.move(slot, (cluster.owner(slot) + 1) % 3, pause=0.02)
            assert moved > 0, "a slot that moved held live keys"
        system.send(traffic(sent, sent + 200))
        cluster.masters[1].kill()
        system.send(traffic(sent + 200, sent + 400))
        system.until(lambda: any(say(worker, "cannot serve now") for worker in workers), 20, "nobody says so")
        cluster.masters[1].start()
        system.send(traffic(sent + 400, sent + 500))
        holds(system)
        assert {worker.poll() for worker in workers} == {None}, "no worker ended"
        system.close()
