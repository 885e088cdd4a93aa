"""Quality while the stream goes on, against a list of decisions that a reader can check by eye."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.metrics.decision_window import digest
from models.metrics.delayed_quality import DelayedQuality, DelayedQualitySettings, ReportedLabel, Scored
from models.metrics.ranking import (
    alert_quality,
    average_precision,
    card_precision_at_k,
    expected_calibration_error,
)

DAY = 86400.0
START = 20_000 * DAY
SETTINGS = DelayedQualitySettings(
    horizon=2 * DAY, window=30 * DAY, k=2, segment_names=("country",), least_frauds=1, drop_known_cards=True
)

# a transaction's facts follow from its number, so a repeated one is a redelivery
decisions = st.integers(0, 60).map(
    lambda number: Scored(
        transaction_id=f"t{number}",
        event_time=START + (number * 7919 % 60) * DAY / 8,
        card_id=f"c{number % 5}",
        score=(number * 31 % 10) / 10,
        alerted=number * 31 % 10 > 6,
        segments=(("FR", "DE", None)[number % 3],),
    )
)
labels = st.builds(
    ReportedLabel,
    transaction_id=st.integers(0, 60).map(lambda number: f"t{number}"),
    is_fraud=st.booleans(),
    known_at=st.integers(0, 80).map(lambda eighth: START + eighth * DAY / 8),
)
steps = st.lists(st.one_of(decisions, st.lists(labels, max_size=4)), max_size=80)


def run(order: list[Scored | list[ReportedLabel]]) -> DelayedQuality:
    quality = DelayedQuality(SETTINGS)
    for step in order:
        if isinstance(step, list):
            quality.label(step)
        else:
            quality.decide(step)
    return quality


def matured(order: list[Scored | list[ReportedLabel]]) -> tuple[list[Scored], dict[str, ReportedLabel]]:
    kept: dict[str, Scored] = {}
    known: dict[str, ReportedLabel] = {}
    for step in order:
        if isinstance(step, Scored):
            kept.setdefault(step.transaction_id, step)
        else:
            for label in step:
                held = known.get(label.transaction_id)
                if held is None or label.known_at >= held.known_at:
                    known[label.transaction_id] = label
    return list(kept.values()), known


@settings(max_examples=200)
@given(steps)
def test_quality_is_that_of_the_matured_decisions_whatever_the_order(
    order: list[Scored | list[ReportedLabel]],
) -> None:
    quality = run(order)
    kept, known = matured(order)
    now = max((decision.event_time for decision in kept), default=-math.inf)
    past = [decision for decision in kept if decision.event_time < now - SETTINGS.horizon]
    truth = {name: label.is_fraud for name, label in known.items()}

    outcomes = quality.mature()
    assert sorted((o.event_time, o.score, o.alerted, o.is_fraud) for o in outcomes) == sorted(
        (d.event_time, d.score, d.alerted, truth.get(d.transaction_id, False)) for d in past
    )
    assert quality.mature() == []

    found = quality.quality().overall
    fraud = np.array([truth.get(decision.transaction_id, False) for decision in past], dtype=bool)
    score = np.array([decision.score for decision in past])
    alerted = np.array([decision.alerted for decision in past], dtype=bool)
    assert found.decisions == len(past)
    assert found.frauds == fraud.sum()
    expected = (
        average_precision(fraud, score),
        naive_card_precision(past, kept, known, now),
        *alert_quality(fraud, alerted),
        expected_calibration_error(fraud, score),
    )
    assert found[3:] == pytest.approx(expected, nan_ok=True)


def naive_card_precision(
    past: list[Scored], kept: list[Scored], known: dict[str, ReportedLabel], now: float
) -> float:
    rows: list[Any] = []
    for decision in past:
        start = decision.event_time // DAY * DAY
        victim = any(
            other.card_id == decision.card_id
            and (label := known.get(other.transaction_id)) is not None
            and label.is_fraud
            and label.known_at < start
            for other in kept
        )
        label = known.get(decision.transaction_id)
        if start + DAY <= now - SETTINGS.horizon and not victim:
            # equal scores are taken in the order of the cards as they are kept
            rows.append(
                (start, digest(decision.card_id), label is not None and label.is_fraud, decision.score)
            )
    if not rows:
        return math.nan
    day, card, fraud, score = zip(*rows, strict=True)
    return card_precision_at_k(day, np.array(card, dtype=np.uint64), fraud, score, k=SETTINGS.k)


@given(steps)
def test_what_comes_again_changes_nothing(order: list[Scored | list[ReportedLabel]]) -> None:
    once, twice = run(order), run([again for step in order for again in (step, step)])
    once.mature()
    twice.mature()
    assert repr(once.quality()) == repr(twice.quality())  # NaN equals itself as text
    assert len(once) == len(twice)
