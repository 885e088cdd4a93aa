"""What is known of an entity, as people see it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from models.features.compute import event_of, label_delta_of
from models.features.decay import UNIT
from models.features.profiles import apply_event, apply_label, empty, no_labels
from models.features.spec import FeatureSpec
from stream.cli.look.profile import as_text
from stream.inspect.entity_view import entity_named, profile_at, view
from stream.messages import Transaction
from tests.support.builders import START, payment

SPEC = FeatureSpec()
DAY = 86400.0


def paid(number: int) -> Transaction:
    country = "FR" if number else None
    return payment(number, days=number, merchant=f"m{number}", amount=2000, country=country)


def test_counts_decay_to_the_moment_of_the_view_and_the_norm_does_not() -> None:
    profile = empty(len(SPEC.half_lives))
    for _ in range(8):
        profile = apply_event(profile, event_of(paid(0), SPEC), 10)
    at = START.timestamp() + 7 * DAY
    delta = label_delta_of("t0", START.timestamp(), True, SPEC)
    labels = apply_label(no_labels(len(SPEC.half_lives)), delta)
    found = view("card:c1", profile, labels, SPEC, at)
    week = next(span for span in found.spans if span.half_life == "7d")
    assert (week.events, week.amount) == pytest.approx((4.0, 80.0))
    assert week.frauds == pytest.approx(0.5, rel=0.5 / UNIT)
    assert week.usual_amount == pytest.approx(20.0)
    hour = found.spans[0]
    assert hour.usual_amount is None, "too few events are left to say what is usual"
    assert (found.events, found.first, found.last) == (8, START, START)
    assert (found.frauds, found.first_fraud, found.latest_labels) == (1, START, [True])


def test_a_profile_of_the_past_holds_the_events_up_to_then_in_the_order_recorded() -> None:
    events = [(place, paid(number)) for place, number in ((2, 2), (0, 1), (1, 0), (3, 5))]
    profile = profile_at(events, 10, SPEC, (START + timedelta(days=2)).timestamp())
    expected = empty(len(SPEC.half_lives))
    for number in (1, 0, 2):
        expected = apply_event(expected, event_of(paid(number), SPEC), 10)
    assert profile == expected
    found = view("card:c1", profile, no_labels(len(SPEC.half_lives)), SPEC, START.timestamp())
    assert [(each.merchant_id, each.country) for each in found.recent] == [
        ("m2", "FR"),
        ("m0", None),
        ("m1", "FR"),
    ]
    assert as_text(found).splitlines()[-1] == "  2026-01-06 00:00:00       2,000  m1  FR"


def test_of_an_entity_that_was_never_seen_nothing_is_known() -> None:
    halves = len(SPEC.half_lives)
    found = view("card:x", empty(halves), no_labels(halves), SPEC, START.timestamp())
    assert (found.events, found.labels, found.first, found.last_fraud) == (0, 0, None, None)
    assert "events   0, from - to -" in as_text(found)


def test_an_entity_is_named_by_kind_and_key_and_a_card_by_its_key_alone() -> None:
    assert entity_named("device:a:b", SPEC) == ("device", "a:b")
    assert entity_named("c1", SPEC) == entity_named("card:c1", SPEC) == ("card", "c1")
    assert entity_named("merchant:", SPEC) == ("card", "merchant:")
