from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from stream.inspect.account import Completeness, Ledger
from stream.inspect.quality import DAY, QualityProtocol, QualityWindow, measure
from stream.messages import encode
from tests.support.builders import decision, label, payment

START = datetime(2026, 3, 2, tzinfo=UTC)


def decided(
    name: str,
    hours: float = 0.0,
    *,
    card: str = "c",
    score: float = 0.5,
    alerted: bool = False,
    origin: tuple[int, int] = (-1, -1),
) -> bytes:
    paid = payment(name, hours, start=START, card=card, merchant="m", amount=1)
    action = "decline" if alerted else "approve"
    return encode(decision(paid, score=score, action=action, decided_at=START, origin=origin))


def reported(name: str, *, fraud: bool, days: float, source: str = "chargeback") -> bytes:
    return encode(label(name, fraud=fraud, days=days, start=START, source=source))


def event(name: str) -> bytes:
    return encode({"transaction_id": name, "amount_minor": "whatever"})


@pytest.mark.parametrize("junk", [b"junk", b'{"transaction_id":"\xff"}', b'{"x":' + b"[" * 5000, None])
def test_an_event_of_any_bytes_needs_a_dead_letter(junk: bytes | None) -> None:
    ledger = Ledger()
    ledger.add_event(0, 0, junk)
    assert ledger.completeness({0: 1}).missing == 1
    headers = [("topic", b"transactions"), ("partition", b"0"), ("offset", b"0")]
    ledger.add_dead_letter(headers, events="transactions")
    assert ledger.completeness({0: 1}).is_complete


def headers(topic: str, partition: int, offset: int) -> list[tuple[str, bytes]]:
    return [
        ("reason", b"x"),
        ("topic", topic.encode()),
        ("partition", b"%d" % partition),
        ("offset", b"%d" % offset),
    ]


def full_ledger() -> Ledger:
    ledger = Ledger()
    for offset, value in enumerate([event("a"), event("b"), b"not json", event("a"), None, event("bad")]):
        ledger.add_event(0, offset, value)
    ledger.add_event(1, 0, event("c"))
    for offset in (2, 4, 5, 5):  # one is there twice: redelivered
        ledger.add_dead_letter(headers("transactions", 0, offset), events="transactions")
    ledger.add_dead_letter(headers("labels", 0, 0), events="transactions")
    for name in ("a", "b", "c", "a", "a"):
        ledger.add_decision(decided(name))
    return ledger


def test_complete_run_adds_up() -> None:
    account = full_ledger().completeness({0: 6, 1: 1})
    assert account == Completeness(
        events=7,
        repeated_events=1,
        decided=4,
        dead_letters=3,
        decisions=3,
        duplicates=2,
        missing=0,
        differing=0,
        unexpected=0,
        both=0,
        unreadable=0,
    )
    assert account.events == account.decided + account.dead_letters + account.missing
    assert account.is_complete


def test_lost_event_is_named() -> None:
    ledger = full_ledger()
    ledger.add_event(3, 17, event("lost"))
    ledger.add_event(3, 18, b"lost and unreadable")
    account = ledger.completeness({0: 6, 1: 1, 3: 19})
    assert (account.missing, account.examples) == (2, ((3, 17), (3, 18)))
    assert not account.is_complete


def test_second_decision_that_differs_is_no_copy() -> None:
    ledger = full_ledger()
    ledger.add_decision(decided("b", score=0.6))
    ledger.add_decision(decided("b", score=0.7))
    account = ledger.completeness({0: 6, 1: 1})
    assert (account.differing, account.duplicates, account.decisions) == (1, 2, 3)
    assert not account.is_complete


def test_decision_of_no_event_is_unexpected_unless_its_event_came_later() -> None:
    ledger = full_ledger()
    ledger.add_decision(decided("later", origin=(1, 1)))
    ledger.add_decision(decided("of a new partition", origin=(7, 0)))
    assert ledger.completeness({0: 6, 1: 1}).is_complete
    ledger.add_decision(decided("ghost", origin=(1, 0)))
    ledger.add_decision(decided("ghost of nowhere"))
    assert ledger.completeness({0: 6, 1: 1}).unexpected == 2


def test_event_with_decision_and_dead_letter_is_told() -> None:
    ledger = full_ledger()
    ledger.add_decision(decided("bad", origin=(0, 5)))
    assert ledger.completeness({0: 6, 1: 1}).both == 1


