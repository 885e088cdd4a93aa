"""Fencing tokens: each partition's newest owner holds the highest, and a stale owner (zombie) is refused.

Every script that writes compares the token first (`lua/apply.lua`, `lua/record.lua`), so a worker that slept
past its session and wakes up changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from stream.adapters.redis.shards import Call, RedisShards
from stream.ports import StaleOwner


def issue_fencing_tokens(shards: RedisShards, partitions: Iterable[int], now: float) -> dict[int, int]:
    """A new token for each partition: the first shard issues it, the others are raised to it.

    A Redis that lost its data has forgotten which tokens it gave: they begin at the clock (`now`, seconds),
    so that a worker of before the loss never holds the newest.

    Raises:
        DependencyDown: no answer.
    """
    shards.agree()
    tokens = dict.fromkeys(partitions, int(now * 1e6))
    while True:
        [tokens] = _raise_to(shards, [0], tokens, issue=True)
        raised = _raise_to(shards, range(1, shards.count), tokens, issue=False)
        highest = {p: max(each[p] for each in (tokens, *raised)) for p in tokens}
        if highest == tokens:
            shards.settle()
            return tokens
        tokens = highest  # the first shard forgot, or another worker claims at this moment: go above it


def refuse_stale_owner(answer: list[Any], fencing_tokens: Mapping[int, int]) -> NoReturn:
    """Raise what a script's answer {0, partition, newest token} means.

    Raises:
        StaleOwner: always.
    """
    partition = int(answer[1])
    raise StaleOwner(
        f"partition {partition} has been claimed by another worker since (fencing token "
        f"{fencing_tokens[partition]}, newest {int(answer[2])}): leave this batch to it"
    )


def _raise_to(
    shards: RedisShards, numbers: Iterable[int], floors: Mapping[int, int], *, issue: bool
) -> list[dict[int, int]]:
    args: list[bytes | str] = ["1" if issue else "0"]
    for partition, floor in floors.items():
        args += (str(partition), str(floor))
    calls = [Call(number, [shards.key(number, "partitions")], args) for number in numbers]
    return [dict(zip(floors, answer, strict=True)) for answer in shards.run("claim", calls)]
