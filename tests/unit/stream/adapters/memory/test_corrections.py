"""Labels that contradict each other leave what the latest knowledge says, in whatever order they came."""

from __future__ import annotations

from models.features.compute import event_of, features_of, label_delta_of
from models.features.label_memory import LATEST, WEEKS
from models.features.profiles import LabelProfile, ProfileSnapshot, empty
from models.features.spec import DEFAULT_SPEC
from stream.adapters.memory.store import MemoryStore
from stream.ports import EntityRef, LabelStatus, LabelUpdate
from tests.support.builders import payment

CARD = (EntityRef("card", "c1", 0),)


def told(store: MemoryStore, *labels: tuple[int, bool, float], begin: int = 0) -> list[LabelStatus]:
    """Give a store labels: the day of the transaction, whether it is fraud, since when that is known."""
    updates = []
    for offset, (day, is_fraud, known_at) in enumerate(labels, start=begin):
        paid = payment(day, days=day)
        delta = label_delta_of(paid.transaction_id, paid.event_time.timestamp(), is_fraud, DEFAULT_SPEC)
        updates.append(LabelUpdate(offset, paid.transaction_id, is_fraud, known_at, delta, CARD, b""))
    return store.apply_labels(updates, learned=0)


def known(store: MemoryStore) -> LabelProfile:
    """What the card knows from labels, however many came."""
    return store.label_profile("card", "c1")._replace(updates=1)


def features(store: MemoryStore, day: int) -> dict[str, float]:
    """Of a payment of the card on a day."""
    paid = payment("next", days=day)
    snapshot = ProfileSnapshot(empty(len(DEFAULT_SPEC.half_lives)), store.label_profile("card", "c1"))
    return features_of(paid, event_of(paid, DEFAULT_SPEC), ("card",), (snapshot,), DEFAULT_SPEC)


def test_a_fraud_that_is_reversed_leaves_no_more_than_a_reversal_that_came_first() -> None:
    reversed_later, reversed_first = (
        MemoryStore(DEFAULT_SPEC.half_lives),
        MemoryStore(DEFAULT_SPEC.half_lives),
    )
    assert told(reversed_later, (0, True, 1.0), (0, False, 2.0)) == ["new", "correction"]
    assert told(reversed_first, (0, False, 2.0), (0, True, 1.0)) == ["new", "superseded"]
    assert known(reversed_later) == known(reversed_first)
    assert features(reversed_later, 1) == features(reversed_first, 1)
    assert "card.recent_frauds" not in features(reversed_later, 1)
    assert "card.since_last_fraud" not in features(reversed_later, 1)
    assert features(reversed_later, 1)["card.fraud_run"] == 0.0


def test_a_corrected_label_changes_its_own_place_among_the_latest() -> None:
    store = MemoryStore(DEFAULT_SPEC.half_lives)
    told(store, (3, True, 1.0), (1, False, 1.0), (2, True, 1.0))
    assert known(store).latest == (True, True, False)
    told(store, (2, False, 2.0), begin=3)
    assert known(store).latest == (True, False, False)
    assert features(store, 4)["card.fraud_run"] == 1.0
    assert features(store, 4)["card.since_genuine"] == 2 * 86_400.0


def test_a_label_older_than_the_latest_kept_counts_and_is_not_among_them() -> None:
    store = MemoryStore(DEFAULT_SPEC.half_lives)
    told(store, *((day, False, 1.0) for day in range(1, LATEST + 1)))
    before = known(store)
    told(store, (0, True, 1.0), begin=LATEST)
    after = known(store)
    assert (after.times, after.codes, after.frauds) == (before.times, before.codes, 1)
    x = features(store, LATEST + 1)
    assert x["card.recent_frauds"] == 0.0
    assert x["card.frauds.7d"] > 0.0
    assert x["card.since_last_fraud"] == x["card.since_first_fraud"] == (LATEST + 1) * 86_400.0


def test_a_fraud_is_dated_for_half_a_year_and_forgotten_then() -> None:
    store = MemoryStore(DEFAULT_SPEC.half_lives)
    told(store, (0, True, 1.0), (1, True, 1.0), *((20 + day, False, 1.0) for day in range(LATEST)))
    x = features(store, 50)
    assert x["card.since_first_fraud"] == x["card.since_last_fraud"] == 49.5 * 86_400.0, "the mean of a week"
    told(store, (7 * WEEKS, False, 1.0), begin=LATEST + 2)
    assert "card.since_first_fraud" not in features(store, 7 * WEEKS + 1)
    assert known(store).frauds == 2
