"""What a worker refuses to work with, and the one clear line in which it says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from infra.process import GuardedProcess
from tests.support.installation import Install
from tests.support.services import KafkaUnderTest, Unique, create_topics

pytestmark = pytest.mark.guarantee

BATCH_WORKER = Path(__file__).with_name("runtime") / "batch_worker.py"


@pytest.mark.parametrize("role", ["score", "learn", "monitor"])
def test_worker_without_its_topics_ends_with_one_line_that_says_what_to_do(
    install: Install, role: str
) -> None:
    system = install()
    worker = system.start(role, topic_prefix="nowhere-")
    system.until(lambda: worker.poll() is not None, 30, "the worker did not end")
    assert worker.poll() == 1
    [line] = worker.log.read_text().splitlines()
    assert line.startswith("Error: topics missing: nowhere-transactions, nowhere-scores")
    assert line.endswith("`riverwatch topics` creates them")


def test_worker_with_another_number_of_partitions_ends_with_one_line_that_says_what_to_do(
    install: Install,
) -> None:
    system = install(partitions=3)
    worker = system.start("score", partitions=5)
    system.until(lambda: worker.poll() is not None, 30, "the worker did not end")
    assert worker.poll() == 1
    [line] = worker.log.read_text().splitlines()
    assert line.startswith("Error: the topics have 3 partitions each")
    assert line.endswith(
        "and the settings say 5: set RIVERWATCH_PARTITIONS=3, or have `riverwatch topics --grow 5` add them"
    )


def test_group_that_formed_before_its_topic_was_known_gets_it_at_once(
    kafka: KafkaUnderTest, unique: Unique, install: Install
) -> None:
    """As after a restart of the broker, which at first may not know its topics."""
    system = install()
    topic = unique("late")
    handled = system.folder / "handled"
    asked = ["--bootstrap", kafka.bootstrap, "--group", unique("group"), "--topic", topic]
    command = [sys.executable, str(BATCH_WORKER), *asked, "--log", str(handled)]
    worker = GuardedProcess(command, system.folder / "batch-worker.log")
    system.running.append(worker)
    system.until(lambda: "No partition metadata" in worker.log.read_text(), 30, "the group did not form")
    create_topics(kafka.bootstrap, {topic: 2})
    system.until(
        lambda: handled.exists() and "# assigned 2" in handled.read_text(), 10, "the topic was not noticed"
    )
