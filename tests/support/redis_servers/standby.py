"""A replica of the site's Redis that falls behind, unseen, and then takes its place."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, Self

import redis

from infra.process import HOST
from infra.services import LocalRedis
from tests.support.patience import PATIENCE
from tests.support.proxy import Proxy


class Standby:
    """Replicates a server through a proxy; usable as a context manager.

    Args:
        folder: data and logs.
        master: what it follows; made with ``administered``.
        fsync: how it keeps its append-only file.
        name: names its log and its data; no two of a folder are the same.
    """

    def __init__(
        self, folder: Path, master: LocalRedis, *, fsync: Literal["always", "everysec"], name: str
    ) -> None:
        self._folder = folder
        self._fsync: Literal["always", "everysec"] = fsync
        self._name = name
        self._master = master
        self._link = Proxy(master.port)
        self._replica = LocalRedis(
            folder,
            appendonly=True,
            appendfsync=fsync,
            name=name,
            password=master.password,
            administered=True,
        )
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with redis.Redis.from_url(self._master.url) as master:
            master.config_set("repl-diskless-sync-delay", "0")
        self._stack.enter_context(self._link)
        self._stack.enter_context(self._replica)
        with redis.Redis.from_url(self._replica.url) as replica:
            replica.replicaof(HOST, self._link.port)
        deadline = time.monotonic() + PATIENCE
        while self.bytes_behind() > 0 or self._writes_its_file():
            assert time.monotonic() < deadline, f"the replica does not follow: see {self._replica.log}"
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def bytes_behind(self) -> int:
        """What the master has said and the replica has not heard; all of it before they have synchronised."""
        with redis.Redis.from_url(self._master.url) as master:
            of_master = master.info("replication")
        with redis.Redis.from_url(self._replica.url) as replica:
            of_replica = replica.info("replication")
        said = int(of_master["master_repl_offset"])
        if of_replica["master_link_status"] != "up" or of_master.get("slave0", {}).get("state") != "online":
            return max(said, 1)
        return max(said - int(of_replica["slave_repl_offset"]), 0)

    def _writes_its_file(self) -> bool:
        """Before its append-only file is there it neither ends in good order nor keeps anything."""
        with redis.Redis.from_url(self._replica.url) as replica:
            found = replica.info("persistence")
        return bool(found["aof_rewrite_in_progress"] or found["aof_rewrite_scheduled"])

    def cut_off(self) -> None:
        """From now on it hears nothing, and its master does not know."""
        self._link.deaf = True

    def promoted(self) -> LocalRedis:
        """End the master with `kill -9`, and put the replica in its place: same port, what it has heard."""
        self._master.kill()
        self._replica.stop()
        return LocalRedis(
            self._folder,
            self._master.port,
            appendonly=True,
            appendfsync=self._fsync,
            name=self._name,
            password=self._master.password,
            administered=True,
            ready_within=PATIENCE,
        ).start()
