"""A local service: a guarded process with a log, started, awaited, stopped, killed, started again."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from infra import guard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

HOST = "127.0.0.1"
_PORTS = range(20_000, 32_000)
_TAIL_LINES = 15


class ServiceError(RuntimeError):
    """A local service that is missing, did not start or ended; the message says what to do or to read."""


def free_port() -> int:
    """A TCP port on loopback that nobody listens on.

    It lies below the ports the system gives to outgoing connections (from 32768 on Linux, 49152 on macOS):
    a service that is killed and started again must find its port free, and a client that keeps dialling a
    dead port of that range can end up connected to itself and hold it.

    Raises:
        ServiceError: when a hundred tries found none.
    """
    for _ in range(100):
        port = random.SystemRandom().choice(_PORTS)
        if port_is_free(port):
            return port
    raise ServiceError(f"no free port found between {_PORTS.start} and {_PORTS.stop} on {HOST}")


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind((HOST, port))
            return True
    return False


def port_answers(host: str, port: int, timeout: float = 1.0) -> bool:
    """Whether somebody accepts connections there (``timeout``: seconds)."""
    with suppress(OSError), socket.create_connection((host, port), timeout=timeout):
        return True
    return False


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """The last lines of a log file, indented; a sentence when there are none."""
    text = log.read_text(errors="replace").splitlines()[-lines:] if log.exists() else []
    return "\n".join(f"    {line}" for line in text) or "    (the log is empty)"


class GuardedProcess:
    """A child process that ends with its starter, even when the starter is killed with ``kill -9``.

    Args:
        command: the program and its arguments; the program is looked up on the PATH.
        log: the file its output is appended to.
        env: its environment; the starter's own when None.
        cwd: its working directory; the starter's own when None.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        read_end, self._leash = os.pipe()
        launcher = [sys.executable, "-I", "-S", guard.__file__, str(read_end), str(os.getpid()), "--"]
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    [*launcher, *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(read_end,),
                    start_new_session=True,  # Ctrl-C reaches the starter, which stops its services in order
                    env=env,
                    cwd=cwd,
                )
        except OSError:
            os.close(self._leash)
            raise
        finally:
            os.close(read_end)
        self._leashed = True

    @property
    def pid(self) -> int:
        """The service's own process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code (negative: the signal that ended it), None while it runs."""
        code = self._process.poll()
        if code is not None:
            self._forget()
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            self._process.send_signal(number)

    def stop(self, timeout: float) -> int:
        """SIGTERM, and SIGKILL after ``timeout`` seconds; returns the exit code."""
        self.signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        return self.kill()

    def kill(self) -> int:
        """SIGKILL; returns the exit code once it is gone."""
        self.signal(signal.SIGKILL)
        code = self._process.wait()
        self._forget()
        return code

    def _forget(self) -> None:
        # reaped: its pid may be anybody's from now on, so the watcher must not signal it
        if self._leashed:
            self._leashed = False
            with suppress(BrokenPipeError):
                os.write(self._leash, b".")
            os.close(self._leash)


class Service(ABC):
    """A service on loopback, usable as a context manager.

    Args:
        name: names it in messages, and its log ``<state_dir>/logs/<name>.log``.
        state_dir: where its data, configuration and log live.
        port: the loopback port; a free one when None. It stays the same over restarts.
        ready_within: seconds it may take to answer, > 0.
        stop_within: seconds between SIGTERM and SIGKILL, > 0.
    """

    def __init__(
        self, name: str, state_dir: Path, port: int | None, *, ready_within: float, stop_within: float
    ) -> None:
        self.name = name
        self.state_dir = Path(state_dir).absolute()
        self.port = free_port() if port is None else port
        self.log = self.state_dir / "logs" / f"{name}.log"
        self._ready_within = ready_within
        self._stop_within = stop_within
        self._process: GuardedProcess | None = None

    @abstractmethod
    def _command(self) -> list[str]:
        """Prepare what the service needs on disk and return the command that runs it."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the service does its work now; must return within about two seconds."""

    @property
    def pid(self) -> int:
        """The service's own process id: a ``kill -9`` of it hits the service.

        Raises:
            ServiceError: when it has not been started.
        """
        if self._process is None:
            raise ServiceError(f"{self.name} has not been started: call start() or use `with`")
        return self._process.pid

    def is_running(self) -> bool:
        """Whether its process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it, on the data and port it had before, and wait until it answers.

        Raises:
            ServiceError: when it ended or did not answer in time; names the log and shows its last lines.
        """
        if self.is_running():
            return self
        if not port_is_free(self.port):
            raise ServiceError(
                f"{self.name} cannot start: port {self.port} on {HOST} is in use; name another"
            )
        process = self._process = GuardedProcess(self._command(), self.log)
        until = time.monotonic() + self._ready_within
        while True:
            code = process.poll()
            if code is not None:
                raise self._failure(f"ended with exit code {code} before it answered")
            if port_answers(HOST, self.port) and self._answers():
                return self
            if time.monotonic() > until:
                process.kill()
                raise self._failure(f"did not answer within {self._ready_within:g} s")
            time.sleep(0.02)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL when it does not end in time. Its data stays."""
        if self._process is not None:
            self._process.stop(self._stop_within)

    def kill(self) -> None:
        """SIGKILL. Its data stays as it was at that moment."""
        if self._process is not None:
            self._process.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _failure(self, what: str) -> ServiceError:
        return ServiceError(
            f"{self.name} {what} on {HOST}:{self.port}. Last lines of {self.log}:\n{tail(self.log)}"
        )
