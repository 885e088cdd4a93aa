"""Profiles as the logs alone give them: one pass, one thread, each decided event once, in the order recorded.

An entity's profile depends on its own events alone, and every decision says how many events the profile held
when it was read. So each entity's events are put into that order by themselves; an event that was read ahead
of its turn waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol

from models.features.compute import entities_of, event_of
from models.features.profiles import (
    Event,
    LabelProfile,
    Profile,
    ProfileSnapshot,
    apply_event,
    empty,
    no_labels,
)
from models.features.spec import FeatureSpec
from stream.messages import Transaction
from stream.records import Record
from stream.views import ServedDecision


class Packing(Protocol):
    """How a profile is kept while it waits for its next event: as the bytes that stores keep."""

    def packed(self, profile: Profile) -> bytes:
        """The bytes of a profile."""
        ...

    def profile(self, data: bytes, at: int = 0) -> tuple[Profile, int]:
        """The profile of bytes, and where it ends."""
        ...


class DecidedEvent:
    """One decided event on its way through the replay.

    Attributes:
        place: partition and offset.
        came: when its event came to Kafka, seconds since 1970.
        value: the message it was decided in.
        entities: names and how many recent events are kept, in order.
        snapshots: what was known of each before the event; None where that cannot be told.
    """

    __slots__ = (
        "came",
        "decision",
        "entities",
        "event",
        "kinds",
        "left",
        "payment",
        "place",
        "snapshots",
        "value",
    )

    def __init__(
        self, record: Record, payment: Transaction, decision: ServedDecision, value: bytes, spec: FeatureSpec
    ) -> None:
        found = entities_of(payment, spec)
        self.place = (record.partition, record.offset)
        self.came = record.timestamp_ms / 1000.0
        self.payment = payment
        self.decision = decision
        self.value = value
        self.event: Event = event_of(payment, spec)
        self.kinds = tuple(kind for kind, _, _ in found)
        self.entities = tuple((f"{kind}:{key}", max_recent) for kind, key, max_recent in found)
        self.snapshots: list[ProfileSnapshot | None] = [None] * len(found)
        self.left = len(found)

    @property
    def agrees(self) -> bool:
        """Whether the decision names the entities that its transaction has."""
        told = self.decision.entities
        return tuple(f"{kind}:{key}" for kind, (key, _, _) in told.items()) == tuple(
            name for name, _ in self.entities
        )


class Turn(NamedTuple):
    """An event at one of its entities."""

    case: DecidedEvent
    position: int
    before: int
    labels: int


class ReplayedEvents:
    """Applies decided events.

    Kept are the bytes of every entity's profile, some 200 more an entity, and what waits for its turn.

    Args:
        spec: the features.
        packing: how profiles are kept.
        labels: the label profile of an entity after so many labels, if it ever had as many.
        on_update: called after each update with the entity, the event's place, and the profile: how many
            events it holds, and its bytes.
        read: called with each case when all its snapshots are there.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        packing: Packing,
        labels: Callable[[str, int], LabelProfile | None],
        *,
        on_update: Callable[[str, tuple[int, int], int, bytes], None],
        read: Callable[[DecidedEvent], None],
    ) -> None:
        self._packing = packing
        self._labels = labels
        self._on_update = on_update
        self._read = read
        self._empty = empty(len(spec.half_lives))
        self._no_labels = no_labels(len(spec.half_lives))
        self._counts: dict[str, int] = {}
        self._profiles: dict[str, bytes] = {}
        self._ahead: dict[str, dict[int, list[Turn]]] = {}

    def apply(self, case: DecidedEvent) -> None:
        """The next decided event of its partition."""
        entities = case.decision.entities
        for position, ((name, _), kind) in enumerate(zip(case.entities, case.kinds, strict=True)):
            _, before, labels = entities[kind]
            turn = Turn(case, position, before, labels)
            if before == self._counts.get(name, 0):
                self._take(name, turn)
                self._drain(name)
            else:
                self._ahead.setdefault(name, {}).setdefault(before, []).append(turn)
        if not case.entities:
            self._read(case)

    def _drain(self, name: str) -> None:
        ahead = self._ahead.get(name)
        while ahead and (turns := ahead.get(self._counts[name])):
            if len(turns) > 1:
                return  # two claim one place in the order: left to `finish`
            del ahead[turns[0].before]
            self._take(name, turns[0])
        if ahead is not None and not ahead:
            del self._ahead[name]

    def finish(
        self, disordered: Callable[[str, Turn, int], None], *, open_ended: Collection[str] = ()
    ) -> set[str]:
        """Apply what never had its turn, as nearly in order as can be told.

        Args:
            disordered: called before each such update with the entity, the turn, and how many events the
                profile holds.
            open_ended: entities of which events are still to come: what waits for those is not applied.

        Returns:
            The entities at which something waits still.
        """
        waiting = {name for name in self._ahead if name in open_ended}
        for name, ahead in self._ahead.items():
            if name in waiting:
                continue
            turns = [turn for found in ahead.values() for turn in found]
            for turn in sorted(turns, key=lambda turn: (turn.before, turn.case.decision.decided_at)):
                held = self._counts.get(name, 0)
                if turn.before != held:
                    disordered(name, turn, held)
                self._take(name, turn)
        self._ahead.clear()
        return waiting

    def updates(self, name: str) -> int:
        """How many events the profile of an entity holds."""
        return self._counts.get(name, 0)

    def profiles(self) -> dict[str, bytes]:
        """Every entity's profile as bytes; not to be changed."""
        return self._profiles

    def _take(self, name: str, turn: Turn) -> None:
        case, position, _, known = turn
        raw = self._profiles.get(name)
        profile = self._empty if raw is None else self._packing.profile(raw)[0]
        labels = self._labels(name, known) if known else self._no_labels
        case.snapshots[position] = None if labels is None else ProfileSnapshot(profile, labels)
        after = apply_event(profile, case.event, case.entities[position][1])
        raw = self._packing.packed(after)
        self._profiles[name] = raw
        self._counts[name] = after.updates
        self._on_update(name, case.place, after.updates, raw)
        case.left -= 1
        if not case.left:
            self._read(case)
