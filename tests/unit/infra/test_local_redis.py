"""A local Redis serves whoever started it and nobody else, and no old or broken server is taken for one."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis
from redis.exceptions import AuthenticationError, ResponseError

from infra import redis_servers
from infra.process import HOST
from infra.services import LocalRedis, redis_problem

Tool = Callable[[str, str], Path]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tool:
    """Puts a program of that name on a PATH where nothing else is; no package brings a server."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(redis_servers, "PACKAGE", "no_such_package")

    def put(name: str, script: str) -> Path:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return put


@pytest.mark.parametrize(
    "said", ["Redis server v=6.2.0 sha=00000000:0 malloc=libc", "Valkey server v=7.2.5 sha=0", "x v=10.0.1"]
)
def test_a_server_on_the_path_that_is_new_enough_is_taken(tool: Tool, said: str) -> None:
    server = tool("redis-server", f"echo '{said}'")
    assert redis_servers.redis_servers() == [server]
    assert redis_problem() is None
    assert redis_servers.unavailable() is None


@pytest.mark.parametrize(
    ("script", "why"),
    [("echo 'Redis server v=6.0.16 sha=0'", "is 6.0; 6.2 or newer"), ("exit 127", "cannot be started")],
)
def test_a_server_that_is_too_old_or_broken_is_passed_over_and_named(
    tool: Tool, script: str, why: str
) -> None:
    server = tool("redis-server", script)
    assert redis_servers.redis_servers() == []
    assert f"({server} {why}" in str(redis_problem())
    newer = tool("valkey-server", "echo 'Valkey server v=8.0.1 sha=0'")
    assert redis_servers.redis_servers() == [newer]


@pytest.mark.parametrize(
    ("system", "machine", "libc", "why"),
    [
        ("Linux", "x86_64", ("glibc", "2.28"), None),
        ("Linux", "aarch64", ("glibc", "2.36"), None),
        ("Darwin", "arm64", ("", ""), None),
        ("Linux", "x86_64", ("glibc", "2.27"), "glibc 2.27 (older than 2.28)"),
        ("Linux", "x86_64", ("", ""), "a Linux without glibc"),
        ("Linux", "riscv64", ("glibc", "2.40"), "Linux on riscv64"),
        ("Darwin", "x86_64", ("", ""), "Darwin on x86_64"),
    ],
)
def test_where_no_package_brings_a_server_a_line_says_so_before_anything_is_installed(
    tool: Tool,
    monkeypatch: pytest.MonkeyPatch,
    system: str,
    machine: str,
    libc: tuple[str, str],
    why: str | None,
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("platform.libc_ver", lambda: libc)
    problem = redis_servers.unavailable()
    assert (problem is None) == (why is None)
    if why is not None:
        assert f"none comes along for {why}: install redis-server" in str(problem)
        assert "\n" not in str(problem)
    tool("redis-server", "echo 'Redis server v=7.0.15 sha=0'")
    assert redis_servers.unavailable() is None


def test_only_who_has_the_password_is_served_and_nothing_shows_it(tmp_path: Path) -> None:
    with LocalRedis(tmp_path) as server, LocalRedis(tmp_path, name="other") as other:
        assert server.password != other.password
        for url in (f"redis://{HOST}:{server.port}/0", f"redis://:guess@{HOST}:{server.port}/0"):
            with redis.Redis.from_url(url) as stranger, pytest.raises(AuthenticationError):
                stranger.ping()
        assert server.password not in " ".join(psutil.Process(server.pid).cmdline())
        assert server.password not in server.log.read_text()
    for file in tmp_path.rglob("*"):
        if file.is_file() and server.password.encode() in file.read_bytes():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "command",
    [
        "CONFIG SET maxmemory 0",
        "CONFIG GET dir",
        "DEBUG SLEEP 0",
        "MODULE LIST",
        "REPLICAOF NO ONE",
        "ACL LIST",
        "SHUTDOWN",
    ],
)
def test_commands_that_administer_a_server_are_for_those_tests_that_ask_for_them(
    tmp_path: Path, command: str
) -> None:
    with LocalRedis(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        with pytest.raises(ResponseError, match=r"no permissions|not allowed"):
            client.execute_command(*command.split())
        assert client.ping()
    if command != "SHUTDOWN" and not command.startswith("DEBUG"):  # since Redis 7 a file alone allows DEBUG
        with (
            LocalRedis(tmp_path, administered=True) as server,
            redis.Redis.from_url(server.url) as client,
        ):
            client.execute_command(*command.split())
