"""What is known of transactions, and by it of entities, in Redis: the `LabelStore` half of the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from models.features.label_memory import LATEST, WEEKS
from models.features.profiles import LabelDelta
from stream.adapters.redis.codec import Codec
from stream.adapters.redis.shards import Call, RedisShards
from stream.batch_checks import check_labels
from stream.ports import LabelsBehind, LabelStatus, LabelUpdate

_STATUSES: dict[int, LabelStatus] = {
    ord("N"): "new",
    ord("C"): "correction",
    ord("R"): "duplicate",
    ord("S"): "superseded",
    ord("W"): "pending",
}
# How the journal writes each status.
LETTERS: dict[str, str] = {status: chr(letter) for letter, status in _STATUSES.items()}


class RedisLabels:
    """`LabelStore` on Redis.

    A call has two phases: the shards of the transactions resolve each label's status and journal it, then
    the shards of the entities update the label profiles, each phase under applied offsets of its own. After a
    crash between the two the same labels come again: their statuses are the journaled ones, and only the
    shards that had not done their part do it.

    Args:
        shards: where everything lives.
        codec: how it is packed.
        ttl_seconds: how long it is remembered what is known of a transaction.
    """

    def __init__(self, shards: RedisShards, codec: Codec, ttl_seconds: int) -> None:
        self._shards = shards
        self._codec = codec
        self._label_ttl = str(ttl_seconds)

    def apply_labels(
        self, labels: Sequence[LabelUpdate], *, learned: int, passed: int = -1
    ) -> list[LabelStatus]:
        """See `LabelStore.apply_labels`.

        Of two labels known at the same time that contradict each other, the later in the log wins. A label
        whose status is no longer in the journal (below `learned`) is a `duplicate`. One that would change
        what is known but whose decision is unknown is `pending`, also when its transaction was known before.
        """
        self._shards.agree()
        check_labels(labels)
        if not labels:
            return []
        statuses = self._resolve(labels, learned, passed)
        changing = [
            (label, label.delta._replace(corrects=status == "correction"))
            for label, status in zip(labels, statuses, strict=True)
            if label.delta is not None and status in {"new", "correction"}
        ]
        if changing:
            self._apply_deltas(changing)
        return statuses

    def _resolve(self, labels: Sequence[LabelUpdate], learned: int, passed: int) -> list[LabelStatus]:
        spread = self._shards.spread([label.transaction_id for label in labels])
        calls, dealt = [], []
        for shard, places in enumerate(spread):
            if not places:
                continue
            dealt.append(places)
            names = ("labels", "standings", "room", "room-times")
            keys = [self._shards.key(shard, name) for name in names]
            args: list[bytes | str] = [self._label_ttl, str(learned), str(passed)]
            for place in places:
                label = labels[place]
                keys.append(self._shards.key(shard, f"k:{label.transaction_id}"))
                args += (
                    str(label.offset),
                    label.transaction_id,
                    "1" if label.is_fraud else "0",
                    repr(float(label.known_at)),
                    "0" if label.delta is None else "1",
                    label.raw,
                )
            calls.append(Call(shard, keys, args))
        statuses: list[LabelStatus] = ["duplicate"] * len(labels)
        for places, letters in zip(dealt, self._run("resolve_labels", calls), strict=True):
            for place, letter in zip(places, letters, strict=True):
                statuses[place] = _STATUSES[letter]
        return statuses

    def advance_labels(self, offset: int, *, passed: int) -> None:
        """See `LabelStore.advance_labels`."""
        self._shards.agree()
        args: list[bytes | str] = [str(passed), str(offset)]
        shards = range(self._shards.count)
        self._run("advance", [Call(shard, [self._shards.key(shard, "labels")], args) for shard in shards])
        self._shards.settle()  # what is learned now is not forgotten by a failover

    def _run(self, script: str, calls: Sequence[Call]) -> list[Any]:
        try:
            return self._shards.run(script, calls)
        except ResponseError as error:
            code, _, held = str(error).partition(" ")
            if code != "LABELSBEHIND":
                raise
            raise LabelsBehind(int(held) + 1) from error

    def _apply_deltas(self, changing: Sequence[tuple[LabelUpdate, LabelDelta]]) -> None:
        entities: list[dict[str, int]] = [{} for _ in range(self._shards.count)]
        packed: list[list[bytes]] = [[] for _ in range(self._shards.count)]
        for label, delta in changing:
            dealt: dict[int, list[int]] = {}
            for kind, entity, _ in label.entities:
                name = f"{kind}:{entity}"
                shard = self._shards.of(name)
                number = entities[shard].setdefault(name, len(entities[shard]) + 1)
                dealt.setdefault(shard, []).append(number)
            for shard, numbers in dealt.items():
                packed[shard].append(self._codec.label(label.offset, delta, numbers))
        fixed = [str(self._codec.half_lives), str(LATEST), str(WEEKS), str(changing[-1][0].offset)]
        key = self._shards.key
        self._shards.run(
            "apply_labels",
            [
                Call(
                    shard,
                    [key(shard, "labels"), *(key(shard, f"l:{name}") for name in entities[shard])],
                    [*fixed, b"".join(packed[shard])],
                )
                for shard in range(self._shards.count)
                if packed[shard]
            ],
        )

    def pending(self, transaction_ids: Sequence[str]) -> list[bytes | None]:
        """See `LabelStore.pending`.

        Raises:
            DependencyDown: no answer, or the pending labels are being rebuilt and are not all there yet.
        """
        results: list[bytes | None] = [None] * len(transaction_ids)
        spread = [
            (shard, places) for shard, places in enumerate(self._shards.spread(transaction_ids)) if places
        ]
        commands: list[tuple[int, list[Any]]] = [(0, ["HGET", self._shards.key(0, "labels"), "rebuilding"])]
        for shard, places in spread:
            names = [transaction_ids[place] for place in places]
            commands.append((shard, ["HMGET", self._shards.key(shard, "room"), *names]))
        rebuilding, *answers = self._shards.commands(commands)
        if rebuilding is not None:
            self._shards.refuse("REBUILDING what is stored here")
        for (_, places), answer in zip(spread, answers, strict=True):
            for place, label in zip(places, answer, strict=True):
                results[place] = label
        return results

    def remove_pending(self, entries: Sequence[tuple[str, bytes]]) -> None:
        """See `LabelStore.remove_pending`: in one script, as half a removal would be due for ever."""
        key = self._shards.key
        calls = []
        for shard, places in enumerate(self._shards.spread([name for name, _ in entries])):
            if places:
                args = [part for place in places for part in entries[place]]
                calls.append(Call(shard, [key(shard, "room"), key(shard, "room-times")], args))
        self._shards.run("remove_pending", calls)

    def expired(self, before: float, limit: int) -> list[tuple[str, bytes]]:
        """See `LabelStore.expired`; labels known at the same time come in the order of their ids."""
        if limit < 1:
            return []
        key = self._shards.key
        args: list[bytes | str] = [repr(float(before)), str(limit)]
        calls = [
            Call(shard, [key(shard, "room"), key(shard, "room-times")], args)
            for shard in range(self._shards.count)
        ]
        due: list[tuple[float, str, bytes]] = []
        for found in self._shards.run("expired", calls):
            due += zip(map(float, found[1::3]), map(bytes.decode, found[::3]), found[2::3], strict=True)
        return [(transaction_id, label) for _, transaction_id, label in sorted(due)[:limit]]
