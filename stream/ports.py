"""What the shell asks of the world. Each port has an adapter in memory; one contract suite holds for both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

from models.features.profiles import Event, LabelDelta, ProfileSnapshot

NONE: Mapping[int, Sequence[int]] = MappingProxyType({})


class DependencyDown(Exception):  # noqa: N818 - the state of a dependency, and the worker waits it out
    """Kafka or Redis does not answer; the worker pauses, acknowledges nothing and tries again."""


class DependencyRefused(Exception):  # noqa: N818 - the state of a dependency, and waiting does not mend it
    """Kafka or Redis answers and refuses, for a cause that a person must end: say so in one line, and end."""


class StaleOwner(Exception):  # noqa: N818 - a stale owner (a zombie): it must leave its batch alone
    """Another worker has claimed the partition since: nothing was changed, nothing may be acknowledged."""


class StoreBehind(Exception):  # noqa: N818 - the state of a dependency: it lost its last moments
    """A store holds less of a partition than was acknowledged: nothing was changed; go back and go on.

    Attributes:
        starts: of each such partition, the first offset the store does not hold.
    """

    def __init__(self, starts: Mapping[int, int]) -> None:
        places = ", ".join(f"partition {partition} to offset {start}" for partition, start in starts.items())
        gone = ", ".join(str(partition) for partition, start in starts.items() if start == 0)
        if gone:
            why = (
                f"the applied offset of partition {gone} is gone from Redis: it was evicted "
                "(maxmemory-policy must be noeviction), deleted, or lost with all the rest"
            )
        else:
            why = (
                "the profiles are older than they were left: Redis lost its last moments; going back, "
                f"{places}"
            )
        super().__init__(why)
        self.starts = dict(starts)


class LabelsBehind(Exception):  # noqa: N818 - the state of a dependency: it lost its last moments
    """A store was given more labels than it holds: nothing was changed; give it those again.

    Attributes:
        start: the first label that it does not hold; 0 where it holds nothing.
    """

    def __init__(self, start: int) -> None:
        super().__init__(
            f"what is known by labels is older than it was left: Redis holds it up to label {start}"
        )
        self.start = start


class OtherLog(Exception):  # noqa: N818 - the state of a dependency: a person has to decide
    """The log is not the one that was worked on: nothing may be acknowledged; says what to do."""


class EntityRef(NamedTuple):
    """One entity that an event updates.

    Attributes:
        kind: `card`, `merchant`, ...
        key: of that entity, such as a card_id.
        max_recent: how many recent events its profile keeps.
    """

    kind: str
    key: str
    max_recent: int


class EventUpdate(NamedTuple):
    """One event at its place in the log, with every entity it updates.

    Attributes:
        transaction_id: whose event it is; the journal names it.
    """

    partition: int
    offset: int
    event: Event
    entities: tuple[EntityRef, ...]
    transaction_id: str = ""


class FeatureStore(Protocol):
    """Profiles under an applied offset, and recorded decisions.

    Entities and transactions are spread over logical shards by a hash of their key. Each shard holds, for
    each partition, the applied offset, the owner's fencing token and a journal of what was read.
    """

    def claim(self, partitions: Iterable[int]) -> Mapping[int, int]:
        """Become the owner of partitions: a fencing token for each, higher than any before it."""
        ...

    def progress(self, partitions: Iterable[int]) -> Mapping[int, int]:
        """The offset up to which every shard has applied each partition; -1 where one has nothing."""
        ...

    def lookup(self, transaction_ids: Sequence[str]) -> list[bytes | None]:
        """The recorded decisions, None where there is none (or no longer)."""
        ...

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
        """Read, then update, the profiles of a batch; one call a shard, each exact by its own applied offset.

        Args:
            updates: in offset order within each partition.
            ends: of each partition in the batch, the last offset in it (also of events that update nothing);
                the applied offset moves there in every shard.
            recorded: of each partition, the offset up to which decisions are recorded and flushed: the
                journal is trimmed to it.
            fencing_tokens: of each partition, the owner's, from `claim`.
            rejected: of each partition, the offsets that became dead letters; only counted, each once.
            duplicates: of each partition, the offsets that brought a decided transaction again; the same.

        Returns:
            For each update what was known of its entities before it, in their order: always the same, whoever
            calls, however often. None where it is no longer in the journal: then its decision was recorded.
            Nothing, `()`, where the applied offset has passed it without an update (it was a duplicate then).

        Raises:
            OtherLog: the journal holds another transaction at an offset; no snapshot of it is returned.
            StaleOwner: a fencing token is not the newest; nothing was changed.
            StoreBehind: a shard has applied less than `recorded`; nothing was changed in it.
            DependencyDown: no answer; parts may have been applied, and calling again is right.
        """
        ...

    def record(
        self, decisions: Sequence[tuple[int, str, bytes]], *, fencing_tokens: Mapping[int, int]
    ) -> list[bytes]:
        """Record (partition, transaction_id, decision); the first writer wins and what is recorded returns.

        Raises:
            StaleOwner, DependencyDown: as above.
        """
        ...

    def counts(self) -> dict[str, int]:
        """How many were `decided` (transactions), `rejected` and `duplicates` (events), over all time."""
        ...


LabelStatus = Literal["new", "correction", "duplicate", "superseded", "pending"]


class LabelUpdate(NamedTuple):
    """One label at its place in the log.

    Attributes:
        offset: in the topic `labels`.
        transaction_id: of the transaction it speaks of.
        is_fraud: what it says.
        known_at: since when, seconds since 1970.
        delta: what it adds to entities (the store sets `corrects`); None while the decision is unknown.
        entities: of its transaction.
        raw: the label as it came, to be kept while it is pending.
    """

    offset: int
    transaction_id: str
    is_fraud: bool
    known_at: float
    delta: LabelDelta | None
    entities: tuple[EntityRef, ...]
    raw: bytes


class LabelStore(Protocol):
    """What is known of transactions and, by it, of entities; the learner's alone, under an applied offset.

    Of each transaction the latest knowledge is kept. A label is
      `new`: the first of its transaction;
      `correction`: newer than what was known, and says the opposite;
      `duplicate`: says what is known already;
      `superseded`: older than what is known, and says the opposite;
      `pending`: its decision is not known yet; of a transaction's pending labels the latest knowledge is kept
        among the pending labels, and where its bytes begin with an offset, that of the last that waited is
        added.
    `new` and `correction` update the label profiles of the entities.
    """

    def apply_labels(
        self, labels: Sequence[LabelUpdate], *, learned: int, passed: int = -1
    ) -> list[LabelStatus]:
        """The status of each label, in offset order; the same for an offset, however often it is asked.

        Args:
            labels: offsets rising.
            learned: the offset below which the published model has learned: the journal is trimmed to it.
            passed: the offset up to which the store was given all labels, by `advance_labels`.

        Raises:
            DependencyDown: calling again is right.
            LabelsBehind: the store was not given as many; nothing was changed.
        """
        ...

    def advance_labels(self, offset: int, *, passed: int) -> None:
        """Note that all labels up to an offset were given, those that change nothing included.

        Raises:
            DependencyDown, LabelsBehind: as above.
        """
        ...

    def pending(self, transaction_ids: Sequence[str]) -> list[bytes | None]:
        """The pending label of each transaction, if there is one."""
        ...

    def remove_pending(self, entries: Sequence[tuple[str, bytes]]) -> None:
        """Let labels (transaction_id, as `pending` or `expired` gave it) leave the pending labels.

        They are in the log again, or expired. One that changed since it was read, stays.
        """
        ...

    def expired(self, before: float, limit: int) -> list[tuple[str, bytes]]:
        """Pending labels known before a time (seconds), the oldest first: (transaction_id, label)."""
        ...


class DecisionLog(Protocol):
    """The log keeps decisions, with features as served, for as long as labels may come."""

    def decisions(self, transaction_ids: Sequence[str]) -> list[bytes | None]:
        """The decisions as they were emitted, None where there is none."""
        ...


class Message(NamedTuple):
    """One message that is to be written to a topic."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Outbox(Protocol):
    """The port through which all messages leave; an adapter writes them to Kafka."""

    def send(self, messages: Iterable[Message]) -> None:
        """Hand all messages over and return when every one is durable.

        Raises:
            DependencyDown: some are not; sending all again is right.
        """
        ...


class Clock(Protocol):
    """The wall clock stamps messages; no decision depends on it."""

    def __call__(self) -> datetime:
        """Now, in UTC."""
        ...
