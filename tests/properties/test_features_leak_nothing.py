"""A stream of payments, scored before it is learned: what must not help does not."""

from __future__ import annotations

import functools
import random
from collections import deque
from itertools import islice
from typing import NamedTuple

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from models.features.compute import entities_of, event_of, features_of, label_delta_of
from models.features.profiles import (
    LabelProfile,
    Profile,
    ProfileSnapshot,
    apply_event,
    apply_label,
    empty,
    no_labels,
)
from models.features.spec import DEFAULT_SPEC
from models.scoring.registry import build_model
from producers.simulator.simulate import DEMO, Truth, simulate_with_truth
from stream.messages import Transaction

SPEC = DEFAULT_SPEC
EMPTY, UNLABELLED = empty(len(SPEC.half_lives)), no_labels(len(SPEC.half_lives))
DELAY = 3 * 86_400.0
Key = tuple[str, str]


class Paid(NamedTuple):
    transaction: Transaction
    is_fraud: bool


@functools.cache
def payments() -> list[Paid]:
    result: list[Paid] = []
    found: Transaction | None = None
    for item in simulate_with_truth(DEMO, seed=11):
        if isinstance(item, Transaction):
            found = item
        elif isinstance(item, Truth) and found is not None:
            result.append(Paid(found, item.is_fraud))
        if len(result) == 15_000:
            break
    return result


class Scored(NamedTuple):
    features: list[dict[str, float]]
    scores: list[float]


def replay(stream: list[Paid], delay: float = DELAY) -> Scored:
    """Score, then update, each payment; learn its label a delay later."""
    profiles: dict[Key, Profile] = {}
    labels: dict[Key, LabelProfile] = {}
    model = build_model(negative_sampling_rate=1.0)
    waiting: deque[tuple[str, float, list[Key], dict[str, float], bool]] = deque()
    scored = Scored([], [])
    for payment, is_fraud in stream:
        event = event_of(payment, SPEC)
        while waiting and waiting[0][1] + delay <= event.time:
            name, time, keys, x, known = waiting.popleft()
            delta = label_delta_of(name, time, known, SPEC)
            for key in keys:
                labels[key] = apply_label(labels.get(key, UNLABELLED), delta)
            model.learn_one(x, known)
        entities = entities_of(payment, SPEC)
        keys = [entity[:2] for entity in entities]
        snapshots = tuple(
            ProfileSnapshot(profiles.get(key, EMPTY), labels.get(key, UNLABELLED)) for key in keys
        )
        x = features_of(payment, event_of(payment, SPEC), tuple(kind for kind, _ in keys), snapshots, SPEC)
        for (kind, name, max_recent), snapshot in zip(entities, snapshots, strict=True):
            profiles[kind, name] = apply_event(snapshot.profile, event, max_recent)
        scored.features.append(x)
        scored.scores.append(model.score_one(x))
        waiting.append((payment.transaction_id, event.time, keys, x, is_fraud))
    return scored


def test_fraud_is_found_before_its_label_is_known() -> None:
    stream = payments()
    labels = [is_fraud for _, is_fraud in stream]
    scores = replay(stream).scores
    half = len(stream) // 2
    found = average_precision_score(labels[half:], scores[half:])
    assert found > 10 * sum(labels[half:]) / half


def test_shuffled_labels_are_predicted_no_better_than_by_chance() -> None:
    stream = payments()
    labels = [is_fraud for _, is_fraud in stream]
    random.Random(5).shuffle(labels)
    scores = replay([Paid(paid, y) for (paid, _), y in zip(stream, labels, strict=True)]).scores
    assert average_precision_score(labels, scores) < 2.0 * sum(labels) / len(labels)


@given(at=st.integers(0, 1_999), data=st.data())
@settings(max_examples=25, deadline=None)
def test_no_feature_or_score_depends_on_anything_later(at: int, data: st.DataObject) -> None:
    stream = payments()[:2_000]
    whole = reference()
    changed = [
        Paid(
            msgspec.structs.replace(payment, amount_minor=data.draw(st.integers(1, 10**9)))
            if number == at + 1
            else payment,
            is_fraud ^ (number >= at),
        )
        for number, (payment, is_fraud) in enumerate(islice(stream, at + 2))
    ]
    again = replay(changed)
    assert again.features[: at + 1] == whole.features[: at + 1]
    assert again.scores[: at + 1] == whole.scores[: at + 1]


@functools.cache
def reference() -> Scored:
    return replay(payments()[:2_000])


def test_label_that_is_known_early_does_change_features() -> None:
    # The judge judged: what it compares is not blind to labels.
    stream = payments()[:3_000]
    assert replay(stream, delay=60.0).features != replay(stream).features
