"""One id, one payment: other content under a decided id is a dead letter, wherever and whenever it comes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest

from models.features.spec import DEFAULT_SPEC
from stream.adapters.memory.store import MemoryOutbox, MemoryStore
from stream.admission import Limits
from stream.dead_letters import DeadLetter
from stream.decisions import content_digest
from stream.inspect.account import Ledger
from stream.messages import Transaction, decision_decoder, encode, transaction_decoder
from stream.pipeline import BatchCounts, DecisionTopics, Pipeline
from stream.policy import Policy
from stream.ports import DependencyDown, Message
from stream.records import Epoch, Epochs, Record
from stream.serving import first_model
from tests.second_judge import admission
from tests.second_judge.topics import Record as Seen
from tests.support.builders import START, payment

FIRST = payment(1, amount=100)
OTHER = payment(1, amount=990_000, card="c2")


class Site:
    """One store, one outbox, and workers."""

    def __init__(self) -> None:
        self.store = MemoryStore(DEFAULT_SPEC.half_lives)
        self.outbox = MemoryOutbox()
        self.told: list[str] = []

    def worker(self, *partitions: int) -> Pipeline:
        made = Pipeline(
            store=self.store,
            outbox=self.outbox,
            model=lambda: first_model(Policy()),
            clock=lambda: START,
            spec=DEFAULT_SPEC,
            policy=Policy(),
            topics=DecisionTopics("scores", "alerts", "dead-letters"),
            limits=Limits(),
            on_conflicts=self.told.extend,
        )
        made.on_assigned(partitions)
        return made

    def letters(self) -> list[tuple[str, tuple[int, int]]]:
        sent = [message for message in self.outbox.sent if message.topic == "dead-letters"]
        found = [DeadLetter.parse(message.headers) for message in sent]
        return [(letter.reason, letter.place) for letter in found if letter is not None]


def records(*payments: Transaction, partition: int = 0, start: int = 0) -> list[Record]:
    return [
        Record(
            "transactions",
            partition,
            start + at,
            int(START.timestamp() * 1000),
            each.card_id.encode(),
            encode(each),
        )
        for at, each in enumerate(payments)
    ]


def test_other_content_in_one_batch_is_a_dead_letter_that_names_both() -> None:
    site = Site()
    counts = site.worker(0).process(records(FIRST, OTHER, FIRST))
    assert counts == BatchCounts(3, 1, 1, 1, 0, 0, 1)
    assert site.letters() == [("id_conflict", (0, 1))]
    assert len(site.told) == 1
    assert "transactions[0] offset 1" in site.told[0]
    assert "transactions[0] offset 0" in site.told[0]
    assert site.store.counts() == {"decided": 1, "rejected": 1, "duplicates": 1}
    assert site.store.profile("card", "c2").updates == 0
    assert {decision_decoder.decode(raw or b"").amount_minor for raw in site.outbox.values("scores")} == {100}


def test_other_content_in_a_later_batch_on_another_partition_is_a_dead_letter() -> None:
    site = Site()
    site.worker(0).process(records(FIRST))
    assert site.worker(1).process(records(OTHER, partition=1)).id_conflicts == 1
    assert site.letters() == [("id_conflict", (1, 0))]


def test_the_same_content_again_stays_a_duplicate_with_the_same_bytes() -> None:
    site = Site()
    worker = site.worker(0)
    worker.process(records(FIRST))
    again = encode(FIRST).replace(b'":', b'" : ').replace(b"00:00:00Z", b"01:00:00+01:00")
    assert again != encode(FIRST)
    worker.process([records(FIRST, start=1)[0]._replace(value=again)])
    first, second = site.outbox.values("scores")
    assert first == second
    assert site.letters() == []


def test_a_conflict_redelivered_is_the_same_dead_letter_and_counted_once() -> None:
    site = Site()
    batch = records(FIRST, OTHER)
    site.outbox.fail_next(durable=1)
    with pytest.raises(DependencyDown):
        site.worker(0).process(batch)
    site.worker(0).process(batch)
    site.worker(0).process(batch[1:])
    assert site.letters() == [("id_conflict", (0, 1))] * 2
    assert site.store.counts() == {"decided": 1, "rejected": 1, "duplicates": 0}


def test_an_event_redelivered_after_its_decision_is_never_a_conflict() -> None:
    """Nor where the decision is older than the digest, or was recorded of other bytes at the same place."""
    site = Site()
    site.worker(0).process(records(FIRST))
    site.worker(0).process(records(FIRST))
    site.worker(0).process(records(msgspec.structs.replace(FIRST, amount_minor=7)))
    assert site.letters() == []
    assert len(set(site.outbox.values("scores"))) == 1


@pytest.mark.parametrize(("again", "letters"), [(FIRST, []), (OTHER, [("id_conflict", (0, 0), 1)])])
def test_at_the_place_of_a_decision_of_an_earlier_epoch_content_decides(
    again: Transaction, letters: list[tuple[str, tuple[int, int], int]]
) -> None:
    """The event there is another one: a duplicate where it brings the same, else a conflict."""
    site = Site()
    site.worker(0).process(records(FIRST))
    anew = site.worker(0)
    anew.set_epochs(Epochs([Epoch(1, {0: 0})]))
    counts = anew.process(records(again))
    sent = [message for message in site.outbox.sent if message.topic == "dead-letters"]
    found = [DeadLetter.parse(message.headers) for message in sent]
    assert [(each.reason, each.place, each.epoch) for each in found if each] == letters
    assert (counts.duplicates, counts.id_conflicts) == (1 - len(letters), len(letters))
    assert len(set(site.outbox.values("scores"))) == 1


def test_a_decision_without_a_digest_takes_whatever_comes_for_a_duplicate() -> None:
    site = Site()
    worker = site.worker(0)
    worker.process(records(FIRST))
    site.store._decisions["t1"] = site.store._decisions["t1"].replace(content_digest(FIRST).encode(), b"")
    assert worker.process(records(OTHER, start=1)).duplicates == 1


def test_two_workers_that_have_both_looked_up_decide_one_content_and_refuse_the_other() -> None:
    site = Site()
    slow, fast = site.worker(0), site.worker(1)

    record = site.store.record

    def overtaken(decisions: Sequence[tuple[int, str, bytes]], **more: Any) -> list[bytes]:
        site.store.record = record  # type: ignore[method-assign]
        fast.process(records(FIRST, partition=1))
        return record(decisions, **more)

    site.store.record = overtaken  # type: ignore[method-assign]
    assert slow.process(records(OTHER)) == BatchCounts(1, 0, 0, 1, 0, 0, 1)
    assert site.letters() == [("id_conflict", (0, 0))]
    assert len(site.outbox.values("scores")) == 1


def test_conflicts_count_as_rejected_in_the_account() -> None:
    site = Site()
    batch = records(FIRST, OTHER, FIRST)
    site.worker(0).process(batch)
    ledger = Ledger()
    fill(ledger, batch, site.outbox.sent)
    found = ledger.completeness({0: 3})
    assert found.is_complete
    assert (found.events, found.decided, found.dead_letters) == (3, 2, 1)


def fill(ledger: Ledger, batch: Iterable[Record], sent: Iterable[Message]) -> None:
    for record in batch:
        ledger.add_event(record.partition, record.offset, record.value)
    for message in sent:
        if message.topic == "scores":
            ledger.add_decision(message.value)
        else:
            ledger.add_dead_letter(message.headers, events="transactions")


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"device_id": "d" * 100, "ip": "::1", "country": "é" * 200, "category": "", "channel": "pos"},
        {"latitude": -0.5, "longitude": 1e-7, "attributes": {"z": 3, "a": "x", "é": 1.5}},
        {"attributes": {f"n{number}": number / 7 for number in range(40)}},
        {"amount": 10**15, "minutes": 0.000001},
        {"amount": 200, "days": 50_000},
        {"amount": 70_000, "hours": 0.0001},
    ],
)
def test_the_digest_is_made_as_is_published(more: dict[str, Any]) -> None:
    """Against what the second judge makes of docs/messages.md."""
    raw = encode(payment(1, **more))
    told = admission.transaction(Seen(0, 0, 0, b"c1", raw, ()), admission.Rules(future_tolerance=1e12)).fields
    assert told["content_digest"] == content_digest(transaction_decoder.decode(raw))


@pytest.mark.parametrize(
    "changed",
    [
        {"card_id": "c9"},
        {"merchant_id": "m9"},
        {"currency": "USD"},
        {"ip": "1"},
        {"latitude": 0.0},
        {"attributes": {"a": 1.0}},
    ],
)
def test_every_field_is_content(changed: dict[str, Any]) -> None:
    assert content_digest(msgspec.structs.replace(FIRST, **changed)) != content_digest(FIRST)
