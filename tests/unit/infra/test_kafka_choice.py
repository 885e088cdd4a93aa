"""Which Kafka is started, why, and how its jars come."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from infra import embedded_kafka, redis_servers
from infra.apache_kafka import fetch_jars, jars_dir
from infra.services import LocalRedis, ServiceError, choose_kafka, open_kafka, redis_problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Tool = Callable[[str, str], None]

MVN = """
echo call >> "$CALLS"
for argument; do case $argument in -DoutputDirectory=*) out=${argument#*=};; esac; done
sleep 0.2
mkdir -p "$out"; : > "$out/kafka_2.13-x.jar"
"""


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """A machine with no program but a shell and those the test adds, and an empty cache."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for needed in ("sh", "sleep", "mkdir"):
        found = shutil.which(needed)
        assert found is not None
        (programs / needed).symlink_to(found)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.delenv("JAVA_HOME", raising=False)

    def add(name: str, body: str) -> None:
        program = programs / name
        program.write_text(f"#!{programs / 'sh'}\n{body}")
        program.chmod(0o755)

    return add


def java(version: str) -> str:
    return f"echo 'openjdk version \"{version}\" 2020-01-01' >&2\n"


@pytest.mark.parametrize("version", ["17.0.15", "21", "25-ea"])
def test_apache_kafka_is_chosen_where_java_17_and_maven_are(bare: Tool, version: str) -> None:
    bare("java", java(version))
    bare("mvn", MVN)
    kind, why = choose_kafka()
    assert kind == "apache"
    assert "Apache Kafka 4.3.1" in why


@pytest.mark.parametrize(
    ("programs", "reason"),
    [
        ({}, "no Java 17"),
        ({"mvn": MVN}, "no Java 17"),
        ({"java": java("11.0.2"), "mvn": MVN}, "older than 17"),
        ({"java": java("1.8.0_292"), "mvn": MVN}, "older than 17"),
        ({"java": "exit 1", "mvn": MVN}, "no Java 17"),
        ({"java": java("17.0.15")}, "no Maven"),
    ],
)
def test_else_the_embedded_one_is_chosen_and_the_reason_said(
    bare: Tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, programs: dict[str, str], reason: str
) -> None:
    monkeypatch.setattr("infra.services.embedded_problem", lambda: None)
    for name, body in programs.items():
        bare(name, body)
    kind, why = choose_kafka()
    assert kind == "embedded"
    assert reason in why
    with pytest.raises(ServiceError, match=reason):
        choose_kafka("apache")
    assert open_kafka(state_dir=tmp_path).kind == "embedded"


def test_jars_fetched_before_need_no_maven(bare: Tool) -> None:
    bare("java", java("21.0.1"))
    jars_dir().mkdir(parents=True)
    assert choose_kafka("apache")[0] == "apache"


@pytest.mark.usefixtures("bare")
def test_a_machine_without_any_kafka_hears_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_kafka, "PACKAGE", "no_such_package")
    with pytest.raises(ServiceError, match=r"no Java 17.*no embedded Kafka.*Install Java 17\+ and Maven"):
        choose_kafka()


def test_jars_are_fetched_once_however_many_ask(bare: Tool) -> None:
    bare("mvn", MVN)
    with ThreadPoolExecutor(4) as pool:
        answers = set(pool.map(lambda _: fetch_jars(), range(4)))
    assert answers == {jars_dir()}
    with open(os.environ["CALLS"]) as calls:  # noqa: PTH123 - the path is an environment variable's
        assert calls.read() == "call\n"
    assert [jar.name for jar in jars_dir().iterdir()] == ["kafka_2.13-x.jar"]


def test_a_fetch_that_fails_leaves_nothing_and_says_what_maven_said(bare: Tool) -> None:
    bare("mvn", MVN + "echo 'no route to Central'; exit 1")
    with pytest.raises(ServiceError, match="no route to Central"):
        fetch_jars()
    assert [path.name for path in jars_dir().parent.iterdir()] == ["kafka-4.3.1.lock"]


def test_a_cache_that_cannot_be_written_is_named(
    bare: Tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bare("mvn", MVN)
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    with pytest.raises(ServiceError, match=r"a file.*Not a directory; set XDG_CACHE_HOME"):
        fetch_jars()


def test_a_machine_that_cannot_reach_maven_central_gets_the_embedded_one_and_is_told(
    bare: Tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("infra.services.embedded_problem", lambda: None)
    bare("java", java("17.0.15"))
    bare("mvn", "echo 'no route to Central'; exit 1")
    assert open_kafka("auto", state_dir=tmp_path).kind == "embedded"
    assert "no route to Central" in capsys.readouterr().err
    with pytest.raises(ServiceError, match="no route to Central"):
        open_kafka("apache", state_dir=tmp_path)


@pytest.mark.usefixtures("bare")
def test_a_machine_without_redis_hears_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(redis_servers, "PACKAGE", "no_such_package")
    assert redis_problem() is not None
    with pytest.raises(ServiceError, match="install redis-server or valkey-server"):
        LocalRedis(tmp_path).start()
