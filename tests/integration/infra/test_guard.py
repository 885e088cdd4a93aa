"""A service never outlives the process that started it, however that one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest

from infra import guard
from infra.process import GuardedProcess
from infra.services import choose_kafka
from tests.support.patience import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


SERVICES = """
import sys
from pathlib import Path
from infra.services import LocalRedis, open_kafka
redis, kafka = LocalRedis(Path(sys.argv[1])), open_kafka(sys.argv[2], state_dir=Path(sys.argv[1]))
redis.start(), kafka.start()
print(redis.pid, kafka.pid, flush=True)
sys.stdin.read()
"""

FORKED = """
import os, sys, time
from pathlib import Path
from infra import guard
from infra.process import GuardedProcess
service = GuardedProcess(["sleep", "600"], Path(sys.argv[1]) / "log")
holder = os.fork()  # never execs: it holds every file of its parent, the leash too
if not holder:
    time.sleep(600)
print(service.pid, holder, flush=True)
sys.stdin.read()
"""

STUBBORN = """
import sys
from pathlib import Path
from infra import guard
from infra.process import GuardedProcess
deaf = "trap '' TERM; echo deaf; while :; do sleep 1; done"
log = Path(sys.argv[1]) / "log"
service = GuardedProcess(["sh", "-c", deaf], log)
while "deaf" not in log.read_text():
    pass
print(service.pid, flush=True)
sys.stdin.read()
"""


@contextmanager
def parent(script: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process of its own that runs the script; with it, the pids that the script printed."""
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        try:
            yield process, pids
        finally:
            process.kill()
            for pid in pids:
                if runs(pid):
                    os.kill(pid, signal.SIGKILL)


def runs(pid: int) -> bool:
    """Whether it is alive; a zombie that its new parent has yet to reap is not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(pids: list[int], within: float) -> bool:
    until = time.monotonic() + within
    while any(runs(pid) for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("kind", ["auto", "embedded"])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_services_go_when_their_starter_is_killed(kind: str, end: signal.Signals, tmp_path: Path) -> None:
    if kind == "auto" and choose_kafka("auto")[0] == "embedded":
        pytest.skip("no Java and Maven: the embedded Kafka is the other case")
    with parent(SERVICES, str(tmp_path), kind) as (process, pids):
        assert len(pids) == 2
        assert all(runs(pid) for pid in pids)
        process.send_signal(end)
        assert gone(pids, PATIENCE)


def test_services_go_when_their_starter_ends_without_stopping_them(tmp_path: Path) -> None:
    with parent(SERVICES, str(tmp_path), "embedded") as (process, pids):
        assert all(runs(pid) for pid in pids)
        process.communicate("", timeout=PATIENCE)
        assert process.returncode == 0
        assert gone(pids, PATIENCE)


def test_a_fork_that_holds_the_leash_does_not_keep_the_service(tmp_path: Path) -> None:
    with parent(FORKED, str(tmp_path)) as (process, (service, holder)):
        process.kill()
        process.wait()
        assert gone([service], PATIENCE)
        assert runs(holder)


def test_a_service_deaf_to_sigterm_goes_too(tmp_path: Path) -> None:
    with parent(STUBBORN, str(tmp_path)) as (process, pids):
        process.kill()
        process.wait()
        assert gone(pids, PATIENCE)


def watchers(argument: str) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if argument in (process.info["cmdline"] or []) and "-I" in process.info["cmdline"]
    ]


def test_the_service_has_no_child_it_never_started_and_its_watcher_goes_with_it(tmp_path: Path) -> None:
    service = GuardedProcess(["sleep", "600.25"], tmp_path / "log")
    until = time.monotonic() + PATIENCE
    while (process := psutil.Process(service.pid)).name() != "sleep" and time.monotonic() < until:
        time.sleep(0.02)
    (watcher,) = watchers("600.25")
    assert process.children() == []
    assert service.stop(timeout=PATIENCE) == -signal.SIGTERM
    assert gone([watcher.pid], PATIENCE)


def test_a_reaped_service_is_forgotten_so_that_its_pid_can_be_anybodys(tmp_path: Path) -> None:
    service = GuardedProcess(["sleep", "600"], tmp_path / "log")
    told, leash = os.pipe()
    kept, service._leash = service._leash, leash
    service.kill()
    assert os.read(told, 2) == b"."
    assert os.read(told, 2) == b""
    os.close(told)
    os.close(kept)


def test_a_watcher_told_to_forget_touches_no_process() -> None:
    fd, leash = os.pipe()
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger:
        os.write(leash, b".")
        os.close(leash)
        guard._watch(fd, os.getpid(), stranger.pid)
        assert stranger.poll() is None
        stranger.kill()
    os.close(fd)


def test_exit_code_of_a_service_is_its_own(tmp_path: Path) -> None:
    service = GuardedProcess(["sh", "-c", "echo said; exit 7"], tmp_path / "log")
    until = time.monotonic() + PATIENCE
    while (code := service.poll()) is None and time.monotonic() < until:
        time.sleep(0.02)
    assert code == 7
    assert (tmp_path / "log").read_text() == "said\n"
