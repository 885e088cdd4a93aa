"""Profiles, decisions and labels in Redis (6.2 or newer), Valkey or a Redis Cluster.

What it takes, in bytes, with h half-lives; in brackets what MEMORY USAGE said of h = 3, Redis 7.0 and keys of
some 30 bytes (`python -m benchmarks.bench_store --redis URL`):
  an entity         25 + 48 h, each recent event one more than its length, and 110 for key and allocator
  [277];
                    what it never exceeds, however many events it has seen
  its labels        26 + 40 h, 12 for each of at most 32 labelled transactions, 24 for each of at most 26
                    weeks with frauds, and 120 for key and allocator [304 with eight labels, at most 1,216];
                    only entities with a label
  a decision        its own bytes and 100, until it expires [1,096 of 1,000]
  a transaction     104, from its first label until that expires
  the journal       the profile snapshots of what is applied and not yet recorded: a batch a partition
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from models.features.profiles import LabelProfile, Profile, ProfileSnapshot
from stream.adapters.redis.codec import ABSENT, CONSTANTS, MAX_RECENT_EVENTS, Codec, digest_of_name
from stream.adapters.redis.fencing import issue_fencing_tokens, refuse_stale_owner
from stream.adapters.redis.labels import RedisLabels
from stream.adapters.redis.shards import COUNT_FIELDS, Call, Client, RedisShards
from stream.batch_checks import OTHER_ENTITIES, check_updates, other_transaction
from stream.ports import NONE, EventUpdate, OtherLog, StoreBehind

_FORMAT = 3  # of the bytes in Redis; another one cannot read them


def layout_of(half_lives: Sequence[float]) -> dict[str, object]:
    """How stored bytes are to be read; whoever writes them agrees on it."""
    return {"format": _FORMAT, "half_lives": [float(half_life) for half_life in half_lives]}


class _Part:
    """One shard's part of a batch: the call, and how its answer becomes profile snapshots."""

    def __init__(self, shards: RedisShards, shard: int, partitions: Mapping[int, int]) -> None:
        self._shards = shards
        self._partitions = partitions
        self.shard = shard
        self.entities: dict[str, int] = {}
        self.events: list[bytes] = []
        self.touched: list[tuple[int, int, tuple[int, ...]]] = []

    def call(self, codec: Codec, head: Sequence[str]) -> Call:
        key = self._shards.key
        shard = self.shard
        return Call(
            shard,
            [
                key(shard, "partitions"),
                *(key(shard, f"journal:{partition}") for partition in self._partitions),
                *(key(shard, f"e:{entity}") for entity in self.entities),
                *(key(shard, f"l:{entity}") for entity in self.entities),
            ],
            [
                CONSTANTS,
                str(codec.half_lives),
                str(len(self._partitions)),
                str(len(self.entities)),
                b"".join(self.events),
                *head,
            ],
        )

    def fill(
        self,
        answer: list[Any],
        codec: Codec,
        updates: Sequence[EventUpdate],
        results: list[list[ProfileSnapshot | None] | None],
    ) -> None:
        """Put each snapshot at its place; an event that is no longer in the journal becomes None.

        One that never was in it, for it updated nothing when it was passed, has no snapshots: `[]`.

        Raises:
            OtherLog: the journal holds another transaction's at an event's place.
        """
        _, applied_offsets, trimmed, chunks, old = answer
        applied_offset = [int(value) for value in applied_offsets]
        floor = [int(value) for value in trimmed]
        new = [codec.entries(chunk) for chunk in chunks]
        journal = [
            {
                offset: (transaction, snapshots)
                for chunk in stored
                for offset, transaction, snapshots in codec.entries(chunk)
            }
            for stored in old
        ]
        for place, partition, positions in self.touched:
            update = updates[place]
            offset = update.offset
            slots = results[place]
            if offset > applied_offset[partition]:
                found = next(new[partition])[2]
            elif offset <= floor[partition]:
                results[place] = None
                continue
            elif (entry := journal[partition].get(offset)) is None:
                results[place] = None if slots is None else []
                continue
            else:
                transaction, found = entry
                if transaction != digest_of_name(update.transaction_id):
                    raise OtherLog(other_transaction(update))
            if len(found) != len(positions):
                raise ValueError(OTHER_ENTITIES.format(offset=offset))
            if slots:
                for position, snapshot in zip(positions, found, strict=True):
                    slots[position] = snapshot


