"""Other commands find a running stack, and only one that runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from infra.process import HOST, free_port
from infra.services import Running, clear_running, find_running, running_file, write_running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIVERWATCH_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server((HOST, free_port())) as server:
        yield server.getsockname()[1]


def ended_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


def test_a_running_stack_is_found_as_it_was_written(listening: int, tmp_path: Path) -> None:
    bootstrap, url = f"{HOST}:{listening}", f"redis://{HOST}:{listening}/0"
    file = write_running(tmp_path, bootstrap, url, os.getpid(), "apache")
    assert file == running_file()
    assert file.stat().st_mode & 0o077 == 0
    assert find_running() == Running(
        bootstrap=bootstrap, redis_url=url, pid=os.getpid(), kind="apache", state_dir=tmp_path
    )


def test_no_file_means_no_stack() -> None:
    assert find_running() is None


def test_a_stack_whose_process_is_gone_is_forgotten(listening: int, tmp_path: Path) -> None:
    write_running(tmp_path, f"{HOST}:{listening}", f"redis://{HOST}:{listening}", ended_pid(), "apache")
    assert find_running() is None
    assert not running_file().exists()


@pytest.mark.parametrize("dead", ["kafka", "redis"])
def test_a_stack_whose_port_is_silent_is_forgotten(dead: str, listening: int, tmp_path: Path) -> None:
    kafka = free_port() if dead == "kafka" else listening
    store = free_port() if dead == "redis" else listening
    write_running(tmp_path, f"{HOST}:{kafka}", f"redis://{HOST}:{store}/0", os.getpid(), "embedded")
    assert find_running() is None
    assert not running_file().exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"state_dir": 3}'])
def test_a_file_that_says_nothing_is_forgotten(text: str) -> None:
    running_file().parent.mkdir(parents=True)
    running_file().write_text(text)
    assert find_running() is None
    assert not running_file().exists()


def test_only_its_own_process_clears_a_stack(listening: int, tmp_path: Path) -> None:
    write_running(tmp_path, f"{HOST}:{listening}", f"redis://{HOST}:{listening}", os.getpid(), "apache")
    clear_running(os.getpid() + 1)
    assert find_running() is not None
    clear_running(os.getpid())
    assert find_running() is None


def test_the_file_lies_in_the_users_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RIVERWATCH_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert running_file() == tmp_path / "riverwatch" / "running.json"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert running_file() == tmp_path / ".local" / "state" / "riverwatch" / "running.json"
