"""The second judge finds each kind of damage: logs are made by its own arithmetic, then damaged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.second_judge import admission, arithmetic, features, findings
from tests.second_judge.judging import Held, Names, Opinion, Seen, compare
from tests.second_judge.topics import Record

START = datetime(2026, 1, 5, tzinfo=UTC)
NAMES = Names()
RULES = admission.Rules()
CARD_NUMBER = "4111111111111111"


class Logs:
    """A sound installation of one partition, event by event; tests damage it."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Record]] = {name: [] for name in NAMES[:5]}
        self.profiles: dict[str, arithmetic.Profile] = {}
        self.labels: dict[str, arithmetic.LabelProfile] = {}
        self.waiting: dict[str, int] = {}
        self.held: dict[str, bytes] = {}
        self.lag = 0

    def put(self, log_name: str, key: bytes | None, value: bytes | None, **headers: Any) -> int:
        log = self.logs[log_name]
        pairs = tuple((name, str(each).encode()) for name, each in headers.items())
        came = int(START.timestamp() * 1000) + 10**9
        log.append(Record(0, len(log), came, key, value, pairs))
        return len(log) - 1

    def event(self, name: str, *, minute: int = 0, merchant: str = "m1", key: str = "c1") -> int:
        event = {
            "transaction_id": name,
            "event_time": (START + timedelta(minutes=minute)).isoformat(),
            "card_id": "c1",
            "merchant_id": merchant,
            "amount_minor": 1000 + minute,
            "currency": "EUR",
        }
        return self.put(NAMES.transactions, key.encode(), json.dumps(event).encode())

    def decide(self, offset: int, *, alert: bool = False) -> None:
        fields = admission.transaction(self.logs[NAMES.transactions][offset], RULES).fields
        payment = arithmetic.Payment(
            fields["event_time"],
            fields["amount_minor"],
            "EUR",
            "c1",
            fields["merchant_id"],
            device=None,
            country=None,
            category=None,
            channel=None,
            latitude=None,
            longitude=None,
        )
        told, entities, activity = features.of_payment(payment), {}, []
        for kind, key in payment.entities().items():
            profile = self.profiles.setdefault(f"{kind}:{key}", arithmetic.Profile())
            labels = self.labels.get(f"{kind}:{key}", arithmetic.LabelProfile())
            found = features.of_entity(kind, payment, profile, labels)
            told |= {f"{kind}.{name}": value for name, value in found.items()}
            entities[kind] = [key, profile.updates, labels.updates]
            if kind == "card":
                activity = [
                    {
                        "event_time": datetime.fromtimestamp(recent_event.time, UTC).isoformat(),
                        "amount_minor": recent_event.amount_minor,
                        "merchant_id": recent_event.merchant_id.decode(),
                    }
                    for recent_event in profile.recent_events
                ]
            profile.add(payment, arithmetic.KEPT[kind])
            self.held[f"{kind}:{key}"] = profile.packed()
        name = fields["transaction_id"]
        decision = {
            **{each: fields[each] for each in ("transaction_id", "card_id", "merchant_id", "amount_minor")},
            "currency": "EUR",
            "event_time": datetime.fromtimestamp(payment.time, UTC).isoformat(),
            "score": 0.5,
            "action": "review" if alert else "approve",
            "decided_at": START.isoformat(),
            "features": told,
            "origin": [0, offset],
            "entities": entities,
            "content_digest": fields["content_digest"],
        }
        self.put(NAMES.scores, b"c1", json.dumps(decision).encode())
        if alert:
            more = {"alert_id": f"a-{name}", "recent_activity": activity}
            self.put(NAMES.alerts, b"c1", json.dumps({**decision, **more}).encode())

    def refuse(self, offset: int, reason: str, *, topic: str = NAMES.transactions, **more: Any) -> None:
        record = self.logs[topic][offset]
        place = {"topic": topic, "partition": 0, "offset": offset}
        self.put(NAMES.dead_letters, record.key, record.value, reason=reason, **place, **more)

    def label(
        self,
        name: str,
        *,
        fraud: bool = True,
        hour: int = 1,
        minute: int = 0,
        known: bool = True,
        **headers: Any,
    ) -> int:
        label = {
            "transaction_id": name,
            "is_fraud": fraud,
            "known_at": (START + timedelta(hours=hour)).isoformat(),
            "source": "analyst",
        }
        if known:
            for entity in ("card:c1", "merchant:m1"):
                profile = self.labels.setdefault(entity, arithmetic.LabelProfile())
                profile.add(
                    arithmetic.LabelDelta(name, START.timestamp() + 60 * minute, fraud, corrects=False)
                )
        return self.put(NAMES.labels, name.encode(), json.dumps(label).encode(), **headers)

    def change(self, topic: str, number: int, **fields: Any) -> None:
        """Change fields of a message."""
        record = self.logs[topic][number]
        raw = json.dumps({**json.loads(record.value or b""), **fields}).encode()
        self.logs[topic][number] = record._replace(value=raw)

    def judged(self) -> Opinion:
        held = {name: profile.packed() for name, profile in self.labels.items()}
        done = len(self.logs[NAMES.transactions]) - self.lag
        log: Callable[[str], Iterable[Record]] = self.logs.__getitem__
        seen = Seen(log, {0: done}, len(self.logs[NAMES.labels]), Held(self.held, held, self.waiting))
        return compare(seen, NAMES, RULES)

    def found(self) -> set[str]:
        return {finding.kind for finding in self.judged().findings}


