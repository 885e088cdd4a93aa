"""What a Redis is: whether it keeps what it is given, what will soon fail, what this user may do there."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from redis.cluster import RedisCluster
from redis.exceptions import NoPermissionError, ResponseError

from stream.adapters.redis.errors import passing
from stream.ports import DependencyRefused

VERSION = (6, 2)
MEMORY_FULL = 0.85  # share of maxmemory from which on it is warned of
LAG = 10  # seconds since a replica was last heard of
ACCEPTED = " (as redis_allow_eviction = True says: no promise holds)"
_WAIT = 2.0


class Finding(NamedTuple):
    """Something about a Redis that a person should mend.

    Attributes:
        kind: what it is of; said again only when it comes again.
        text: for people; says what to do.
    """

    kind: str
    text: str


class Probe(NamedTuple):
    """What was found.

    Attributes:
        losing: what loses data already, or makes every result wrong: nothing may stand on it.
        warnings: what will fail, or is lost when it fails.
    """

    losing: list[Finding]
    warnings: list[Finding]


def probe(client: Any, place: str, *, allow_eviction: bool = False) -> Probe:
    """Look at each master: policy, memory, persistence, replicas, version.

    Args:
        client: a `redis.Redis` or `redis.RedisCluster`.
        place: host and port, of a cluster those of its URL.
        allow_eviction: an installation that accepts the loss; it is warned of.

    Raises:
        DependencyDown, DependencyRefused: no answer.
    """
    found = Probe([], [])
    with passing(place):
        for name, master in _masters(client, place):
            try:
                info: dict[str, Any] = master.info()
            except NoPermissionError:
                found.warnings.append(
                    Finding(
                        f"info {name}",
                        f"Redis at {name} does not tell this user how it is: whether it evicts is not "
                        "known; give it the right with `ACL SETUSER NAME +info`",
                    )
                )
            else:
                for kind, text in _losing(info):
                    accepted = kind == "policy" and allow_eviction
                    (found.warnings if accepted else found.losing).append(
                        Finding(f"{kind} {name}", f"Redis at {name} {text}{ACCEPTED if accepted else ''}")
                    )
                found.warnings.extend(
                    Finding(f"{kind} {name}", f"Redis at {name} {text}")
                    for kind, text in _failing(info, _saves(master))
                )
    return found


def _masters(client: Any, place: str) -> list[tuple[str, Any]]:
    if isinstance(client, RedisCluster):
        masters: Any = client.get_primaries()  # type: ignore[no-untyped-call] # redis-py's own gap
        return [(node.name, client.get_redis_connection(node)) for node in masters]
    return [(place, client)]


def _saves(master: Any) -> bool | None:
    """Whether it writes snapshots by itself; None where this user may not ask."""
    try:
        configured = master.config_get("save")
    except ResponseError:  # the command is forbidden, or renamed
        return None
    values = list(configured.values())
    return bool(values[0]) if values else None


def _losing(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    version = str(info.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if len(numbers) == len(VERSION) and numbers < VERSION:
        yield "version", f"is version {version}: 6.2 or newer is needed, or Valkey"
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield (
            "policy",
            f"may evict profiles, decisions and applied offsets (maxmemory-policy {policy}): `CONFIG SET "
            "maxmemory-policy noeviction`, or RIVERWATCH_REDIS_ALLOW_EVICTION=true if their loss is accepted",
        )


def _failing(info: Mapping[str, Any], saves: bool | None) -> Iterator[tuple[str, str]]:
    if evicted := info.get("evicted_keys", 0):
        yield (
            "evicted",
            f"has evicted {evicted} keys since it started: run `riverwatch verify`, and `riverwatch rebuild` "
            "where it finds something; `CONFIG RESETSTAT` ends this line",
        )
    most, used = info.get("maxmemory", 0), info.get("used_memory", 0)
    if most and used >= MEMORY_FULL * most:
        yield (
            "memory",
            f"has used {100 * used / most:.0f} % of its maxmemory: nothing is decided when it is full; raise "
            "maxmemory, add nodes, or shorten decision_ttl",
        )
    for command, field in (
        ("rewrite of its append-only file", "aof_last_bgrewrite_status"),
        ("write to its append-only file", "aof_last_write_status"),
        ("snapshot", "rdb_last_bgsave_status"),
    ):
        if info.get(field, "ok") != "ok":
            yield field, f"failed at its last {command}: see its log, usually the disk is full"
    if not info.get("aof_enabled") and not saves:
        unknown = "" if saves is False else ", unless it writes snapshots, which this user may not ask"
        yield (
            "persistence",
            f"keeps nothing on disk{unknown}: when it ends, profiles and decisions are gone until "
            "`riverwatch rebuild`; set appendonly yes",
        )
    for name, replica in sorted(info.items()):
        if name.startswith("slave") and isinstance(replica, dict):
            place = f"{replica.get('ip')}:{replica.get('port')}"
            state, lag = replica.get("state"), replica.get("lag", 0)
            if state != "online" or lag > LAG:
                yield (
                    f"replica {place}",
                    f"has a replica at {place} that is {state} and was heard of {lag} s ago: a failover to "
                    "it loses what it lacks",
                )


@cache
def _script() -> str:
    return files(__package__).joinpath("lua", "probe.lua").read_text("utf-8")


def check_rights(client: Any, place: str, prefix: str, shards: int) -> None:
    """Whatever the scripts do, this user may do, on every master.

    Raises:
        DependencyDown, DependencyRefused: not, or no answer.
    """
    tried = set()
    with passing(place):
        sha = client.script_load(_script())
        for shard in range(shards):
            keys = [f"{prefix}:{{s{shard}}}:probe:{number}" for number in range(3)]
            if isinstance(client, RedisCluster):
                node = client.get_node_from_key(keys[0])  # type: ignore[no-untyped-call] # redis-py's own gap
                if node is None or node.name in tried:
                    continue
                tried.add(node.name)
            elif tried:
                break
            else:
                tried.add(place)
            for refused in client.evalsha(sha, len(keys), *keys):
                raise ResponseError(refused.decode() if isinstance(refused, bytes) else str(refused))


def check_protocol(url: str) -> None:
    """A Redis that speaks TLS is not spoken to without, nor the other way round. One that is away is none.

    Raises:
        DependencyRefused: it is.
    """
    parts = urlsplit(url)
    if parts.hostname is None:
        return
    place = (parts.hostname, parts.port or 6379)
    secured = parts.scheme.startswith("rediss")
    name = f"{place[0]}:{place[1]}"
    if secured and _speaks_plain(place):
        raise DependencyRefused(
            f"Redis at {name} refuses TLS, which it does not speak: write redis:// instead of rediss:// in "
            "RIVERWATCH_REDIS_URL"
        )
    if not secured and not _speaks_plain(place) and _speaks_tls(place):
        raise DependencyRefused(
            f"Redis at {name} refuses what is not TLS: write rediss:// instead of redis:// in "
            "RIVERWATCH_REDIS_URL (and ?ssl_ca_certs=FILE for an authority of your own)"
        )


def _speaks_plain(place: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(place, _WAIT) as connection:
            connection.settimeout(_WAIT)
            connection.sendall(b"PING\r\n")
            return connection.recv(1) in (b"+", b"-")
    except OSError:
        return False


def _speaks_tls(place: tuple[str, int]) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent: it is only asked what it speaks
    try:
        with socket.create_connection(place, _WAIT) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False
