"""Redis as logical shards: their keys, and the scripts that run in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit
from zlib import crc32

import redis
from redis.cluster import RedisCluster
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError

from stream.adapters.redis.errors import passing
from stream.adapters.redis.replicas import Replicas

Client = redis.Redis | RedisCluster

# What is counted, and the field of Redis that holds it.
COUNT_FIELDS = {"decided": "decided", "rejected": "rejected", "duplicates": "copies"}


class Call(NamedTuple):
    """One script call in one shard; every key carries the shard's tag."""

    shard: int
    keys: list[bytes]
    args: list[bytes | str]


def connect(url: str) -> Client:
    """A client for a URL: `redis://`, `rediss://`, `unix://`, or `redis+cluster://`, `rediss+cluster://`.

    It gives up on a silent server after 5 s (`?socket_timeout=` in the URL says otherwise).
    """
    scheme, _, rest = url.partition("://")
    timeouts = {"socket_timeout": 5.0, "socket_connect_timeout": 2.0}
    if scheme.endswith("+cluster"):
        with passing(place_of_url(url)):
            return RedisCluster.from_url(f"{scheme.removesuffix('+cluster')}://{rest}", **timeouts)
    return redis.Redis.from_url(url, **timeouts)


def place_of_url(url: str) -> str:
    """Host and port (or socket) of a URL, without user and password."""
    parts = urlsplit(url)
    if parts.hostname is None:
        return parts.path or "localhost"
    return f"{parts.hostname}:{parts.port or 6379}"


def place_of(client: Any) -> str:
    """Host and port (or socket) of a client, of a cluster those of its nodes: for errors to name."""
    if hasattr(client, "get_nodes"):
        return ", ".join(sorted(f"{node.host}:{node.port}" for node in client.get_nodes()))
    kwargs = client.connection_pool.connection_kwargs
    return str(kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}")


@cache
def _script(name: str) -> tuple[str, str]:
    """The hash and the text of a script."""
    text = files(__package__).joinpath("lua", f"{name}.lua").read_text("utf-8")
    return sha1(text.encode(), usedforsecurity=False).hexdigest(), text


class RedisShards:
    """Logical shards on a Redis, a Valkey or a Redis Cluster.

    On a single server the calls of all shards travel in one pipeline, one round trip; on a cluster each
    travels on a thread of its own, all in flight together.

    Args:
        client: a client that does not decode responses, or a URL for `connect`.
        count: how many shards, > 0; all users of one prefix agree on it.
        prefix: of every key.
        layout: how the stored bytes are to be read; all users of one prefix agree on it.
        replicas: of each server, that must have what was written before `settle` returns.
    """

    def __init__(
        self,
        client: Client | str,
        count: int,
        prefix: str,
        layout: Mapping[str, object],
        *,
        replicas: int = 0,
    ) -> None:
        if count < 1:
            raise ValueError(f"{count} shards: at least one is needed")
        # Any, for the cluster's client is only half typed.
        self._client: Any = connect(client) if isinstance(client, str) else client
        if self._client.get_encoder().decode_responses:
            raise ValueError(
                "this Redis client decodes responses: profiles are bytes, make one that does not"
            )
        self.count = count
        self.place = place_of_url(client) if isinstance(client, str) else place_of(self._client)
        self._replicas = Replicas(self._client, replicas, self.place)
        self._layout = json.dumps({"shards": count, **layout}).encode()
        self._agreed = False
        self._tags = [f"{prefix}:{{s{shard}}}:" for shard in range(count)]
        self._threads = (
            ThreadPoolExecutor(min(count, 32), "redis-shard")
            if isinstance(self._client, RedisCluster)
            else None
        )

    def agree(self) -> None:
        """Make sure, once, that what is stored under the prefix was written with the same settings.

        Raises:
            ValueError: it was written with others.
            DependencyDown: no answer.
        """
        if self._agreed:
            return
        key = self.key(0, "layout")
        self.commands([(0, ["SET", key, self._layout, "NX"])])
        [stored] = self.commands([(0, ["GET", key])])
        if stored != self._layout:
            raise ValueError(
                f"what Redis at {self.place} holds was written with {stored!r} and the settings say "
                f"{self._layout!r}: go back to those, use another prefix, or rebuild"
            )
        self._agreed = True

    def close(self) -> None:
        """Close the connections."""
        if self._threads is not None:
            self._threads.shutdown()
        self._client.close()

    def of(self, name: str) -> int:
        """The shard of an entity or a transaction."""
        return crc32(name.encode()) % self.count if self.count > 1 else 0

    def key(self, shard: int, name: str) -> bytes:
        """A key in a shard: the tag in braces keeps all keys of a shard in one slot of a cluster."""
        return (self._tags[shard] + name).encode()

    def spread(self, names: Sequence[str]) -> list[list[int]]:
        """For each shard the places of the names that live in it."""
        places: list[list[int]] = [[] for _ in range(self.count)]
        for place, name in enumerate(names):
            places[self.of(name)].append(place)
        return places

    def run(self, script: str, calls: Sequence[Call]) -> list[Any]:
        """The answers of one script in several shards.

        Raises:
            DependencyDown: a shard did not answer; parts may have been applied.
        """
        sha, text = _script(script)
        commands = [(call.shard, ["EVALSHA", sha, len(call.keys), *call.keys, *call.args]) for call in calls]
        answers = self._send(commands)
        unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:  # a new or restarted server: scripts live in its memory
            with passing(self.place):
                self._client.script_load(text)
            again = self._send([commands[place] for place in unknown])
            for place, answer in zip(unknown, again, strict=True):
                answers[place] = answer
        return self._checked(answers)

    def commands(self, commands: Sequence[tuple[int, list[Any]]]) -> list[Any]:
        """The answers of plain commands, each in a shard.

        Raises:
            DependencyDown: a shard did not answer.
        """
        return self._checked(self._send(commands))

    def settle(self) -> None:
        """Return when enough replicas have all that was written before, in every shard.

        Raises:
            DependencyDown: they have not yet, or a shard did not answer.
        """
        with passing(self.place):
            self._replicas.have_all(self.key(shard, "settled") for shard in range(self.count))

    def refuse(self, said: str) -> NoReturn:
        """Raise what a script would have made Redis say.

        Raises:
            DependencyDown: always, where it is something that passes.
        """
        with passing(self.place):
            raise ResponseError(said)

    def _checked(self, answers: list[Any]) -> list[Any]:
        for answer in answers:
            if isinstance(answer, Exception):
                with passing(self.place):
                    raise answer
        return answers

    def _send(self, commands: Sequence[tuple[int, list[Any]]]) -> list[Any]:
        if self._threads is not None:
            return list(self._threads.map(self._send_one, commands))
        with passing(self.place):
            if len(commands) == 1:
                return [self._send_one(commands[0])]
            pipeline = self._client.pipeline(transaction=False)
            for _, command in commands:
                pipeline.execute_command(*command)
            return list(pipeline.execute(raise_on_error=False))

    def _send_one(self, command: tuple[int, list[Any]]) -> Any:
        try:
            return self._client.execute_command(*command[1])
        except (RedisError, RedisClusterException) as error:
            return error