@pytest.fixture
def logs() -> Logs:
    """Four decisions, a duplicate, a dead letter, an alert and labels."""
    logs = Logs()
    logs.decide(logs.event("t0"))
    logs.decide(logs.event("t1", minute=7))
    again = logs.event("t0")
    logs.logs[NAMES.scores].append(
        logs.logs[NAMES.scores][0]._replace(offset=2, headers=(("redelivered", b"1"),))
    )
    assert again == 2
    logs.refuse(logs.event("t9", key="c2"), "key_mismatch")
    logs.label("t0")
    logs.label("t7", known=False)
    logs.decide(logs.event("t2", minute=9), alert=True)
    logs.decide(logs.event("t3", minute=8, merchant="m2"))
    logs.waiting["t7"] = 1
    return logs


def test_sound_logs_leave_nothing_to_say(logs: Logs) -> None:
    opinion = logs.judged()
    assert opinion.findings == []
    assert opinion.figures[:5] == (6, 4, 1, 1, 0)


def test_what_is_not_acknowledged_is_lag(logs: Logs) -> None:
    logs.event("t4")
    logs.lag = 1
    opinion = logs.judged()
    assert opinion.findings == []
    assert opinion.figures.lag == 1


def test_lost_event_is_found(logs: Logs) -> None:
    logs.event("t4")
    assert logs.found() == {findings.MISSING}


def test_bad_record_without_dead_letter_is_found(logs: Logs) -> None:
    logs.event("t4", key="c2")
    assert logs.found() == {findings.NO_LETTER}


def test_valid_record_that_became_a_dead_letter_is_found(logs: Logs) -> None:
    logs.refuse(logs.event("t4"), "unknown_currency")
    assert logs.found() == {findings.REFUSED}


def test_dead_letter_with_another_reason_is_found(logs: Logs) -> None:
    logs.refuse(logs.event("t4", key="c2"), "null_key")
    assert logs.found() == {findings.OTHER_REASON}


def test_dead_letter_from_nowhere_is_found(logs: Logs) -> None:
    record = logs.logs[NAMES.dead_letters][0]
    logs.logs[NAMES.dead_letters].append(record._replace(headers=(("reason", b"null_key"),)))
    assert logs.found() == {findings.NO_ORIGIN}


def test_dead_letter_that_comes_again_is_counted_once(logs: Logs) -> None:
    logs.refuse(3, "key_mismatch")
    assert logs.found() == set()
    assert logs.judged().figures.dead_letters == 1


def test_altered_dead_letter_is_found(logs: Logs) -> None:
    logs.change(NAMES.dead_letters, 0, currency="USD")
    assert logs.found() == {findings.ALTERED}


