"""Puts back into Redis what workers had written: byte for byte, while they wait."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from stream.adapters.redis.errors import passing
from stream.adapters.redis.shards import RedisShards

_STEP = 1000
_HASHES = ("partitions", "labels")
T = TypeVar("T")

MARK = "rebuilding"  # a field of both hashes of every shard: the scripts refuse while it is there


class RedisRestore:
    """Writes what the workers would have written.

    From `begin` to `end` every script of the store refuses, and workers wait. Whoever breaks off in between
    leaves the mark: half a store is worked with by nobody.

    Args:
        client: of Redis.
        shards: as the settings say.
        prefix: of every key.
        layout: how the stored bytes are to be read, as the store writes it.
    """

    def __init__(self, client: Any, shards: int, prefix: str, layout: Mapping[str, object]) -> None:
        self._client = client
        self._prefix = prefix
        self.shards = shards
        self._shards = RedisShards(client, shards, prefix, layout)

    def shard_of(self, name: str) -> int:
        """Where an entity or a transaction lives."""
        return self._shards.of(name)

    def begin(self) -> None:
        """Stop the workers at their next call, and take away all but the owners' fencing tokens."""
        self._run(
            (shard, ["HSET", self._key(shard, name), MARK, "1"])
            for shard in range(self.shards)
            for name in _HASHES
        )
        kept = {self._key(shard, name) for shard in range(self.shards) for name in _HASHES}
        for keys in _batches(self._everything()):
            self._delete([key for key in keys if key not in kept])
        for shard in range(self.shards):
            for name in _HASHES:
                key = self._key(shard, name)
                [fields] = self._shards.commands([(shard, ["HKEYS", key])])
                gone = [
                    field for field in fields if field != MARK.encode() and not field.startswith(b"token:")
                ]
                if gone:
                    self._run([(shard, ["HDEL", key, *gone])])
        self._shards.agree()

    def end(self) -> None:
        """All is there: let the workers go on."""
        self._run(
            (shard, ["HDEL", self._key(shard, name), MARK])
            for shard in range(self.shards)
            for name in _HASHES
        )

    def fields(self, shard: int, name: str, values: Mapping[str, int]) -> None:
        """Set numbers in one of a shard's hashes, `partitions` or `labels`; zeros are left out."""
        arguments = [text for field, value in values.items() for text in (field, str(value))]
        if arguments:
            self._run([(shard, ["HSET", self._key(shard, name), *arguments])])

    def profiles(self, kind: str, profiles: Iterable[tuple[str, bytes]]) -> None:
        """Profiles (`e`) or label profiles (`l`) of entities."""
        self._run(
            (self.shard_of(name), ["SET", self._key(self.shard_of(name), f"{kind}:{name}"), raw])
            for name, raw in profiles
        )

    def expiring(self, kind: str, values: Iterable[tuple[str, bytes, int]]) -> list[bool]:
        """Decisions (`d`) or knowledge (`k`) of transactions, with seconds to live; the first one stays.

        Returns:
            Of each whether it was not there.
        """
        wanted = list(values)
        first: dict[str, tuple[bytes, int]] = {}
        for name, raw, seconds in wanted:  # a cluster's commands travel side by side: one each, then
            first.setdefault(name, (raw, seconds))
        answers = self._run(
            (
                self.shard_of(name),
                ["SET", self._key(self.shard_of(name), f"{kind}:{name}"), raw, "EX", str(seconds), "NX"],
            )
            for name, (raw, seconds) in first.items()
        )
        new = {name for name, answer in zip(first, answers, strict=True) if answer is not None}
        results = []
        for name, _, _ in wanted:
            results.append(name in new)
            new.discard(name)
        return results

    def statuses(self, statuses: Iterable[tuple[str, int, str]]) -> None:
        """The journal of statuses: (transaction, offset of the label, letter)."""
        self._run(
            (
                self.shard_of(name),
                [
                    "ZADD",
                    self._key(self.shard_of(name), "standings"),
                    str(offset),
                    f"{offset}{letter}",
                ],
            )
            for name, offset, letter in statuses
        )

    def pending(self, pending: Iterable[tuple[str, float, bytes]]) -> None:
        """The pending labels: (transaction, known since, entry)."""
        for name, known_at, entry in pending:
            shard = self.shard_of(name)
            self._run(
                [
                    (shard, ["HSET", self._key(shard, "room"), name, entry]),
                    (shard, ["ZADD", self._key(shard, "room-times"), repr(known_at), name]),
                ]
            )

    def _key(self, shard: int, name: str) -> bytes:
        return self._shards.key(shard, name)

    def _run(self, commands: Iterable[tuple[int, list[Any]]]) -> list[Any]:
        answers: list[Any] = []
        for batch in _batches(iter(commands)):
            answers += self._shards.commands(batch)
        return answers

    def _everything(self) -> Iterator[bytes]:
        glob = "".join("\\" + letter if letter in "*?[]\\^" else letter for letter in self._prefix)
        with passing(self._shards.place):
            for kind in ("s", "due"):
                yield from self._client.scan_iter(match=f"{glob}:{{{kind}[0-9]*}}*", count=_STEP)

    def _delete(self, keys: list[bytes]) -> None:
        with passing(self._shards.place):
            if self.shards > 1 or any(b"{due" in key for key in keys):
                for key in keys:  # on a cluster they live apart
                    self._client.unlink(key)
            elif keys:
                self._client.unlink(*keys)


def _batches(items: Iterator[T]) -> Iterator[list[T]]:
    while batch := list(islice(items, _STEP)):
        yield batch
