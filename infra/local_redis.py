"""One Redis (or Valkey) server on loopback, with a password that only its starter knows."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from infra.process import HOST, Service, ServiceError
from infra.redis_servers import redis_problem, redis_servers

if TYPE_CHECKING:
    from collections.abc import Mapping

_ADMINISTRATION: Final = (
    "acl",
    "bgrewriteaof",
    "bgsave",
    "cluster",
    "config",
    "debug",
    "failover",
    "migrate",
    "module",
    "monitor",
    "psync",
    "replicaof",
    "restore-asking",
    "save",
    "shutdown",
    "slaveof",
    "sync",
)
"""Commands that nothing of riverwatch gives a server: whoever has its password writes no file with them."""


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
        password: that of the server whose place it takes or whose data it replicates; a random one when None.
        administered: a test configures it, replicates it or makes it a node: no command is forbidden.
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
        password: str | None = None,
        administered: bool = False,
        ready_within: float = 30.0,
    ) -> None:
        super().__init__(name, state_dir, port, ready_within=ready_within, stop_within=10.0)
        self.password = password or secrets.token_urlsafe(24)
        self.url = self.url_at(self.port)
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
            # other users of the machine reach a port on loopback, too
            "user": self._rights(administered=administered),
            **({"masterauth": self.password} if administered else {}),
            **(settings or {}),
        }

    def url_at(self, port: int) -> str:
        """Its URL by way of another port of loopback."""
        return f"redis://:{self.password}@{HOST}:{port}/0"

    @property
    def version(self) -> str:
        """What the running server says it is, such as ``Redis 7.0.15`` or ``Valkey 8.1.0``."""
        import redis  # noqa: PLC0415 - `riverwatch --help` stays instant

        with redis.Redis.from_url(self.url, decode_responses=True) as client:
            return server_version(client.info("server"))

    def forget(self) -> None:
        """Lose what its append-only file holds: a disk that is gone. Only while it does not run."""
        assert not self.is_running(), f"{self.name} on port {self.port} runs"
        shutil.rmtree(self._data, ignore_errors=True)

    def _command(self) -> list[str]:
        server = self._server or next(iter(redis_servers()), None)
        if server is None:
            raise ServiceError(redis_problem() or "no Redis found")
        self._data.mkdir(parents=True, exist_ok=True)
        # Not as arguments: everybody on the machine can read those.
        file = self.state_dir / f"{self.name}.conf"
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        file.write_text("".join(f"{key} {_quoted(key, value)}\n" for key, value in self._settings.items()))
        return [str(server), str(file)]

    def _rights(self, *, administered: bool) -> str:
        digest = hashlib.sha256(self.password.encode()).hexdigest()
        forbidden = "" if administered else "".join(f" -{name}" for name in _ADMINISTRATION)
        return f"default reset on #{digest} ~* &* +@all{forbidden}"

    def _answers(self) -> bool:
        import redis  # noqa: PLC0415 - the same

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


def _quoted(key: str, value: str) -> str:
    """A value as the configuration file takes it; the rights of a user are words of their own."""
    if key == "user":
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