def test_card_number_in_a_dead_letter_is_found(logs: Logs) -> None:
    offset = logs.event("t4", key="c2")
    logs.change(NAMES.transactions, offset, card_id=CARD_NUMBER)
    logs.refuse(offset, "card_number_in_clear")
    assert logs.found() == {findings.IN_CLEAR}
    logs.change(NAMES.dead_letters, 1, card_id="411111******1111")
    assert logs.found() == set()


def test_other_content_under_a_decided_id_is_a_dead_letter_and_nothing_else_is(logs: Logs) -> None:
    other = logs.event("t1", minute=77)
    assert logs.found() == {findings.CONFLICT_TAKEN}
    logs.refuse(other, "id_conflict")
    assert logs.found() == set()
    same = logs.event("t9", minute=90)
    logs.refuse(same, "id_conflict")
    assert logs.found() == {findings.NO_CONFLICT}


def test_decision_that_records_another_content_is_found(logs: Logs) -> None:
    logs.change(NAMES.scores, 0, content_digest="0" * 32)
    assert findings.OTHER_CONTENT in logs.found()


def test_admitted_record_that_must_be_refused_is_found(logs: Logs) -> None:
    record = logs.logs[NAMES.transactions][5]
    logs.logs[NAMES.transactions][5] = record._replace(key=b"c2")
    assert logs.found() == {findings.ADMITTED}


def test_event_with_decision_and_dead_letter_is_found(logs: Logs) -> None:
    logs.refuse(5, "invalid")
    assert {findings.BOTH, findings.REFUSED} <= logs.found()


def test_decision_of_nowhere_and_of_another_event_are_found(logs: Logs) -> None:
    logs.change(NAMES.scores, 4, origin=[1, 3])
    assert findings.NO_EVENT in logs.found()
    logs.change(NAMES.scores, 4, origin=[0, 1])
    assert findings.OTHER_EVENT in logs.found()


def test_decisions_of_an_epoch_before_have_lost_their_events_and_later_ones_have_not(logs: Logs) -> None:
    before = json.loads(logs.logs[NAMES.scores][0].value or b"")
    for number, offset in enumerate((0, 1, 99)):  # where others stand now, and where nobody does
        former = {**before, "transaction_id": f"former{number}", "origin": [0, offset]}
        logs.put(NAMES.scores, b"c1", json.dumps(former).encode())
    assert findings.OTHER_EVENT in logs.found()
    for number, record in enumerate(logs.logs[NAMES.scores]):
        decision = json.loads(record.value or b"")
        if not decision["transaction_id"].startswith("former"):
            logs.change(NAMES.scores, number, epoch=1)
    assert logs.found() == set()
    logs.change(NAMES.scores, 4, epoch=1, origin=[0, 1])
    assert findings.OTHER_EVENT in logs.found()


def test_decision_with_other_facts_or_entities_is_found(logs: Logs) -> None:
    logs.change(NAMES.scores, 4, amount_minor=3)
    assert logs.found() == {findings.OTHER_FACTS}
    logs.change(NAMES.scores, 4, amount_minor=1008, entities={"card": ["c1", 3, 1]})
    assert findings.OTHER_ENTITIES in logs.found()


def test_copies_must_be_the_same_and_marked(logs: Logs) -> None:
    scores = logs.logs[NAMES.scores]
    scores[2] = scores[2]._replace(headers=())
    assert logs.found() == {findings.UNMARKED}
    logs.change(NAMES.scores, 2, score=0.4)
    assert logs.found() == {findings.UNMARKED, findings.DIFFERENT}


def test_delivery_whose_decision_was_not_emitted_again_is_found(logs: Logs) -> None:
    del logs.logs[NAMES.scores][2]
    assert logs.found() == {findings.FEW_COPIES}


def test_message_under_another_key_or_unreadable_is_found(logs: Logs) -> None:
    scores = logs.logs[NAMES.scores]
    scores[4] = scores[4]._replace(key=b"c2")
    assert logs.found() == {findings.OTHER_KEY}
    scores.append(scores[4]._replace(value=b"{}"))
    assert logs.found() == {findings.OTHER_KEY, findings.UNREADABLE}


def test_gap_in_the_order_of_an_entity_is_found(logs: Logs) -> None:
    logs.change(NAMES.scores, 4, entities={"card": ["c1", 4, 1], "merchant": ["m2", 0, 0]})
    assert logs.found() == {findings.ORDER}


