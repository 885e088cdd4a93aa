"""The store seen from the side: what stands in Redis, read and never changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from struct import unpack_from
from typing import Any, NamedTuple

from stream.adapters.redis.errors import passing
from stream.adapters.redis.shards import COUNT_FIELDS, RedisShards

_STEP = 1000  # keys a command


class Held(NamedTuple):
    """A profile as Redis holds it.

    Attributes:
        updates: events, or labels, in it.
        digest: of its bytes.
    """

    updates: int
    digest: bytes


class AppliedOffsets(NamedTuple):
    """How far a shard has applied its logs; -1 where it has nothing.

    Attributes:
        events: of each partition of transactions.
        statuses, label_profiles: of the labels.
    """

    events: dict[int, int]
    statuses: int
    label_profiles: int


def digest_of(raw: bytes) -> bytes:
    """What is compared of a profile: 8 bytes."""
    return blake2b(raw, digest_size=8).digest()


class RedisDump:
    """Reads what the workers wrote.

    Args:
        client: of Redis.
        shards: as the settings say.
        prefix: of every key.
    """

    def __init__(self, client: Any, shards: int, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._shards = RedisShards(client, shards, prefix, {})
        self.shards = shards

    def shard_of(self, name: str) -> int:
        """Where an entity or a transaction lives."""
        return self._shards.of(name)

    def applied_offsets(self) -> list[AppliedOffsets]:
        """Of each shard."""
        keys = [(shard, self._shards.key(shard, name)) for shard in range(self.shards) for name in _HASHES]
        found = self._shards.commands([(shard, ["HGETALL", key]) for shard, key in keys])
        maps = [_mapped(answer) for answer in found]
        return [
            AppliedOffsets(
                {int(name[6:]): int(value) for name, value in events.items() if name.startswith(b"fence:")},
                int(labels.get(b"standings", -1)),
                int(labels.get(b"profiles", -1)),
            )
            for events, labels in zip(maps[::2], maps[1::2], strict=True)
        ]

    def counts(self) -> dict[str, int]:
        """Transactions decided, events rejected and duplicates, as counted over all time."""
        key = self._shards.key
        found = self._shards.commands(
            [
                (shard, ["HMGET", key(shard, "partitions"), *COUNT_FIELDS.values()])
                for shard in range(self.shards)
            ]
        )
        return {name: sum(int(each[at] or 0) for each in found) for at, name in enumerate(COUNT_FIELDS)}

    def profiles(self) -> dict[str, Held]:
        """Every entity's profile: how many events, and what its bytes are."""
        return {name: Held(_updates(raw, 1 + raw[0]), digest_of(raw)) for name, raw in self._all("e")}

    def label_profiles(self) -> dict[str, Held]:
        """The same of label profiles."""
        return {name: Held(_updates(raw, 2), digest_of(raw)) for name, raw in self._all("l")}

    def known(self) -> dict[str, bytes]:
        """What is known of each transaction, as it is stored."""
        return dict(self._all("k"))

    def pending(self) -> list[tuple[str, bytes]]:
        """The labels that wait: transaction and entry."""
        found = self._shards.commands(
            [(shard, ["HGETALL", self._shards.key(shard, "room")]) for shard in range(self.shards)]
        )
        return [(name.decode(), raw) for each in found for name, raw in _mapped(each).items()]

    def recorded(self, names: Sequence[str]) -> list[bytes | None]:
        """The recorded decisions of transactions."""
        results: list[bytes | None] = [None] * len(names)
        spread = [(shard, places) for shard, places in enumerate(self._shards.spread(names)) if places]
        answers = self._shards.commands(
            [
                (shard, ["MGET", *(self._shards.key(shard, f"d:{names[place]}") for place in places)])
                for shard, places in spread
            ]
        )
        for (_, places), answer in zip(spread, answers, strict=True):
            for place, raw in zip(places, answer, strict=True):
                results[place] = raw
        return results

    def _all(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """Every key of a kind with its value; one that is there throughout is not missed."""
        seen: set[str] = set()
        for names in _batches(self._names(kind)):
            new = [name for name in dict.fromkeys(names) if name not in seen]
            seen.update(new)
            spread = [(shard, places) for shard, places in enumerate(self._shards.spread(new)) if places]
            answers = self._shards.commands(
                [
                    (shard, ["MGET", *(self._shards.key(shard, f"{kind}:{new[at]}") for at in places)])
                    for shard, places in spread
                ]
            )
            for (_, places), answer in zip(spread, answers, strict=True):
                for at, raw in zip(places, answer, strict=True):
                    if raw is not None:
                        yield new[at], raw

    def _names(self, kind: str) -> Iterator[str]:
        start = [len(self._shards.key(shard, f"{kind}:")) for shard in range(self.shards)]
        tags = {self._shards.key(shard, f"{kind}:"): start[shard] for shard in range(self.shards)}
        with passing(self._shards.place):
            for key in self._client.scan_iter(match=_glob(self._prefix) + "*:" + kind + ":*", count=_STEP):
                tag = key[: key.find(b"}") + 2 + len(kind) + 1]
                if tag in tags:
                    yield key[tags[tag] :].decode()


_HASHES = ("partitions", "labels")


def _glob(prefix: str) -> str:
    return "".join("\\" + letter if letter in "*?[]\\^" else letter for letter in prefix)


def _updates(raw: bytes, at: int) -> int:
    """The updates of a packed profile: the first of its numbers, which begin at a place."""
    return int(unpack_from("<d", raw, at)[0]) if len(raw) >= at + 8 else -1


def _mapped(answer: Any) -> dict[bytes, bytes]:
    return answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))


def _batches(names: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for name in names:
        batch.append(name)
        if len(batch) == _STEP:
            yield batch
            batch = []
    if batch:
        yield batch