class RedisStore(RedisLabels):
    """`FeatureStore`, `LabelStore` and `DecisionLog` on Redis.

    Args:
        client_or_url: a client that does not decode responses, or a URL (`redis+cluster://` for a cluster).
        half_lives: seconds, of every profile; all users of one prefix agree on them.
        shards: logical shards, > 0; all users of one prefix agree on it. One is right on a single server.
        decision_ttl_seconds: how long a decision is kept, > 0.
        label_ttl_seconds: how long it is remembered what is known of a transaction, > 0.
        replicas: of each server, that have what was written when `claim`, `record` and `advance_labels`
            return.
        clock: seconds; where owners' fencing tokens begin when Redis knows of none.
        prefix: of every key.

    Several threads may share one. The entity of kind `K` and key `X` is named `K:X`; a kind holds no colon.
    """

    def __init__(
        self,
        client_or_url: Client | str,
        half_lives: Sequence[float],
        shards: int = 1,
        *,
        decision_ttl_seconds: int,
        label_ttl_seconds: int,
        prefix: str = "rw",
        replicas: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if decision_ttl_seconds < 1 or label_ttl_seconds < 1:
            raise ValueError("decisions and labels must live at least one second")
        shards_ = RedisShards(client_or_url, shards, prefix, layout_of(half_lives), replicas=replicas)
        super().__init__(shards_, Codec(len(half_lives)), label_ttl_seconds)
        self._ttl = str(decision_ttl_seconds)
        self._clock = clock

    def close(self) -> None:
        """Close the connections to Redis."""
        self._shards.close()

    def claim(self, partitions: Iterable[int]) -> dict[int, int]:
        """See `FeatureStore.claim`."""
        return issue_fencing_tokens(self._shards, partitions, self._clock())

    def progress(self, partitions: Iterable[int]) -> dict[int, int]:
        """See `FeatureStore.progress`."""
        asked = list(partitions)
        if not asked:
            return {}
        fields = [f"fence:{partition}" for partition in asked]
        answers = self._shards.commands(
            [
                (shard, ["HMGET", self._shards.key(shard, "partitions"), *fields])
                for shard in range(self._shards.count)
            ]
        )
        return {
            partition: min(int(applied_offsets[place] or -1) for applied_offsets in answers)
            for place, partition in enumerate(asked)
        }

    def lookup(self, transaction_ids: Sequence[str]) -> list[bytes | None]:
        """See `FeatureStore.lookup`."""
        results: list[bytes | None] = [None] * len(transaction_ids)
        spread = [
            (shard, places) for shard, places in enumerate(self._shards.spread(transaction_ids)) if places
        ]
        answers = self._shards.commands(
            [
                (
                    shard,
                    ["MGET", *(self._shards.key(shard, f"d:{transaction_ids[place]}") for place in places)],
                )
                for shard, places in spread
            ]
        )
        for (_, places), answer in zip(spread, answers, strict=True):
            for place, decision in zip(places, answer, strict=True):
                results[place] = decision
        return results

    def decisions(self, transaction_ids: Sequence[str]) -> list[bytes | None]:
        """See `DecisionLog.decisions`."""
        return self.lookup(transaction_ids)

    def apply(
        self,
        updates: Sequence[EventUpdate],
        *,
        ends: Mapping[int, int],
        recorded: Mapping[int, int],
        fencing_tokens: Mapping[int, int],
        rejected: Mapping[int, Sequence[int]] = NONE,
        duplicates: Mapping[int, Sequence[int]] = NONE,
    ) -> list[tuple[ProfileSnapshot, ...] | None]:
        """See `FeatureStore.apply`. Every shard is called, so that every applied offset moves."""
        check_updates(updates, ends, fencing_tokens)
        if not ends:
            return []
        index = {partition: place for place, partition in enumerate(ends)}
        parts = [_Part(self._shards, shard, index) for shard in range(self._shards.count)]
        for place, update in enumerate(updates):
            self._deal(place, update, index[update.partition], parts)
        head: list[str] = []
        uncounted: list[str] = []
        for partition, end in ends.items():
            state = [
                str(partition),
                str(end),
                str(recorded.get(partition, -1)),
                str(fencing_tokens[partition]),
            ]
            head += [*state, _listed(rejected, partition), _listed(duplicates, partition)]
            uncounted += [*state, "", ""]
        # The first shard counts for all.
        calls = [part.call(self._codec, uncounted if part.shard else head) for part in parts]
        answers = self._shards.run("apply", calls)
        for answer in answers:
            if answer[0] == 0:
                refuse_stale_owner(answer, fencing_tokens)
        behind: dict[int, int] = {}
        for answer in answers:
            if answer[0] == 2:  # noqa: PLR2004 - as the script says
                partition, start = int(answer[1]), int(answer[2]) + 1
                behind[partition] = min(start, behind.get(partition, start))
        if behind:
            raise StoreBehind(behind)
        slots: list[list[ProfileSnapshot | None] | None] = [
            [None] * len(update.entities) for update in updates
        ]
        for part, answer in zip(parts, answers, strict=True):
            part.fill(answer, self._codec, updates, slots)
        # Every place is filled: each entity was dealt to one shard, and a shard without it made the row None.
        rows = cast("list[list[ProfileSnapshot] | None]", slots)
        return [None if row is None else tuple(row) for row in rows]

    def _deal(self, place: int, update: EventUpdate, partition: int, parts: list[_Part]) -> None:
        """Give each shard its entities of an event."""
        _, offset, event, entities, transaction_id = update
        transaction = digest_of_name(transaction_id)
        dealt: dict[int, tuple[list[int], list[int]]] = {}
        for position, (kind, key, max_recent) in enumerate(entities):
            name = f"{kind}:{key}"
            shard = self._shards.of(name)
            known = parts[shard].entities
            number = known.get(name)
            if max_recent > MAX_RECENT_EVENTS:
                raise ValueError(
                    f"entity {name} keeps {max_recent} recent events: at most {MAX_RECENT_EVENTS} fit"
                )
            if number is None:
                number = known[name] = len(known) + 1
            packed, positions = dealt.setdefault(shard, ([], []))
            packed += (number, max_recent)
            positions.append(position)
        for shard, (packed, positions) in dealt.items():
            part = parts[shard]
            part.events.append(self._codec.event(partition + 1, offset, event, packed, transaction))
            part.touched.append((place, partition, tuple(positions)))

    def record(
        self, decisions: Sequence[tuple[int, str, bytes]], *, fencing_tokens: Mapping[int, int]
    ) -> list[bytes]:
        """See `FeatureStore.record`."""
        spread = self._shards.spread([transaction_id for _, transaction_id, _ in decisions])
        calls, dealt = [], []
        for shard, places in enumerate(spread):
            if not places:
                continue
            dealt.append(places)
            mine = [decisions[place] for place in places]
            owners = sorted({partition for partition, _, _ in mine})
            args: list[bytes | str] = [self._ttl, str(len(owners))]
            for partition in owners:
                args += (str(partition), str(fencing_tokens[partition]))
            args += (decision for _, _, decision in mine)
            keys = [self._shards.key(shard, f"d:{transaction_id}") for _, transaction_id, _ in mine]
            calls.append(Call(shard, [self._shards.key(shard, "partitions"), *keys], args))
        results = [decision for _, _, decision in decisions]
        for places, answer in zip(dealt, self._shards.run("record", calls) if calls else [], strict=True):
            if answer[0] == 0:
                refuse_stale_owner(answer, fencing_tokens)
            for place, other in zip(places, answer[1], strict=True):
                if other is not None:
                    results[place] = other
        self._shards.settle()  # what is emitted now is not forgotten by a failover
        return results

    def counts(self) -> dict[str, int]:
        """See `FeatureStore.counts`."""
        shards = range(self._shards.count)
        found = self._shards.commands(
            [
                (shard, ["HMGET", self._shards.key(shard, "partitions"), *COUNT_FIELDS.values()])
                for shard in shards
            ]
        )
        return {name: sum(int(each[place] or 0) for each in found) for place, name in enumerate(COUNT_FIELDS)}

    def profile(self, kind: str, key: str) -> Profile:
        """The profile of an entity as it stands."""
        return self._codec.profile(self._read("e", f"{kind}:{key}"))[0]

    def label_profile(self, kind: str, key: str) -> LabelProfile:
        """The label profile of an entity as it stands."""
        return self._codec.label_profile(self._read("l", f"{kind}:{key}"))[0]

    def _read(self, what: str, name: str) -> bytes:
        shard = self._shards.of(name)
        [value] = self._shards.commands([(shard, ["GET", self._shards.key(shard, f"{what}:{name}")])])
        return ABSENT if value is None else bytes(value)


def _listed(offsets: Mapping[int, Sequence[int]], partition: int) -> str:
    return ",".join(map(str, offsets.get(partition, ())))
