"""The judge is broken in once: workers with a bug for each promise, and `riverwatch verify` finds each.

What damage to topics and to Redis it finds is in tests/integration/test_verify.py; that a worker of an older
generation changes nothing (promise 5) shows as promises 1 and 2, and is broken in tests/properties.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.process import GuardedProcess
from stream.adapters.kafka.models import trust_of
from stream.demo.show import variables
from stream.messages import Label, Transaction
from stream.verify.audit import Audit
from tests.faults.faults import forgeries
from tests.support.builders import label, payment
from tests.support.installation import Install, Installation
from tests.support.model_keys import KEY

pytestmark = pytest.mark.guarantee

WORKER = Path(__file__).with_name("broken_worker.py")


def paid(numbers: range) -> Iterator[Transaction]:
    return (
        payment(n, minutes=n, card=f"c{n % 40}", merchant=f"m{n % 7}", amount=100 + n * 7919 % 9000)
        for n in numbers
    )


def reported(numbers: range) -> Iterator[Label]:
    return (label(n, fraud=n % 2 == 0, minutes=n, days=1, source="analyst") for n in numbers)


def broken(system: Installation, role: str, bugs: str) -> GuardedProcess:
    own = {"RIVERWATCH_MODEL_KEY": KEY, "RIVERWATCH_TEST_BUGS": bugs}
    worker = GuardedProcess(
        [sys.executable, str(WORKER), role],
        system.folder / f"broken-{role}-{len(system.running)}.log",
        env={**os.environ, **variables(system.settings), **own},
        cwd=Path(__file__).parents[3],
    )
    system.running.append(worker)
    return worker


def findings(system: Installation) -> dict[int, set[str]]:
    report = Audit(system.settings).run()
    return {promise.number: {each.what for each in promise.breaks} for promise in report.promises}


def test_bugs_of_a_score_worker_are_found_each_under_its_promise(install: Install) -> None:
    system = install(partitions=1, maturity="3650d")
    worker = broken(system, "score", "forget-decisions,count-wrongly,acknowledge-first")
    system.send(paid(range(700)))
    system.drained("score", "transactions")
    system.send(paid(range(100, 140)))
    system.drained("score", "transactions")
    worker.kill()
    found = findings(system)
    assert "is not in Redis any more" in " ".join(found[1])
    assert "has no decision" in found[1]
    assert "two events of one transaction were each decided" in found[1]
    assert "its profile in Redis is not what its events give" in found[2]
    assert "an acknowledged event has neither decision nor dead letter" in found[4]


def test_bug_of_a_learn_worker_is_found(install: Install) -> None:
    system = install(partitions=1, maturity="3650d", negative_sampling_rate=0.9)
    system.start("score", negative_sampling_rate=0.9)
    broken(system, "learn", "learn-twice")
    system.send(paid(range(300)))
    system.drained("score", "transactions")
    system.send(reported(range(200)))
    system.send(reported(range(50)))
    system.drained("learn", "labels")
    found = findings(system)
    assert "a model says it has learned another number of labels than the log gives" in found[3]


def test_worker_that_trusts_a_forged_model_is_found(install: Install) -> None:
    system = install(partitions=1, maturity="3650d", negative_sampling_rate=0.9)
    learner = system.start("learn", negative_sampling_rate=0.9)
    worker = broken(system, "score", "trust-anybody")
    system.send(paid(range(1200)))
    system.drained("score", "transactions")
    system.send(reported(range(1000)))  # enough to be calibrated and served
    system.drained("learn", "labels")
    system.until(lambda: bool(system.read("models")), 20, "no model")
    learner.kill()
    newest = system.read("models")[-1].value or b""
    foreign = forgeries(newest, trust_of(system.settings))[2]
    forged = foreign.replace(b'"version":"default@', b'"version":"forged@')
    system.send_raw("models", b"default", forged)
    system.flush()
    sent = 1200

    def is_used() -> bool:
        nonlocal sent
        system.send(paid(range(sent, sent + 50)))
        sent += 50
        return any(b'"model_version":"forged@' in (record.value or b"") for record in system.read("scores"))

    system.until(is_used, 30, "the forged model is not used")
    worker.kill()
    assert "a model that cannot be trusted has decided" in findings(system)[6]