@pytest.mark.parametrize("name", ["amount", "card.count.1h", "card.merchant_visits", "merchant.fraud_run"])
def test_feature_that_differs_by_one_bit_or_is_missing_is_found(logs: Logs, name: str) -> None:
    served = json.loads(logs.logs[NAMES.scores][3].value or b"")["features"]
    expected = {findings.feature(name), findings.ALERT_OTHER}  # the alert has the true ones
    logs.change(NAMES.scores, 3, features={**served, name: served[name] * (1 + 2**-52)})
    assert logs.found() == expected
    logs.change(NAMES.scores, 3, features={each: served[each] for each in served if each != name})
    assert logs.found() == expected


def test_profile_that_redis_holds_otherwise_is_found(logs: Logs) -> None:
    raw = bytearray(logs.held["card:c1"])
    raw[-1] ^= 1
    logs.held["card:c1"] = bytes(raw)
    assert logs.found() == {findings.PROFILE}
    logs.held["card:c1"] = arithmetic.Profile(updates=9).packed()
    assert logs.found() == {findings.PROFILE_AHEAD}
    del logs.held["card:c1"]
    assert logs.found() == {findings.PROFILE_LOST}
    logs.held["card:c1"] = logs.profiles["card:c1"].packed()
    logs.held["card:c9"] = arithmetic.Profile(updates=1).packed()
    assert logs.found() == {findings.PROFILE_AHEAD}


def test_label_that_counted_twice_is_found(logs: Logs) -> None:
    logs.labels["card:c1"].add(arithmetic.LabelDelta("t0", START.timestamp(), True, False))
    assert logs.found() == {findings.LABEL_PROFILE}


def test_decision_with_labels_that_nobody_gave_is_found(logs: Logs) -> None:
    logs.change(NAMES.scores, 4, entities={"card": ["c1", 3, 2], "merchant": ["m2", 0, 0]})
    assert logs.found() == {findings.LABELS_AHEAD}


def test_label_that_is_repeated_overruled_or_waits_changes_nothing(logs: Logs) -> None:
    logs.label("t0", hour=5, known=False)
    logs.label("t0", fraud=False, hour=2, known=False)
    first = logs.label("t1", known=False)
    assert first == 4
    logs.label("t1", minute=7, waited=first)
    assert logs.found() == set()


def test_bad_label_needs_a_dead_letter_and_a_good_one_none(logs: Logs) -> None:
    logs.label("t9", known=False)
    logs.refuse(2, "unknown_transaction", topic=NAMES.labels, waited=2)
    logs.put(NAMES.labels, b"t1", b"{}")
    assert logs.found() == {findings.NO_LETTER}
    logs.refuse(3, "invalid", topic=NAMES.labels)
    assert logs.found() == set()
    logs.refuse(0, "future_time", topic=NAMES.labels)
    assert logs.found() == {findings.REFUSED}


def test_alerts_must_be_those_of_the_decisions(logs: Logs) -> None:
    alerts = logs.logs[NAMES.alerts]
    logs.change(NAMES.alerts, 0, recent_activity=[])
    assert logs.found() == {findings.ACTIVITY}
    logs.change(NAMES.alerts, 0, recent_activity=[], score=0.1)
    assert logs.found() == {findings.ACTIVITY, findings.ALERT_OTHER}
    alerts.clear()
    assert logs.found() == {findings.ALERT_MISSING}
    extra = {"transaction_id": "t3", "card_id": "c1", "alert_id": "a-t3", "recent_activity": []}
    logs.put(NAMES.alerts, b"c1", json.dumps(extra).encode())
    assert {findings.ALERT_MISSING, findings.ALERT_EXTRA} <= logs.found()


def test_log_without_its_beginning_is_not_judged_in_silence(logs: Logs) -> None:
    del logs.logs[NAMES.transactions][0]
    assert findings.NOT_WHOLE in logs.found()


def test_finding_is_a_sentence_with_examples(logs: Logs) -> None:
    logs.event("t4")
    [finding] = logs.judged().findings
    assert str(finding) == f"{findings.MISSING} (once: t4 (event 0/6))."
