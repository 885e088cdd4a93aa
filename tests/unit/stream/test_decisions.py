"""What is recorded of a decision is all that is ever emitted of it."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.features.profiles import ProfileSnapshot, empty, no_labels
from models.features.recent_events import pack_recent_event
from stream.decisions import pack, recent_activity, recorded_of_alert, unpack
from stream.messages import (
    Action,
    Activity,
    Decision,
    Reason,
    Transaction,
    alert_decoder,
    decision_decoder,
    encode,
)
from stream.pipeline import reason_text
from stream.ports import EntityRef

TIME = datetime(2024, 5, 1, 10, tzinfo=UTC)
ACTIVITY = [Activity(event_time=TIME, amount_minor=5, merchant_id="m\n2", country="FR")]

names = st.text(min_size=1, max_size=20).filter(lambda name: name.encode("utf-8", "ignore").decode() == name)


def decision(
    action: Action, transaction_id: str = "t1", features: dict[str, float] | None = None
) -> Decision:
    return Decision(
        transaction_id=transaction_id,
        event_time=TIME,
        card_id="c1",
        merchant_id="m1",
        amount_minor=1250,
        currency="EUR",
        score=0.25,
        action=action,
        reasons=[Reason(code="amount", text="the amount is high", contribution=1.5)],
        model_version="default@7",
        decided_at=TIME,
        features={"amount": 12.5} if features is None else features,
        origin=(3, 41),
        entities={"card": ("c1", 4, 0)},
    )


@pytest.mark.parametrize("action", ["approve", "review", "decline"])
def test_what_is_emitted_is_what_was_recorded_and_nothing_is_rounded(action: Action) -> None:
    made = decision(action, features={"a": 0.1 + 0.2, "b": 5e-324, "c": math.pi * 1e300})
    entry = unpack(pack(made, ACTIVITY))
    assert entry.decision == encode(made)
    assert decision_decoder.decode(entry.decision) == made
    assert (entry.transaction_id, entry.key, entry.origin) == ("t1", b"c1", (3, 41))


def test_only_what_needs_action_is_an_alert() -> None:
    assert not unpack(pack(decision("approve"), [])).is_alert
    assert unpack(pack(decision("review"), ACTIVITY)).is_alert
    assert unpack(pack(decision("decline"), [])).is_alert  # a card's first event


def test_an_alert_is_the_decision_and_two_fields() -> None:
    entry = unpack(pack(decision("review"), ACTIVITY))
    alert = json.loads(entry.alert())
    assert alert.pop("alert_id") == "a-t1"
    assert msgspec.convert(alert.pop("recent_activity"), list[Activity]) == ACTIVITY
    assert alert == json.loads(entry.decision)


@given(names, st.sampled_from(["review", "decline"]), st.lists(names, max_size=3))
def test_an_alert_decodes_whatever_stands_in_its_names(
    transaction_id: str, action: Action, merchants: list[str]
) -> None:
    activity = [Activity(event_time=TIME, amount_minor=1, merchant_id=merchant) for merchant in merchants]
    made = decision(action, transaction_id)
    entry = unpack(pack(made, activity))
    alert = alert_decoder.decode(entry.alert())
    assert alert.alert_id == f"a-{transaction_id}"
    assert alert.recent_activity == activity
    assert decision_decoder.decode(entry.decision) == made


@given(names, st.sampled_from(["review", "decline"]), st.lists(names, max_size=3))
def test_what_was_recorded_is_read_back_from_its_alert(
    transaction_id: str, action: Action, merchants: list[str]
) -> None:
    activity = [Activity(event_time=TIME, amount_minor=1, merchant_id=merchant) for merchant in merchants]
    raw = pack(decision(action, transaction_id, {"alert_id": 1.0, "recent_activity": 2.0}), activity)
    assert recorded_of_alert(unpack(raw).alert()) == raw


def test_emitting_again_gives_the_same_bytes() -> None:
    raw = pack(decision("decline"), ACTIVITY)
    first, second = unpack(raw), unpack(bytes(raw))
    assert first.alert() == second.alert()
    assert first.without_features() == second.without_features()
    assert first.decision == second.decision


def test_features_can_be_left_out_and_nothing_else_is() -> None:
    made = decision("review")
    bare = decision_decoder.decode(unpack(pack(made, ACTIVITY)).without_features())
    assert bare == msgspec.structs.replace(made, features=None)


def test_recent_activity_is_the_cards_and_the_latest_first() -> None:
    def recent_event(merchant: str, seconds: int, country: str | None) -> bytes:
        paid = Transaction(
            transaction_id="x",
            event_time=TIME,
            card_id="c1",
            merchant_id=merchant,
            amount_minor=100 + seconds,
            currency="EUR",
            country=country,
        )
        return pack_recent_event(paid, TIME.timestamp() + seconds)

    card = empty(1)._replace(recent=(recent_event("m2", 2, "FR"), recent_event("m1", 1, None)))
    merchant = empty(1)._replace(recent=(recent_event("m9", 9, "DE"),))
    entities = [EntityRef("merchant", "m1", 1), EntityRef("card", "c1", 2)]
    found = recent_activity(
        entities, [ProfileSnapshot(merchant, no_labels(1)), ProfileSnapshot(card, no_labels(1))]
    )
    assert [(entry.merchant_id, entry.amount_minor, entry.country) for entry in found] == [
        ("m2", 102, "FR"),
        ("m1", 101, None),
    ]
    assert recent_activity(entities[:1], [ProfileSnapshot(merchant, no_labels(1))]) == []


def test_reasons_of_the_category_that_a_payment_is_in_and_of_one_that_it_is_not_in_differ() -> None:
    payment = Transaction(
        transaction_id="t1",
        event_time=TIME,
        card_id="c1",
        merchant_id="m1",
        amount_minor=1,
        currency="EUR",
        channel="ecommerce",
    )
    features = {"amount": 0.01, "channel=7": 1.0}
    assert reason_text("channel=7", features, payment) == "Channel is ecommerce"
    assert reason_text("channel=9", features, payment) == "Channel is another than usual"
