"""How far published models have learned, kept where writers to the topic of models cannot reach: in Redis.

A topic can be made to look as it once was, by copying an old record; this tells.
"""

from __future__ import annotations

from typing import Any, Protocol

from stream.adapters.redis.errors import passing


class ModelFloor(Protocol):
    """The offset of the labels that some published model had learned to; it only rises."""

    def read(self, installation: str, model: str) -> int:
        """Where it stands; 0 before the first model.

        Raises:
            DependencyDown: what keeps it does not answer.
        """
        ...

    def signer(self, installation: str, model: str) -> str:
        """The id of the key that signed the last model; empty before the first.

        Raises:
            DependencyDown: what keeps it does not answer.
        """
        ...

    def rise(self, installation: str, model: str, next_offset: int, signer: str) -> None:
        """A model was published, signed with the key of that id.

        Raises:
            DependencyDown: what keeps it does not answer.
        """
        ...


class RedisModelFloor:
    """In one sorted set, a member for each model, its score the offset: `ZADD GT` only raises it.

    Args:
        client: of Redis.
        prefix: of every key.
        place: where Redis is, for people.
    """

    def __init__(self, client: Any, *, prefix: str = "rw", place: str = "") -> None:
        self._client = client
        self._key = f"{prefix}:model-floor"
        self._signers = f"{prefix}:model-signer"
        self._place = place

    def read(self, installation: str, model: str) -> int:
        """Where it stands."""
        with passing(self._place):
            found = self._client.zscore(self._key, _member(installation, model))
        return int(found or 0)

    def signer(self, installation: str, model: str) -> str:
        """Whose key signed the last model."""
        with passing(self._place):
            found = self._client.hget(self._signers, _member(installation, model))
        return found.decode() if found else ""

    def rise(self, installation: str, model: str, next_offset: int, signer: str) -> None:
        """A model was published."""
        member = _member(installation, model)
        with passing(self._place):
            self._client.zadd(self._key, {member: next_offset}, gt=True)
            self._client.hset(self._signers, member, signer)


class MemoryModelFloor:
    """The same in memory."""

    def __init__(self) -> None:
        self._floors: dict[str, int] = {}
        self._signers: dict[str, str] = {}

    def read(self, installation: str, model: str) -> int:
        """Where it stands."""
        return self._floors.get(_member(installation, model), 0)

    def signer(self, installation: str, model: str) -> str:
        """Whose key signed the last model."""
        return self._signers.get(_member(installation, model), "")

    def rise(self, installation: str, model: str, next_offset: int, signer: str) -> None:
        """A model was published."""
        member = _member(installation, model)
        self._floors[member] = max(next_offset, self.read(installation, model))
        self._signers[member] = signer


def _member(installation: str, model: str) -> str:
    return f"{installation} {model}"
