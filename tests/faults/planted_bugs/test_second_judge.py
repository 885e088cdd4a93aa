"""The second judge on a whole installation: content with a sound one, and bugs of shared code are found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from infra.process import GuardedProcess
from stream.demo.show import variables
from stream.messages import Label, Transaction, encode
from stream.verify.audit import Audit
from tests.faults.planted_bugs.broken_worker import planted
from tests.faults.second_opinion import BOTH_JUDGE, disagreement, second_opinion
from tests.second_judge.judging import Opinion
from tests.support.installation import Install, Installation
from tests.support.model_keys import KEY

pytestmark = pytest.mark.guarantee

ROOT = Path(__file__).parents[3]
START = datetime(2026, 1, 5, tzinfo=UTC)


def payment(number: int) -> Transaction:
    """Forty cards, seven merchants whose ids begin alike, now and then a device and a place."""
    place = number * 2654435761 % 1000
    return Transaction(
        transaction_id=f"t{number}",
        event_time=START + timedelta(minutes=number, milliseconds=place) - timedelta(days=place % 97 == 0),
        card_id=f"c{number % 40}",
        merchant_id=f"m-{number % 7}",
        amount_minor=100 + number * 7919 % 9000 + 400_000 * (number % 59 == 0),
        currency="EUR" if number % 3 else "JPY",
        device_id=f"d{number % 11}" if number % 5 else None,
        country=("DE", "FR", None)[number // 40 % 3],
        channel="online",
        latitude=place / 10 - 50 if number % 4 else None,
        longitude=place / 7 - 70 if number % 4 else None,
    )


def labels(upto: int) -> Iterator[Label]:
    """Frauds and genuine, some twice, some corrected, some of payments nobody made, one assumed genuine."""
    for number in range(0, upto, 3):
        known = START + timedelta(minutes=number, days=1)
        label = Label(transaction_id=f"t{number}", is_fraud=number % 2 == 0, known_at=known, source="analyst")
        yield label
        if number % 5 == 0:
            yield label
        if number % 7 == 0:
            later = known + timedelta(hours=number % 11 - 5)
            yield msgspec.structs.replace(label, is_fraud=not label.is_fraud, known_at=later)
        if number % 13 == 0:
            yield msgspec.structs.replace(label, source="maturity", is_fraud=False)
    yield Label(transaction_id="nobody", is_fraud=True, known_at=START, source="analyst")


def send_odd(system: Installation) -> None:
    """What must be refused: no JSON, no key, another's key, a currency of nowhere, a card number."""
    raw = encode(payment(5000))
    system.send_raw("transactions", b"c1", b"{not json")
    system.send_raw("transactions", None, raw)
    for key in (b"c1", b"c2", b"c3"):
        system.send_raw("transactions", key, raw)
    system.send_raw("transactions", b"c0", raw.replace(b'"EUR"', b'"XAU"'))
    card = b"4111111111111111"
    system.send_raw("transactions", card, raw.replace(b'"c0"', b'"' + card + b'"'))
    system.send_raw("labels", b"t1", b'{"transaction_id":"t1"}')
    system.flush()


def broken(system: Installation, bugs: str) -> GuardedProcess:
    own = {"RIVERWATCH_MODEL_KEY": KEY, "RIVERWATCH_TEST_BUGS": bugs}
    worker = GuardedProcess(
        [sys.executable, str(Path(__file__).with_name("broken_worker.py")), "score"],
        system.folder / f"broken-{len(system.running)}.log",
        env={**os.environ, **variables(system.settings), **own},
        cwd=ROOT,
    )
    system.running.append(worker)
    return worker


def said(opinion: Opinion) -> str:
    return "\n".join(map(str, opinion.findings))


def test_both_judges_are_content_with_a_sound_installation(install: Install) -> None:
    system = install(partitions=3, maturity="3650d", review_share=0.1)
    workers = [system.start("score"), system.start("score"), system.start("learn")]
    early = list(labels(1200))
    system.send(early[:100])  # before their payments
    system.send(payment(number) for number in range(500))
    send_odd(system)
    system.drained("score", "transactions")
    system.send(early[100:])
    system.send(payment(number) for number in range(450, 1500))
    system.settled()
    system.send(payment(number) for number in range(1500, 2500))
    system.settled()
    for worker in workers:
        worker.kill()
    promises = Audit(system.settings).run().promises
    opinion = second_opinion(system.settings)
    assert said(opinion) == ""
    assert disagreement(promises, opinion, set()) == []
    figures = opinion.figures
    assert (figures.events, figures.decided, figures.duplicates) == (2557, 2500, 50)
    assert (figures.dead_letters, figures.lag) == (7, 0)
    assert figures.features > 2500 * 20
    command = [sys.executable, "-m", "tests.second_judge", "--bootstrap", system.settings.kafka_bootstrap]
    command += ["--redis", system.settings.redis_url, "--topic-prefix", system.settings.topic_prefix]
    command += ["--redis-prefix", system.settings.redis_prefix]
    command += ["--score-group", system.settings.group("score")]
    command += ["--learn-group", system.settings.group("learn")]
    asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (asked.returncode, asked.stdout.strip()) == (0, str(figures)), asked.stderr


def test_bugs_of_admission_join_and_feature_that_both_sides_share_are_found_by_the_second_judge_alone(
    install: Install,
) -> None:
    system = install(partitions=1, maturity="3650d")
    bugs = ("admit-any-key", "cut-keys", "round-a-feature")
    worker = broken(system, ",".join(bugs))
    system.send(payment(number) for number in range(600))
    send_odd(system)
    system.drained("score", "transactions")
    worker.kill()
    with planted(*bugs):
        promises = Audit(system.settings).run().promises
    first = [promise.breaks for promise in promises if promise.number in BOTH_JUDGE]
    assert first == [(), (), ()]
    opinion = second_opinion(system.settings)
    assert "admission: a record that must be refused was decided" in said(opinion)
    assert "t5000" in said(opinion)
    assert "key_mismatch" in said(opinion)
    assert "join: a decision names other entities than its event" in said(opinion)
    assert "feature card.z.30d: served otherwise than the published arithmetic gives" in said(opinion)
    [told] = disagreement(promises, opinion, set())
    assert told.startswith("the judges disagree: the first one is content")


def test_decisions_that_are_joined_to_another_event_are_found(install: Install) -> None:
    system = install(partitions=1, maturity="3650d")
    worker = broken(system, "mistake-the-origin")
    system.send(payment(number) for number in range(400))
    system.drained("score", "transactions")
    worker.kill()
    opinion = second_opinion(system.settings)
    assert "join: a decision's origin leads to another transaction's event" in said(opinion)
    assert "t1 (event 0/2), which is of t2" in said(opinion)
    promises = Audit(system.settings).run().promises
    assert [promise.number for promise in promises if promise.breaks] == [1, 2, 4]
    assert disagreement(promises, opinion, set()) == []
