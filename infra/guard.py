"""Becomes the given command, and leaves a watcher behind that ends it when its starter is gone.

    python infra/guard.py FD STARTER_PID -- COMMAND [ARGUMENT ...]

``FD`` is the read end of a pipe whose only write end the starter holds. This process forks the watcher,
then *becomes* the command, so the pid the starter has is the command's own and a ``kill -9`` of it hits
the service. The pipe exists before the command does: there is no moment at which a dying starter leaves an
unwatched service.

Why a pipe and not ``PR_SET_PDEATHSIG``: that signal comes when the *thread* that forked ends, not the
process, and only Linux has it. A pipe closes with its last holder, however the holder died, everywhere. A
fork of the starter that never calls exec keeps the pipe open, so the watcher also looks for the starter
itself once a second.

This file runs by its path, with ``-I -S`` and the standard library only: it starts in some 15 ms and needs
no installed package.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import NoReturn

LOOK_SECONDS = 1.0
"""How often the watcher looks for the starter's pid, in seconds."""
GRACE_SECONDS = 2.5
"""Between SIGTERM and SIGKILL for a service whose starter is gone, in seconds."""
COMMAND_NOT_STARTED = 127
"""Exit code when the command cannot be executed, as in a shell."""


def alive(pid: int) -> bool:
    """Whether a process (or a zombie nobody has reaped) has this pid."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _end(group: int) -> None:
    """SIGTERM to the process group, SIGKILL after the grace."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        until = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < until:
            os.killpg(group, 0)  # raises once the group is empty
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)


def _watch(fd: int, starter: int, service: int) -> None:
    """Return when there is nothing left to watch; end the service when the starter is gone."""
    while True:
        readable, _, _ = select.select([fd], [], [], LOOK_SECONDS)
        if readable:
            if os.read(fd, 1) == b"":  # the pipe's last writer is gone
                _end(service)
            return  # a byte: the starter has reaped the service, its pid means nothing any more
        if not alive(starter):
            _end(service)
            return
        if not alive(service):
            return


def _fork_watcher(fd: int, starter: int) -> None:
    service = os.getpid()
    between = os.fork()
    if between:
        os.waitpid(between, 0)  # the service shall find no child it never started
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the starter's end is this process's only cue
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    try:
        _watch(fd, starter, service)
    finally:
        os._exit(0)


def main(arguments: list[str]) -> NoReturn:
    """Fork the watcher, then become the command.

    Args:
        arguments: ``FD STARTER_PID -- COMMAND [ARGUMENT ...]``. The caller has made this process the leader
            of a session of its own (``start_new_session=True``), so its group is the service's group.
    """
    fd, starter, dashes, *command = arguments
    if dashes != "--" or not command:
        sys.exit("usage: guard.py FD STARTER_PID -- COMMAND [ARGUMENT ...]")
    _fork_watcher(int(fd), int(starter))
    os.close(int(fd))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec would hand that on
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming the command is the point
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error.strerror}\n")
        sys.exit(COMMAND_NOT_STARTED)


if __name__ == "__main__":
    main(sys.argv[1:])