def test_decision_that_is_none_is_told() -> None:
    ledger = full_ledger()
    ledger.add_decision(b"{}")
    ledger.add_decision(None)
    ledger.add_label(b"{}")
    half = [("topic", b"transactions"), ("partition", b"0")]
    for broken in (
        half[:1],
        half,
        [*half, ("offset", b"x")],
        [*half[:1], ("partition", b""), ("offset", b"1")],
    ):
        ledger.add_dead_letter(broken, events="transactions")
    assert ledger.completeness({0: 6, 1: 1}).unreadable == 2


def test_nothing_read_is_a_complete_account_of_nothing() -> None:
    ledger = Ledger()
    assert ledger.completeness({}) == Completeness(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    assert ledger.decisions().time.size == 0


def test_latest_report_wins_and_assumed_label_overrules_nobody() -> None:
    ledger = Ledger()
    for name in ("corrected", "late", "silent", "reported", "tie"):
        ledger.add_decision(decided(name))
    for value in (
        reported("corrected", fraud=True, days=1),
        reported("corrected", fraud=False, days=3),
        reported("corrected", fraud=True, days=2),  # out of order
        reported("silent", fraud=False, days=30, source="maturity"),
        reported("reported", fraud=True, days=2),
        reported("reported", fraud=False, days=30, source="maturity"),
        reported("tie", fraud=False, days=2),
        reported("tie", fraud=True, days=2),
        reported("nobody", fraud=True, days=2),
    ):
        ledger.add_label(value)
    decisions = ledger.decisions()
    assert decisions.is_fraud.sum() == 2
    days = (decisions.known_at - START.timestamp()) / DAY
    assert sorted(days[~np.isnan(days)]) == [2.0, 2.0, 3.0]


def run_of_ten_days() -> Ledger:
    """One fraud of card `victim` on day 0, and on day 8 one each of `victim` and `other`."""
    ledger = Ledger()
    for day in range(10):
        for card in ("victim", "other", "calm"):
            fraud = (day, card) in {(0, "victim"), (8, "victim"), (8, "other")}
            name = f"{card}-{day}"
            score = 0.9 if fraud else 0.1
            ledger.add_decision(decided(name, hours=24 * day + 1, card=card, score=score, alerted=fraud))
            if fraud:
                ledger.add_label(reported(name, fraud=True, days=day + 7 + 1 / 24))
    return ledger


@pytest.mark.parametrize("delay", [7 * DAY, None])
def test_card_known_defrauded_is_left_out_from_the_day_after(delay: float | None) -> None:
    window = QualityWindow("test", START + timedelta(days=7), START + timedelta(days=9))
    found = measure(run_of_ten_days().decisions(), window, QualityProtocol(k=2, label_delay=delay))
    assert (found.transactions, found.frauds, found.of_known_cards) == (5, 1, 1)
    assert found.card_precision == 0.25  # day 7: none, day 8: one of two
    assert found.average_precision == found.roc_auc == found.recall == 1.0
    kept = measure(run_of_ten_days().decisions(), window, QualityProtocol(k=2, drop_known_cards=False))
    assert (kept.transactions, kept.frauds, kept.card_precision) == (6, 2, 0.5)


def test_card_found_on_an_earlier_day_of_the_window_is_not_looked_at_again() -> None:
    ledger = run_of_ten_days()
    again = decided("other-9-again", hours=24 * 9 + 2, card="other", score=0.95, alerted=True)
    ledger.add_decision(again)
    ledger.add_label(reported("other-9-again", fraud=True, days=17))
    window = QualityWindow("test", START + timedelta(days=8), START + timedelta(days=10))
    found = measure(ledger.decisions(), window, QualityProtocol(k=1))
    assert (found.frauds, found.card_precision) == (2, 0.5)
    assert (
        measure(ledger.decisions(), window, QualityProtocol(k=1, drop_known_cards=False)).card_precision
        == 1.0
    )


def test_old_fraud_is_not_held_against_a_card() -> None:
    window = QualityWindow("test", START + timedelta(days=8), START + timedelta(days=9))
    short = measure(run_of_ten_days().decisions(), window, QualityProtocol(k=2, card_memory=7 * DAY))
    assert (short.frauds, short.of_known_cards) == (2, 0)
