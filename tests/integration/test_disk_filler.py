"""The decision log on disk is filled whatever fails, and every decision is told of."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from stream.adapters.clients import redis_client
from stream.adapters.disk.decision_log import DiskDecisionLog
from stream.adapters.disk.filler import DiskFiller
from stream.adapters.redis.dump import RedisDump
from stream.ports import DependencyDown
from stream.verify.audit import Audit
from tests.support.builders import payment
from tests.support.fault_traffic import CHANGED, caught_up, traffic
from tests.support.full_disk import CAN_LIMIT, WHY_NOT, no_file_above
from tests.support.installation import Install, Installation


def decided(install: Install, number: int) -> Installation:
    """An installation in which so many payments are decided."""
    system = install(partitions=1)
    system.start("score")
    system.send(payment(n, minutes=n, card="c", merchant="m") for n in range(number))
    system.drained("score", "transactions")
    return system


def test_decisions_whose_coming_could_not_be_told_are_told_again(install: Install, tmp_path: Path) -> None:
    """Else a label that waits for one of them would wait for ever."""
    system = decided(install, 20)
    told: list[str] = []
    failures = iter([True, True])
    done = threading.Event()

    def came(names: Sequence[str]) -> None:
        if next(failures, False):
            raise DependencyDown("Redis does not answer")
        told.extend(names)
        if len(set(told)) == 20:
            done.set()

    log = DiskDecisionLog(tmp_path / "log.sqlite")
    filler = DiskFiller(system.settings, log, came)
    filler.start()
    assert done.wait(20)
    filler.stop()
    assert set(told) == {f"t{n}" for n in range(20)}
    assert len(log) == 20
    log.close()


@pytest.mark.guarantee
@pytest.mark.skipif(not CAN_LIMIT, reason=WHY_NOT)
def test_learner_on_a_full_disk_says_where_and_goes_on_when_there_is_room(install: Install) -> None:
    system = install(decision_log="disk", **CHANGED)
    system.start("score")
    learner = system.start("learn", state_dir=system.folder / "learn")
    system.send(traffic(0, 300))
    system.until(lambda: caught_up(system) and bool(system.read("models")), 60, "nothing is learned")
    [path] = (system.folder / "learn").glob("*.sqlite")
    with no_file_above(learner.log.stat().st_size + 65_536, learner.pid):
        system.send(traffic(300, 900))
        said = f"the decision log is not filled: the decision log {path} cannot serve now"
        system.until(lambda: said in learner.log.read_text(), 30, "the learner does not say so")
        system.drained("score", "transactions")
    system.until(lambda: "is filled again" in learner.log.read_text(), 30, "it does not go on")
    system.send(traffic(900, 1000))
    system.until(lambda: caught_up(system), 60, "the workers are behind")
    assert learner.poll() is None
    report = Audit(system.settings).run()
    assert {promise.verdict for promise in report.promises} == {"holds"}, report
    dump = RedisDump(redis_client(system.settings), 1, system.settings.redis_prefix)
    decided = {f"t{number}" for number in range(1000)}
    system.until(
        lambda: not decided & {name for name, _ in dump.pending()},
        20,
        "a label waits for a decision that is there",
    )
    log = DiskDecisionLog(path)
    assert len(log) == 1000
    log.close()
