"""What is known of every entity, read and updated one event at a time: the arithmetic of `models.profiles`.

The stores of the workers hold the same under a fence that makes redelivery exact. An experiment is delivered
once, so it needs none; a test holds both against each other, to the bit.
"""

from __future__ import annotations

from models.features import entities_of
from models.profiles import (
    Event,
    Knowledge,
    LabelProfile,
    Profile,
    Reading,
    empty,
    informed,
    no_labels,
    updated,
)

Entities = tuple[tuple[str, str, int], ...]  # kind, key, notes kept: as `entities_of` gives them

__all__ = ["Entities", "KnownEntities", "entities_of"]


class KnownEntities:
    """Profiles of entities from events and from labels.

    Memory: 1 to 2.5 kB an entity, by the notes and labels it has; none for the stream.

    Args:
        half_lives: how many an event's weights have.
    """

    def __init__(self, half_lives: int) -> None:
        self._empty = empty(half_lives)
        self._no_labels = no_labels(half_lives)
        self._profiles: dict[tuple[str, str], Profile] = {}
        self._labels: dict[tuple[str, str], LabelProfile] = {}

    def __len__(self) -> int:
        return len(self._profiles)

    def read_then_update(self, event: Event, entities: Entities) -> tuple[Reading, ...]:
        """What was known of each entity before the event; afterwards the event is known too."""
        profiles, labels = self._profiles, self._labels
        readings = []
        for kind, key, keep in entities:
            entity = (kind, key)
            # Read before write: an event does not vouch for itself.
            profile = profiles.get(entity, self._empty)
            readings.append(Reading(profile, labels.get(entity, self._no_labels)))
            profiles[entity] = updated(profile, event, keep)
        return tuple(readings)

    def learn(self, knowledge: Knowledge, entities: Entities) -> None:
        """A label became known of a transaction that touched these entities."""
        labels = self._labels
        for kind, key, _ in entities:
            entity = (kind, key)
            labels[entity] = informed(labels.get(entity, self._no_labels), knowledge)
