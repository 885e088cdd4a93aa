"""The account of events and decisions: what became of each record of `transactions`, and of nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from tests.second_judge import admission, content, findings
from tests.second_judge.arithmetic import Payment
from tests.second_judge.findings import Findings
from tests.second_judge.spool import Spool
from tests.second_judge.topics import Record

Place = tuple[int, int]

CONFLICT = "id_conflict"
KEPT_BYTES, KEPT_KEY_BYTES = 900_000, 4_096  # of what became a dead letter
_PLAIN = (
    "transaction_id",
    "card_id",
    "merchant_id",
    "amount_minor",
    "currency",
    "country",
    "category",
    "channel",
)
_PAYMENT = (
    *("event_time", "amount_minor", "currency", "card_id", "merchant_id", "device_id"),
    *("country", "category", "channel", "latitude", "longitude"),
)


class Joined(NamedTuple):
    """An event with its decision; `entities` are kind to key, events and labels read before it."""

    transaction: str
    place: Place
    payment: Payment
    action: str
    score: float
    decided_at: float
    entities: dict[str, tuple[str, int, int]]
    features: dict[str, float] | None


class _Emitted:
    """What scores hold of one transaction."""

    __slots__ = ("content", "digest", "number", "times", "unmarked")

    def __init__(self, content: bytes, number: int, digest: str) -> None:
        self.content = content
        self.digest = digest  # of the transaction that was decided; empty in older decisions
        self.number = number  # among the joined, -1 where it met no event
        self.times = self.unmarked = 0


class Account:
    """Takes events, then dead letters, then decisions; `close` gives the balance.

    Args:
        rules: of what is believable.
        acknowledged: of each partition of transactions, read before the topics were.
    """

    def __init__(self, rules: admission.Rules, acknowledged: Mapping[int, int], found: Findings) -> None:
        self._rules = rules
        self._acknowledged = acknowledged
        self._found = found
        self._numbers: dict[Place, int] = {}
        self._events = Spool()  # reason, fields or what is needed to judge a dead letter
        self._conflicts: set[int] = set()
        self._fates = bytearray()  # 0 nothing, 1 decided, 2 a dead letter
        self._emitted: dict[str, _Emitted] = {}
        self._ends: dict[int, int] = {}
        self._adrift: list[
            tuple[int, int, str, str]
        ] = []  # epoch, number of the event or -1, finding, example
        self.epoch = 0
        self.joined = Spool()
        self.decided = self.duplicates = self.dead = self.lag = 0

    @property
    def events(self) -> int:
        """Records of transactions."""
        return len(self._events)

    def free(self) -> None:
        """Remove the files."""
        self._events.close()
        self.joined.close()

    # ---- events and dead letters

    def add_event(self, record: Record) -> None:
        """The next record of `transactions`."""
        self._ends[record.partition] = record.offset + 1
        self._numbers[record.partition, record.offset] = len(self._fates)
        self._fates.append(0)
        reason, fields = admission.transaction(record, self._rules)
        hides = reason == admission.IN_CLEAR or (
            self._rules.refuse_card_numbers and admission.may_be_masked(record)
        )
        original = (_content(record.key, KEPT_KEY_BYTES), _content(record.value, KEPT_BYTES))
        self._events.append((reason, fields, hides, *original))

    def add_letter(self, record: Record, place: Place, reason: str) -> None:
        """A dead letter of a transaction at a place."""
        name = f"event {_at(place)}"
        number = self._numbers.get(place)
        if number is None:
            if place[1] < self._ends.get(place[0], 0) or place[0] not in self._ends:
                self._found.add(findings.NO_ORIGIN, name)
            return
        own, _, hides, key, value = self._events[number]
        if self._fates[number] == 0:  # after a crash it may come again
            self.dead += 1
        self._fates[number] = 2
        if reason == CONFLICT and not own:
            self._conflicts.add(number)
        elif not own:
            if reason != admission.IN_CLEAR or not hides:  # what shows a card number is not told to a digit
                self._found.add(findings.REFUSED, f"{name}, {reason}")
        elif own != reason and not {own, reason} <= admission.MALFORMED:
            self._found.add(findings.OTHER_REASON, f"{name}: {reason}, and it is {own}")
        if hides:
            if content.surely_shows(record.key) or content.surely_shows(record.value):
                self._found.add(findings.IN_CLEAR, name)
        elif (_content(record.key, KEPT_KEY_BYTES), _content(record.value, KEPT_BYTES)) != (key, value):
            self._found.add(findings.ALTERED, name)

    # ---- decisions

    def add_decision(self, record: Record) -> None:
        """A record of `scores`."""
        raw = record.value or b""
        try:
            decision = json.loads(raw)
            name, place = decision["transaction_id"], tuple(map(int, decision["origin"]))
            key = decision["card_id"].encode()
            epoch = int(decision.get("epoch", 0))
        except (ValueError, KeyError, TypeError):
            self._found.add(findings.UNREADABLE, f"scores {record.partition}/{record.offset}")
            return
        self.epoch = max(self.epoch, epoch)
        if key != record.key:
            self._found.add(findings.OTHER_KEY, f"{name} on scores")
        raw_digest = blake2b(raw, digest_size=16).digest()
        emitted = self._emitted.get(name)
        if emitted is None:
            number = self._join(decision, name, (place[0], place[1]), epoch)
            emitted = self._emitted[name] = _Emitted(raw_digest, number, decision.get("content_digest", ""))
        elif emitted.content != raw_digest:
            self._found.add(findings.DIFFERENT, f"{name} (event {place[0]}/{place[1]})")
        emitted.times += 1
        if record.header("redelivered") != b"1":
            emitted.unmarked += 1
            if emitted.unmarked > 1:
                self._found.add(findings.UNMARKED, name)

    def _join(self, decision: dict[str, Any], name: str, place: Place, epoch: int) -> int:
        """Put a decision and the event at its origin side by side.

        Where the log was begun anew, a decision of an earlier epoch has lost its event: known at the end.
        """
        text = f"{name} (event {_at(place)})"
        number = self._numbers.get(place)
        if number is None:
            if place[1] < self._ends.get(place[0], 0) or place[0] not in self._acknowledged:
                self._adrift.append((epoch, -1, findings.NO_EVENT, text))
            return -1  # else the event came after the events were read
        reason, fields, *_ = self._events[number]
        if fields and fields["transaction_id"] != name:
            said = f"{text}, which is of {fields['transaction_id']}"
            self._adrift.append((epoch, number, findings.OTHER_EVENT, said))
            return -1
        if self._fates[number] == 2:
            self._found.add(findings.BOTH, text)
        elif self._fates[number] == 0:
            self.decided += 1
            self._fates[number] = 1
        if reason:
            self._found.add(findings.ADMITTED, f"{text}: {reason}")
            if not fields:
                return -1
        told = [decision.get(each) for each in _PLAIN]
        if told != [fields[each] for each in _PLAIN] or _time(decision, "event_time") != fields["event_time"]:
            self._found.add(findings.OTHER_FACTS, text)
        if decision.get("content_digest", "") not in ("", fields["content_digest"]):
            self._found.add(findings.OTHER_CONTENT, text)
        payment = Payment(*(fields[each] for each in _PAYMENT))
        entities = {
            kind: (key, events, labels) for kind, (key, events, labels) in decision["entities"].items()
        }
        if {kind: key for kind, (key, _, _) in entities.items()} != payment.entities():
            self._found.add(findings.OTHER_ENTITIES, f"{text}: {entities}, and it has {payment.entities()}")
        decided_at = _time(decision, "decided_at")
        return self.joined.append(
            (
                name,
                place,
                tuple(payment),
                decision["action"],
                decision["score"],
                decided_at,
                entities,
                decision.get("features"),
            )
        )

    def of(self, name: str) -> Joined | None:
        """The decision on a transaction, with its event."""
        emitted = self._emitted.get(name)
        return None if emitted is None or emitted.number < 0 else self.case(emitted.number)

    def case(self, number: int) -> Joined:
        """One of the joined by its number."""
        found = Joined(*self.joined[number])
        return found._replace(payment=Payment(*found.payment))

    # ---- the balance

    def close(self) -> None:
        """Find the fate of every event that is neither decided nor a dead letter."""
        for epoch, number, what, text in self._adrift:
            if epoch == self.epoch:
                self._found.add(what, text)
                if number >= 0 and not self._fates[number]:
                    self.decided += 1
                    self._fates[number] = 1
        deliveries: dict[str, int] = {}
        self._judge_conflicts()
        for place, number in self._numbers.items():
            if self._fates[number]:
                continue
            reason, fields, *_ = self._events[number]
            name = fields.get("transaction_id", "")
            done = place[1] < self._acknowledged.get(place[0], 0)
            is_other = not reason and self._contradicts(fields)
            if not reason and name in self._emitted and not is_other:
                self.duplicates += 1
                if done:
                    deliveries[name] = deliveries.get(name, 1) + 1
            elif not done:
                self.lag += 1
            elif reason:
                self._found.add(findings.NO_LETTER, f"event {_at(place)}, {reason}")
            else:
                kind = findings.CONFLICT_TAKEN if is_other else findings.MISSING
                self._found.add(kind, f"{name} (event {_at(place)})")
        for name, times in deliveries.items():
            if self._emitted[name].times < times:
                said = f"{name}: {times} deliveries, {self._emitted[name].times} decisions"
                self._found.add(findings.FEW_COPIES, said)

    def _judge_conflicts(self) -> None:
        """Each dead letter that says so must be of an event that contradicts a decision."""
        for number in self._conflicts:
            _, fields, *_ = self._events[number]
            if not self._contradicts(fields):
                self._found.add(findings.NO_CONFLICT, str(fields["transaction_id"]))

    def _contradicts(self, fields: dict[str, Any]) -> bool:
        """Whether a transaction was decided of other content than these fields."""
        emitted = self._emitted.get(fields["transaction_id"])
        return emitted is not None and emitted.digest not in ("", fields["content_digest"])


def _content(raw: bytes | None, kept: int) -> bytes | None:
    return None if raw is None else blake2b(raw[:kept], digest_size=16).digest()


def _time(decision: dict[str, Any], name: str) -> float:
    return admission.seconds(decision[name])


def _at(place: Place) -> str:
    return f"{place[0]}/{place[1]}"
