"""What is known of every entity, one event at a time: the arithmetic of `models.features.profiles`.

The stores of the workers hold the same under an applied offset that makes redelivery exact. An experiment is
delivered once, so it needs none; a test holds both against each other, to the bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.features.profiles import EntityState, Event, LabelDelta, ProfileSnapshot, empty, no_labels

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int to Python; compiled, it is a number of the machine

Entities = tuple[tuple[str, str, int], ...]  # kind, key, recent events kept: as `entities_of` gives them


class EntityStates:
    """Profiles of entities from events and from labels.

    Memory: 1 to 2 kB an entity, by the recent events it has; none for the stream.

    Args:
        half_lives: how many an event's weights have.
    """

    def __init__(self, half_lives: int) -> None:
        self._nothing = ProfileSnapshot(empty(half_lives), no_labels(half_lives))
        self._known: dict[str, dict[str, EntityState]] = {}

    def __len__(self) -> int:
        return sum([len(keys) for keys in self._known.values()])

    def of(self, entities: Entities) -> tuple[EntityState, ...]:
        """What is known of each entity; it changes with the events and labels that come to be known."""
        found = []
        for kind, key, _ in entities:
            keys = self._known.get(kind)
            if keys is None:
                keys = self._known[kind] = {}
            known = keys.get(key)
            if known is None:
                known = keys[key] = EntityState(self._nothing)
            found.append(known)
        return tuple(found)

    def snapshots(self) -> dict[tuple[str, str], ProfileSnapshot]:
        """What is known now, by kind and key."""
        return {
            (kind, key): ProfileSnapshot(known.events.profile(), known.labels.profile())
            for kind, keys in self._known.items()
            for key, known in keys.items()
        }


def update(known: tuple[EntityState, ...], event: Event, entities: Entities) -> None:
    """An event happened that updates these entities."""
    place: i64 = 0
    for each in known:
        _, _, max_recent = entities[place]
        place += 1
        each.add(event, max_recent)


def learn(known: tuple[EntityState, ...], delta: LabelDelta) -> None:
    """A label became known of a transaction of these entities."""
    for each in known:
        each.labels.add(delta)
