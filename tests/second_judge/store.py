"""What Redis holds, read and never changed: profiles, label profiles and labels that wait."""

from __future__ import annotations

import re
from typing import Any

import redis
from redis.cluster import RedisCluster

_STEP = 500
_GLOB = re.compile(r"[\[\]*?\\^]")


class Store:
    """Reads the keys under a prefix.

    Args:
        url: of Redis.
        prefix: of every key.
        cluster: the URL leads to a Redis Cluster.
    """

    def __init__(self, url: str, prefix: str, *, cluster: bool = False) -> None:
        # Any, for the cluster's client is only half typed.
        self._client: Any = RedisCluster.from_url(url) if cluster else redis.Redis.from_url(url)
        self._prefix = prefix

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def profiles(self) -> dict[str, bytes]:
        """Of every entity, by kind and key, the bytes of its events' profile."""
        return self._values("e")

    def label_profiles(self) -> dict[str, bytes]:
        """Of every entity with labels, by kind and key, the bytes of their profile."""
        return self._values("l")

    def pending(self) -> dict[str, int]:
        """Of each transaction whose label waits: the offset up to which its labels waited."""
        found: dict[str, int] = {}
        for key in self._keys("room"):
            for name, entry in self._client.hgetall(key).items():
                found[name.decode()] = int(entry.partition(b" ")[0].rpartition(b":")[2])
        return found

    def _keys(self, name: str) -> list[bytes]:
        escaped = _GLOB.sub(lambda found: "\\" + found[0], self._prefix)
        return list(self._client.scan_iter(match=f"{escaped}:{{s*}}:{name}", count=1000))

    def _values(self, kind: str) -> dict[str, bytes]:
        shards: dict[bytes, list[bytes]] = {}
        for key in self._keys(f"{kind}:*"):
            shards.setdefault(key[: key.index(b"}")], []).append(
                key
            )  # a command keeps to one slot of a cluster
        found: dict[str, bytes] = {}
        for keys in shards.values():
            for at in range(0, len(keys), _STEP):
                part = keys[at : at + _STEP]
                for key, raw in zip(part, self._client.mget(part), strict=True):
                    if raw is not None:
                        found[key.partition(f"}}:{kind}:".encode())[2].decode()] = raw
        return found
