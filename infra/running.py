"""Where the other commands find the services of a running `riverwatch up`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from infra.guard import alive
from infra.process import port_answers

_REDIS_PORT = 6379


@dataclass(frozen=True, kw_only=True)
class Running:
    """A stack that runs on this machine."""

    bootstrap: str
    """Kafka, as ``host:port``."""
    redis_url: str
    kind: str
    """Which Kafka: ``apache``, ``embedded`` or ``external``."""
    pid: int
    """The process that started it and ends it."""
    state_dir: Path
    """Where its data and logs live."""


def user_state_dir() -> Path:
    """Where riverwatch keeps this user's local state unless a setting names another folder."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "riverwatch"


def running_file() -> Path:
    """The file that names the running stack: in RIVERWATCH_STATE_DIR, else in the user's state directory.

    It is looked for before there are settings, so a flag or a settings file does not move it.
    """
    own = os.environ.get("RIVERWATCH_STATE_DIR")
    return (Path(own) if own else user_state_dir()) / "running.json"


def write_running(state_dir: Path, bootstrap: str, redis_url: str, pid: int, kind: str) -> Path:
    """Make a running stack known; returns the file. It appears whole or not at all."""
    target = running_file()
    target.parent.mkdir(parents=True, exist_ok=True)
    known = Running(
        bootstrap=bootstrap, redis_url=redis_url, kind=kind, pid=pid, state_dir=state_dir.absolute()
    )
    scratch = target.with_suffix(f".{os.getpid()}")
    scratch.touch(mode=0o600)  # a Redis URL may hold a password
    scratch.write_text(json.dumps(asdict(known), default=str, indent=2) + "\n")
    scratch.replace(target)
    return target


def clear_running(pid: int) -> None:
    """Forget the stack that process ``pid`` made known; another one's is left alone."""
    known = _read(running_file())
    if known is not None and known.pid == pid:
        running_file().unlink(missing_ok=True)


def find_running() -> Running | None:
    """The stack that runs here, or None. A file whose stack is gone is removed."""
    known = _read(running_file())
    if known is not None and _lives(known):
        return known
    running_file().unlink(missing_ok=True)
    return None


def _read(file: Path) -> Running | None:
    try:
        found = json.loads(file.read_text())
        return Running(**{**found, "state_dir": Path(found["state_dir"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _lives(known: Running) -> bool:
    if not alive(known.pid):
        return False
    host, _, port = known.bootstrap.split(",")[0].rpartition(":")
    redis_at = urlsplit(known.redis_url)
    return port_answers(host, int(port)) and port_answers(
        redis_at.hostname or "localhost", redis_at.port or _REDIS_PORT
    )
