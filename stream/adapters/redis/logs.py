"""Which logs an installation works on: the identity of each topic, and the epochs that a person has begun.

It stands in one hash beside the profiles, so that progress and the log that it is of are known together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from stream.adapters.redis.errors import passing
from stream.adapters.redis.shards import Call, RedisShards, place_of
from stream.records import Epoch, Epochs


class LogIdentity(msgspec.Struct, frozen=True):
    """A log as it was worked on.

    Attributes:
        topic_id: of Kafka (KIP-516); empty where the broker gives none.
        epochs: number, and of each partition begun anew its first offset.
    """

    topic_id: str
    epochs: tuple[tuple[int, dict[int, int]], ...] = ()

    def history(self) -> Epochs:
        """The epochs, to be asked."""
        return Epochs([Epoch(number, starts) for number, starts in self.epochs])


_decode = msgspec.json.Decoder(LogIdentity).decode


class RedisLogs:
    """Reads and writes the identities of logs.

    Args:
        client: of Redis.
        prefix: of every key.
    """

    def __init__(self, client: Any, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._key = f"{prefix}:logs"
        self._place = place_of(client)

    def known(self, names: Iterable[str]) -> dict[str, LogIdentity]:
        """What is noted of topics, by their names without prefix.

        Raises:
            DependencyDown: Redis does not answer.
        """
        asked = list(names)
        with passing(self._place):
            found = self._client.hmget(self._key, asked)
        return {name: _decode(raw) for name, raw in zip(asked, found, strict=True) if raw is not None}

    def note(self, name: str, topic_id: str) -> LogIdentity:
        """Note the identity of a log that nobody has noted yet; what is noted in the end.

        Raises:
            DependencyDown: Redis does not answer.
        """
        with passing(self._place):
            self._client.hsetnx(self._key, name, msgspec.json.encode(LogIdentity(topic_id)))
        return self.known([name])[name]

    def begin_epoch(self, shards: int, starts: Mapping[int, int], *, counts_anew: bool) -> None:
        """Have partitions of the transactions applied from these offsets on; profiles and decisions stay.

        Args:
            shards: as the settings say.
            starts: of each partition that begins anew, its first offset.
            counts_anew: what is counted begins at nothing, too: none of the counted events is in the log now.

        Raises:
            DependencyDown: Redis does not answer; calling again is right.
        """
        there = RedisShards(self._client, shards, self._prefix, {})
        args: list[bytes | str] = ["1" if counts_anew else "0"]
        for partition, start in starts.items():
            args += (str(partition), str(start))
        there.run(
            "adopt",
            [
                Call(
                    shard,
                    [there.key(shard, "partitions"), *(there.key(shard, f"journal:{p}") for p in starts)],
                    args,
                )
                for shard in range(shards)
            ],
        )

    def replace(self, name: str, identity: LogIdentity) -> None:
        """Note another identity, as a person has said.

        Raises:
            DependencyDown: Redis does not answer.
        """
        with passing(self._place):
            self._client.hset(self._key, name, msgspec.json.encode(identity))
