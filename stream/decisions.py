"""A decision as it is recorded, and what is emitted of it: always the same bytes. Pure.

Recorded are the decision as JSON and, for an alert, on a second line the card's recent activity: an alert
that is emitted again is built from these bytes and from nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from models.features.profiles import Reading
from models.features.recent_events import parse_note
from stream.messages import Activity, Decision, decision_decoder, encode
from stream.ports import EntityRef


class _Head(msgspec.Struct, frozen=True):
    """The few fields that sending a recorded decision needs."""

    transaction_id: str
    card_id: str
    origin: tuple[int, int]


_head = msgspec.json.Decoder(_Head)


class Recorded(msgspec.Struct, frozen=True):
    """A recorded decision.

    Attributes:
        key: of its messages, the card_id.
        origin: partition and offset of the transaction that was decided.
        decision: JSON, as emitted.
        activity: JSON list, or empty where the decision needs no action.
    """

    transaction_id: str
    key: bytes
    origin: tuple[int, int]
    decision: bytes
    activity: bytes

    @property
    def raw(self) -> bytes:
        """What is recorded."""
        return b"%b\n%b" % (self.decision, self.activity) if self.activity else self.decision

    @property
    def is_alert(self) -> bool:
        """The decision needs action."""
        return bool(self.activity)

    def alert(self) -> bytes:
        """The alert, JSON."""
        return b"%b,%b,%b}" % (
            self.decision[:-1],
            encode({"alert_id": f"a-{self.transaction_id}"})[1:-1],
            b'"recent_activity":' + self.activity,
        )

    def without_features(self) -> bytes:
        """The decision as JSON, less its features."""
        return encode(msgspec.structs.replace(decision_decoder.decode(self.decision), features=None))


def pack(decision: Decision, activity: Sequence[Activity]) -> bytes:
    """What is recorded of a decision."""
    raw = encode(decision)
    return raw if decision.action == "approve" else raw + b"\n" + encode(activity)


def unpack(raw: bytes) -> Recorded:
    """What was recorded."""
    decision, _, activity = raw.partition(b"\n")
    head = _head.decode(decision)
    return Recorded(head.transaction_id, head.card_id.encode(), head.origin, decision, activity)


def recent_activity(entities: Sequence[EntityRef], readings: Sequence[Reading]) -> list[Activity]:
    """The card's last events before this one, the latest first."""
    for entity, reading in zip(entities, readings, strict=True):
        if entity.kind == "card":
            notes = map(parse_note, reading.profile.recent)
            return [
                Activity(
                    event_time=datetime.fromtimestamp(note.time, UTC),
                    amount_minor=note.amount_minor,
                    merchant_id=note.merchant_id,
                    country=note.country or None,
                )
                for note in notes
            ]
    return []
