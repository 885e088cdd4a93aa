"""What Kafka refuses for good is one line with the cause, the setting and what to do, and exit code 1."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from infra.apache_kafka import jars_problem, java_problem
from infra.process import GuardedProcess, free_port
from stream.adapters.kafka.admin import create_topics
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.errors import failure
from stream.adapters.kafka.listener import spoken_by
from stream.adapters.kafka.outbox import KafkaOutbox
from stream.adapters.kafka.reader import TopicReader
from stream.config.settings import Settings, load
from stream.ports import DependencyDown, DependencyRefused, Message
from tests.support.guarded_kafka import (
    PASSWORD,
    USER,
    AclOperation,
    GuardedKafka,
    ResourceType,
    guarded_kafka,
)
from tests.support.model_keys import KEY
from tests.support.patience import until

pytestmark = pytest.mark.guarantee

SASL = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": USER, "sasl_password": PASSWORD}
TOPIC, GROUP = ResourceType.TOPIC, ResourceType.GROUP
ALL_TOPICS = (
    (TOPIC, "acl-", AclOperation.READ),
    (TOPIC, "acl-", AclOperation.WRITE),
    (GROUP, "acl-", AclOperation.READ),
)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedKafka]:
    if (problem := java_problem() or jars_problem()) is not None or shutil.which("keytool") is None:
        pytest.skip(problem or "no keytool")
    with guarded_kafka(tmp_path_factory.mktemp("guarded")) as found:
        made = {"kafka_bootstrap": found.plain, "topic_prefix": "acl-", "partitions": 2}
        create_topics(load(made, {}).settings)
        yield found


def settings_of(bootstrap: str, **kafka: str) -> Settings:
    values = {f"kafka_{name}": value for name, value in kafka.items()}
    prefixes = {"topic_prefix": "acl-", "group_prefix": "acl", "partitions": 2}
    return load({"kafka_bootstrap": bootstrap, **prefixes, **values}, {}).settings


def environment(bootstrap: str, kafka: dict[str, str], **more: str) -> dict[str, str]:
    own = {f"kafka_{name}": value for name, value in kafka.items()} | {"kafka_bootstrap": bootstrap} | more
    own = {"topic_prefix": "acl-", "group_prefix": "acl", "partitions": "2", "model_key": KEY} | own
    return os.environ | {f"RIVERWATCH_{name.upper()}": value for name, value in own.items()}


def refusal_of(command: list[str], env: dict[str, str], folder: Path) -> str:
    """The only line of a command that has to end with code 1."""
    done = subprocess.run(
        [sys.executable, "-m", "stream.cli", *command],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 1, said
    [line] = said
    assert PASSWORD not in line
    return line


CASES: dict[str, tuple[str, dict[str, str], tuple[str, ...]]] = {
    "wrong password": (
        "sasl",
        {**SASL, "sasl_password": "wrong"},
        ("Invalid username or password", "RIVERWATCH_KAFKA_SASL_PASSWORD", f"({USER})"),
    ),
    "wrong mechanism": (
        "sasl",
        {**SASL, "sasl_mechanism": "SCRAM-SHA-256"},
        ("Unsupported SASL mechanism", "RIVERWATCH_KAFKA_SASL_MECHANISM"),
    ),
    "no SASL where it is asked": (
        "sasl",
        {},
        ("speaks SASL_PLAINTEXT and RIVERWATCH_KAFKA_SECURITY_PROTOCOL says PLAINTEXT",),
    ),
    "no TLS where it is asked": (
        "tls",
        {},
        ("speaks SSL and RIVERWATCH_KAFKA_SECURITY_PROTOCOL says PLAINTEXT",),
    ),
    "TLS where there is none": (
        "plain",
        {"security_protocol": "SSL"},
        ("speaks PLAINTEXT and RIVERWATCH_KAFKA_SECURITY_PROTOCOL says SSL",),
    ),
    "SASL where there is none": (
        "plain",
        SASL,
        ("speaks PLAINTEXT and RIVERWATCH_KAFKA_SECURITY_PROTOCOL says SASL_PLAINTEXT",),
    ),
    "unknown certificate authority": (
        "tls",
        {"security_protocol": "SSL"},
        ("certificate verify failed", "RIVERWATCH_KAFKA_SSL_CA_FILE"),
    ),
    "advertised address that is not reached": (
        "lost",
        {},
        ("its brokers are at", "Connection refused", "advertised.listeners"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_lasts_is_one_line_with_the_cause_and_the_setting(
    broker: GuardedKafka, tmp_path: Path, case: str
) -> None:
    listener, kafka, said = CASES[case]
    line = refusal_of(["score"], environment(getattr(broker, listener), kafka), tmp_path)
    for part in (*said, f"Error: Kafka ({getattr(broker, listener)})"):
        assert part in line


@pytest.mark.parametrize(
    "command", [["topics"], ["learn"], ["monitor"], ["verify"], ["produce", "simulate", "--events", "1"]]
)
def test_every_command_says_it_alike(broker: GuardedKafka, tmp_path: Path, command: list[str]) -> None:
    env = environment(broker.sasl, {**SASL, "sasl_password": "wrong"})
    assert "RIVERWATCH_KAFKA_SASL_PASSWORD" in refusal_of(command, env, tmp_path)


def test_a_worker_names_all_rights_that_it_lacks(broker: GuardedKafka, tmp_path: Path) -> None:
    broker.grant((TOPIC, "acl-", AclOperation.READ))
    line = refusal_of(["score"], environment(broker.sasl, SASL), tmp_path)
    for right in (
        "WRITE of topic acl-scores",
        "WRITE of topic acl-alerts",
        "WRITE of topic acl-dead-letters",
    ):
        assert right in line
    assert "READ of topic" not in line
    assert f"to the user {USER} (RIVERWATCH_KAFKA_SASL_USERNAME)" in line


def test_a_topic_that_may_not_be_seen_is_not_said_to_be_missing(broker: GuardedKafka, tmp_path: Path) -> None:
    broker.grant()
    line = refusal_of(["score"], environment(broker.sasl, SASL), tmp_path)
    assert "refuses DESCRIBE of acl-transactions" in line


def test_rights_that_are_taken_are_refused_wherever_kafka_is_asked(broker: GuardedKafka) -> None:
    settings = settings_of(broker.sasl, **SASL)
    broker.grant()
    with pytest.raises(DependencyRefused, match=r"refuses READ, WRITE or DESCRIBE of a topic .*acl-scores"):
        KafkaOutbox(settings).send([Message("acl-scores", b"k", b"v")])
    with TopicReader(settings, "acl-scores") as reader, pytest.raises(DependencyRefused, match="acl-scores"):
        reader.bounds()


@pytest.mark.parametrize("left", ["topics", "group"])
def test_a_running_worker_whose_rights_are_taken_ends_with_one_line(
    broker: GuardedKafka, redis_url: str, tmp_path: Path, left: str
) -> None:
    broker.grant(*ALL_TOPICS)
    env = environment(broker.sasl, SASL, redis_url=redis_url, redis_prefix=f"acl-{left}")
    worker = GuardedProcess([sys.executable, "-m", "stream.cli", "score"], tmp_path / "log", env=env)
    try:
        until(
            lambda: "scoring acl-transactions" in worker.log.read_text() or worker.poll() is not None,
            "nothing is scored",
        )
        assert worker.poll() is None, worker.log.read_text()
        broker.grant(*(right for right in ALL_TOPICS if (right[0] is TOPIC) == (left == "topics")))
        until(lambda: worker.poll() is not None, "it did not end")
    finally:
        worker.kill()
    said = worker.log.read_text()
    assert worker.poll() == 1, said
    assert "Traceback" not in said
    [line] = [line for line in said.splitlines() if "ends:" in line]
    assert "kafka-acls --add" in line


def test_a_running_worker_whose_password_is_refused_ends_with_one_line(broker: GuardedKafka) -> None:
    """What a worker asks after ten seconds of silence."""
    settings = settings_of(broker.sasl, **{**SASL, "sasl_password": "changed since"})
    found = failure(confluent(settings), KafkaError(KafkaError._ALL_BROKERS_DOWN))
    assert isinstance(found, DependencyRefused)


def test_what_passes_is_down_and_keeps_the_reason_of_the_client() -> None:
    settings = settings_of(f"127.0.0.1:{free_port()}")
    found = failure(confluent(settings), KafkaError(KafkaError._TRANSPORT))
    assert isinstance(found, DependencyDown)
    assert "Broker transport failure" in str(found)
    assert "Connection refused" in str(found)


def test_a_port_that_takes_connections_and_says_nothing_is_down_and_no_wrong_protocol() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert spoken_by(silent.getsockname()) is None
