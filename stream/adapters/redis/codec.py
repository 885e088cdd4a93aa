"""Profiles, events and labels as the bytes that Python and the Redis scripts exchange.

Little-endian throughout, doubles for every number of a profile:
  profile         recent events n (1 byte) | their lengths (n bytes) | 3 + 6 * half-lives doubles | the events
  label profile   latest labelled transactions n (1 byte) | weeks with frauds m (1 byte) |
                  3 + 5 * half-lives doubles | 3 * m doubles | n doubles | n unsigned integers of 4 bytes
An absent profile is the one byte 255. So a profile takes 25 + 48 h bytes and its recent events one more than
their length each; a label profile takes 26 + 40 h, 12 for each of at most LATEST labelled
transactions, and 24 for each of at most WEEKS weeks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import chain
from zlib import crc32

from models.features.label_memory import LABEL_WIDTH, WEEK_WIDTH
from models.features.profiles import (
    CLIP,
    FLOOR,
    MIN_COUNT,
    OUTLIER,
    WIDTH,
    Event,
    LabelDelta,
    LabelProfile,
    Profile,
    ProfileSnapshot,
    empty,
    no_labels,
)

CONSTANTS = struct.pack("<dddd", MIN_COUNT, CLIP, OUTLIER, FLOOR)
_ABSENT = 255
ABSENT = bytes([_ABSENT])
MAX_RECENT_EVENTS = 254
_EVENT = struct.Struct("<dBIHB")
_LABEL = struct.Struct("<dBBB")
_HEAD = struct.Struct("<dBI")


def digest_of_name(transaction_id: str) -> int:
    """What the journal keeps of a transaction's id: 32 bits tell it from another log's at the same offset.

    >>> digest_of_name("t1")
    1532276279
    """
    return crc32(transaction_id.encode())


class Codec:
    """Packs what the scripts read, and unpacks what they answer.

    Args:
        half_lives: how many each profile has.
    """

    def __init__(self, half_lives: int) -> None:
        self.half_lives = half_lives
        self._empty = empty(half_lives)
        self._no_labels = no_labels(half_lives)
        self._profile = struct.Struct(f"<{3 + WIDTH * half_lives}d")
        self._label_profiles: dict[tuple[int, int], struct.Struct] = {}
        self._weeks_from = 3 + LABEL_WIDTH * half_lives
        self._events: dict[int, struct.Struct] = {}
        self._labels: dict[int, struct.Struct] = {}

    def event(
        self, partition: int, offset: int, event: Event, entities: list[int], transaction: int = 0
    ) -> bytes:
        """An event at its place.

        Args:
            partition: its place in the call, from 1.
            offset: in the partition.
            event: what it adds.
            transaction: whose it is (`digest_of_name`).
            entities: of each entity its place in the call, from 1, then how many recent events it keeps.
        """
        touched = len(entities) // 2
        layout = self._events.get(touched)
        if layout is None:
            layout = struct.Struct("<ddd" + "dd" * self.half_lives + "IB" * touched)
            self._events[touched] = layout
        time, amount, log_amount, weights, recent_event = event
        try:
            head = _EVENT.pack(offset, touched, transaction, partition, len(recent_event))
        except struct.error:
            raise ValueError(
                f"offset {offset}: a recent event of at most 255 bytes, and at most 255 entities"
            ) from None
        return (
            head
            + recent_event
            + layout.pack(time, amount, log_amount, *chain.from_iterable(weights), *entities)
        )

    def label(self, offset: int, delta: LabelDelta, entities: list[int]) -> bytes:
        """A label at its place; `entities` are places in the call, from 1."""
        touched = len(entities)
        layout = self._labels.get(touched)
        if layout is None:
            layout = struct.Struct("<dI" + "dd" * self.half_lives + "I" * touched)
            self._labels[touched] = layout
        return _LABEL.pack(offset, touched, delta.is_fraud, delta.corrects) + layout.pack(
            delta.time, delta.digest, *chain.from_iterable(delta.weights), *entities
        )

    def profile(self, data: bytes, at: int = 0) -> tuple[Profile, int]:
        """The profile at a place, and where it ends."""
        kept = data[at]
        at += 1
        if kept == _ABSENT:
            return self._empty, at
        first = at + kept
        values = self._profile.unpack_from(data, first)
        end = first + self._profile.size
        recent = []
        for length in data[at:first]:
            recent.append(data[end : end + length])
            end += length
        return Profile(int(values[0]), values[1], values[2], values[3:], tuple(recent)), end

    def label_profile(self, data: bytes, at: int = 0) -> tuple[LabelProfile, int]:
        """The label profile at a place, and where it ends."""
        kept = data[at]
        at += 1
        if kept == _ABSENT:
            return self._no_labels, at
        layout = self._label_layout(kept, data[at])
        values = layout.unpack_from(data, at + 1)
        weeks = self._weeks_from
        latest = weeks + WEEK_WIDTH * data[at]
        codes = latest + kept
        profile = LabelProfile(
            int(values[0]),
            int(values[1]),
            int(values[2]),
            values[latest:codes],
            values[codes:],
            values[weeks:latest],
            values[3:weeks],
        )
        return profile, at + 1 + layout.size

    def _label_layout(self, latest: int, weeks: int) -> struct.Struct:
        layout = self._label_profiles.get((latest, weeks))
        if layout is None:
            layout = struct.Struct(f"<{self._weeks_from + WEEK_WIDTH * weeks + latest}d{latest}I")
            self._label_profiles[latest, weeks] = layout
        return layout

    def packed(self, profile: Profile) -> bytes:
        """A profile as the scripts store it; the way back from `profile`."""
        updates, first, last, sums, recent = profile
        lengths = bytes(map(len, recent))
        return b"%c%b%b%b" % (
            len(recent),
            lengths,
            self._profile.pack(updates, first, last, *sums),
            b"".join(recent),
        )

    def packed_labels(self, profile: LabelProfile) -> bytes:
        """A label profile as the scripts store it; the way back from `label_profile`."""
        updates, frauds, genuine, times, codes, weeks, sums = profile
        counts = len(times), len(weeks) // WEEK_WIDTH
        layout = self._label_layout(*counts)
        return bytes(counts) + layout.pack(updates, frauds, genuine, *sums, *weeks, *times, *codes)

    def entries(self, chunk: bytes) -> Iterator[tuple[int, int, list[ProfileSnapshot]]]:
        """The entries of one chunk of the journal: offset, whose event it was, and what was read there."""
        at = 0
        size = len(chunk)
        unpack_head = _HEAD.unpack_from
        unpack_profile = self.profile
        unpack_labels = self.label_profile
        no_labels = self._no_labels
        while at < size:
            offset, touched, transaction = unpack_head(chunk, at)
            at += _HEAD.size
            snapshots = []
            for _ in range(touched):
                profile, at = unpack_profile(chunk, at)
                if chunk[at] == _ABSENT:
                    at += 1
                    snapshots.append(ProfileSnapshot(profile, no_labels))
                else:
                    labels, at = unpack_labels(chunk, at)
                    snapshots.append(ProfileSnapshot(profile, labels))
            yield int(offset), transaction, snapshots
