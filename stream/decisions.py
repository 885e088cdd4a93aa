"""A decision as it is recorded, and what is emitted of it: always the same bytes. Pure.

Recorded are the decision as JSON and, for an alert, on a second line the card's recent activity: an alert
that is emitted again is built from these bytes and from nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from models.features.profiles import ProfileSnapshot
from models.features.recent_events import parse_recent_event
from stream.messages import Activity, Decision, Transaction, decision_decoder, encode
from stream.ports import EntityRef, OtherLog
from stream.records import Epochs, Record
from stream.views import decision_head

_ALERT_ID = b',"alert_id":'
_ACTIVITY = b',"recent_activity":'
_canonical = msgspec.msgpack.Encoder(order="deterministic").encode


class Recorded(msgspec.Struct, frozen=True):
    """A recorded decision.

    Attributes:
        key: of its messages, the card_id.
        origin: partition and offset of the transaction that was decided; `epoch`: of its log.
        decision: JSON, as emitted.
        activity: JSON list, or empty where the decision needs no action.
        content: the digest of the transaction that was decided; empty where it was not recorded.
    """

    transaction_id: str
    key: bytes
    origin: tuple[int, int]
    decision: bytes
    activity: bytes
    content: str
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


def content_digest(transaction: Transaction) -> str:
    """What two deliveries of one payment agree in: 128 bits, hexadecimal, of all that the schema names.

    The transaction is written as a MessagePack map of its fields in the order of the schema, less those that
    are absent, null or empty; the event time as a moment, whatever its offset was; attributes by name. Order,
    white space, escapes and fields that the schema does not know make no difference.

    >>> from stream.messages import transaction_decoder
    >>> sent = b'{"transaction_id":"t","event_time":"2026-01-14T%b","card_id":"c","merchant_id":"m",%b}'
    >>> one = sent % (b"09:30:12.5Z", b'"amount_minor":4999,"currency":"EUR"')
    >>> same = sent % (b"10:30:12.500+01:00", b'"currency": "EUR", "amount_minor": 4999, "ip": null')
    >>> other = one.replace(b"4999", b"4998")
    >>> one, same, other = (content_digest(transaction_decoder.decode(raw)) for raw in (one, same, other))
    >>> one == same, one == other, len(one)
    (True, False, 32)
    """
    return blake2b(_canonical(transaction), digest_size=16).hexdigest()


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
    name, key = head.transaction_id, head.card_id.encode()
    return Recorded(name, key, head.origin, decision, activity, head.content_digest, head.epoch)


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


# ---- one id, one payment


class Arrival(NamedTuple):
    """A transaction, the record it came in, and the digest of its content."""

    record: Record
    transaction: Transaction
    content: str

    @property
    def place(self) -> tuple[int, int]:
        """Partition and offset."""
        return self.record.partition, self.record.offset

    def is_origin_of(self, entry: Recorded, epochs: Epochs) -> bool:
        """Whether the decision was made of this very event: its place, in the epoch that is there now."""
        return entry.origin == self.place and epochs.holds(entry.epoch, self.place)


def sort_out(
    arrivals: Sequence[Arrival], entries: Mapping[str, Recorded], epochs: Epochs
) -> tuple[list[Arrival], list[Arrival], list[Arrival]]:
    """The events that are, or will be, decided; those that bring one again; those that contradict one."""
    originals: list[Arrival] = []
    duplicates: list[Arrival] = []
    conflicts: list[Arrival] = []
    first: dict[str, Arrival] = {}
    for arrival in arrivals:
        name = arrival.transaction.transaction_id
        entry = entries.get(name)
        if entry is None:
            holder = first.setdefault(name, arrival)
            is_original, differs = holder is arrival, holder.content != arrival.content
        else:
            is_original = arrival.is_origin_of(entry, epochs)
            differs = contradicts(arrival, entry, epochs)
        (originals if is_original else conflicts if differs else duplicates).append(arrival)
    return originals, duplicates, conflicts


def contradicts(arrival: Arrival, entry: Recorded, epochs: Epochs) -> bool:
    """Whether an event brings other content than what was decided under its id.

    A decision's own event never does, whatever was recorded, nor does any where nothing was.
    """
    return entry.content not in ("", arrival.content) and not arrival.is_origin_of(entry, epochs)


def decided_elsewhere(
    originals: Sequence[Arrival],
    decided: Mapping[str, Recorded],
    proposals: Sequence[tuple[int, str, bytes]],
    winners: Sequence[bytes],
    epochs: Epochs,
) -> list[str]:
    """The transactions that another worker decided, of an event of its own, since they were looked up."""
    lost = {
        name
        for (_, name, raw), winner in zip(proposals, winners, strict=True)
        if winner is not raw and winner != raw
    }
    if not lost:  # nearly always
        return []
    own = {arrival.transaction.transaction_id: arrival for arrival in originals}
    return [name for name in lost if name in decided and not own[name].is_origin_of(decided[name], epochs)]


def split_conflicts(
    arrivals: Sequence[Arrival], entries: Mapping[str, Recorded], epochs: Epochs
) -> tuple[list[Arrival], list[tuple[Arrival, Recorded]]]:
    """The arrivals that agree with what is recorded of their transaction, and those that contradict it."""
    kept: list[Arrival] = []
    conflicts: list[tuple[Arrival, Recorded]] = []
    for arrival in arrivals:
        entry = entries.get(arrival.transaction.transaction_id)
        if entry is not None and contradicts(arrival, entry, epochs):
            conflicts.append((arrival, entry))
        else:
            kept.append(arrival)
    return kept, conflicts


def conflict_text(arrival: Arrival, entry: Recorded) -> str:
    """Names both events by their places: an id may be what must not be shown."""
    topic, (partition, offset) = arrival.record.topic, arrival.place
    return (
        f"{topic}[{partition}] offset {offset} has the transaction_id of {topic}[{entry.origin[0]}] offset "
        f"{entry.origin[1]}, which is decided, and other content"
    )


def check_known(trimmed: Sequence[Arrival], entries: Mapping[str, Recorded]) -> None:
    """Whatever the journal is trimmed of was recorded: of another log, or so long ago that it has expired.

    Raises:
        OtherLog: of an event no decision is known. Were it acknowledged, it would have none.
    """
    unknown = [arrival for arrival in trimmed if arrival.transaction.transaction_id not in entries]
    if unknown:
        record, transaction, _ = unknown[0]
        raise OtherLog(
            f"{record.topic}[{record.partition}] offset {record.offset} was worked on before, and of its "
            f"transaction {transaction.transaction_id} no decision is known ({len(unknown)} of this batch): "
            "nothing of it is acknowledged. Where this is another log, `riverwatch adopt transactions` "
            "begins it; where it came again after `decision_ttl`, set the group's offset behind it"
        )
