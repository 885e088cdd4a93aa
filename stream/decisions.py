"""A decision as it is recorded, and what is emitted of it: always the same bytes. Pure.

Recorded are the decision as JSON and, for an alert, on a second line the card's recent activity: an alert
that is emitted again is built from these bytes and from nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from models.features.profiles import ProfileSnapshot
from models.features.recent_events import parse_recent_event
from stream.messages import Activity, Decision, decision_decoder, encode
from stream.ports import EntityRef
from stream.views import decision_head

_ALERT_ID = b',"alert_id":'
_ACTIVITY = b',"recent_activity":'


class Recorded(msgspec.Struct, frozen=True):
    """A recorded decision.

    Attributes:
        key: of its messages, the card_id.
        origin: partition and offset of the transaction that was decided; `epoch`: of its log.
        decision: JSON, as emitted.
        activity: JSON list, or empty where the decision needs no action.
    """

    transaction_id: str
    key: bytes
    origin: tuple[int, int]
    decision: bytes
    activity: bytes
    epoch: int = 0

    @property
    def raw(self) -> bytes:
        """The bytes that the store records for this decision."""
        return recorded_bytes(self.decision, self.activity)

    @property
    def is_alert(self) -> bool:
        """The decision needs action."""
        return bool(self.activity)

    def alert(self) -> bytes:
        """The alert as JSON: the decision with the card's recent activity."""
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
    return recorded_bytes(encode(decision), b"" if decision.action == "approve" else encode(activity))


def recorded_bytes(decision: bytes, activity: bytes = b"") -> bytes:
    r"""What is recorded of a decision as JSON and, for an alert, of its recent activity.

    >>> recorded_bytes(b'{"score":0.5}'), recorded_bytes(b'{"score":0.9}', b"[]")
    (b'{"score":0.5}', b'{"score":0.9}\n[]')
    """
    return b"%b\n%b" % (decision, activity) if activity else decision


def split_recorded(raw: bytes) -> tuple[bytes, bytes]:
    r"""The decision as JSON, and the recent activity of an alert, else nothing.

    >>> split_recorded(b'{"score":0.9}\n[]'), split_recorded(b'{"score":0.5}')
    ((b'{"score":0.9}', b'[]'), (b'{"score":0.5}', b''))
    """
    decision, _, activity = raw.partition(b"\n")
    return decision, activity


def recorded_of_alert(alert: bytes) -> bytes:
    """What was recorded of a decision that was emitted as this alert: the inverse of `Recorded.alert`."""
    decision, _, rest = alert.rpartition(_ALERT_ID)
    return recorded_bytes(decision + b"}", rest.partition(_ACTIVITY)[2][:-1])


def unpack(raw: bytes) -> Recorded:
    """What was recorded."""
    decision, activity = split_recorded(raw)
    head = decision_head(decision)
    return Recorded(head.transaction_id, head.card_id.encode(), head.origin, decision, activity, head.epoch)


def recent_activity(entities: Sequence[EntityRef], snapshots: Sequence[ProfileSnapshot]) -> list[Activity]:
    """The card's last events before this one, the latest first."""
    for entity, snapshot in zip(entities, snapshots, strict=True):
        if entity.kind == "card":
            recent_events = map(parse_recent_event, snapshot.profile.recent)
            return [
                Activity(
                    event_time=datetime.fromtimestamp(recent_event.time, UTC),
                    amount_minor=recent_event.amount_minor,
                    merchant_id=recent_event.merchant_id,
                    country=recent_event.country or None,
                )
                for recent_event in recent_events
            ]
    return []
