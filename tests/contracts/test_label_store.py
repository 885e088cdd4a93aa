"""What every `LabelStore` promises."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from models.features.label_memory import LABEL_WIDTH
from models.features.profiles import (
    LabelDelta,
    LabelProfile,
    apply_label,
    label_delta,
    no_labels,
)
from stream.adapters.memory.store import MemoryStore
from stream.adapters.redis.store import RedisStore
from stream.ports import EntityRef, LabelsBehind, LabelUpdate

HALF_LIVES = (60.0, 3600.0)
Store = MemoryStore | RedisStore
CARD = EntityRef("card", "c1", 3)
MERCHANT = EntityRef("merchant", "m1", 0)
DEVICE = EntityRef("device", "d1", 0)


def delta(time: float, is_fraud: bool, name: str = "t1", *, corrects: bool = False) -> LabelDelta:
    return label_delta(name, time, is_fraud, HALF_LIVES, corrects=corrects)


def label(
    offset: int,
    transaction_id: str = "t1",
    *,
    fraud: bool = True,
    known_at: float = 1000.0,
    time: float = 60.0,
    decided: bool = True,
) -> LabelUpdate:
    return LabelUpdate(
        offset,
        transaction_id,
        fraud,
        known_at,
        delta(time, fraud, transaction_id) if decided else None,
        (CARD, MERCHANT, DEVICE) if decided else (),
        b"label %d" % offset,
    )


def after(*steps: LabelDelta) -> LabelProfile:
    profile = no_labels(len(HALF_LIVES))
    for step in steps:
        profile = apply_label(profile, step)
    return profile


def known(store: Store) -> list[LabelProfile]:
    return [store.label_profile(entity.kind, entity.key) for entity in (CARD, MERCHANT, DEVICE)]


def test_the_first_label_of_a_transaction_informs_each_of_its_entities(store: Store) -> None:
    assert store.apply_labels([label(0), label(1, "t2", fraud=False)], learned=0) == ["new", "new"]
    assert known(store) == [after(delta(60.0, True), delta(60.0, False, "t2"))] * 3


def test_what_is_known_already_is_a_repeat_and_informs_nobody(store: Store) -> None:
    statuses = store.apply_labels([label(0), label(1, known_at=2000.0), label(2, known_at=5.0)], learned=0)
    assert statuses == ["new", "duplicate", "duplicate"]
    assert known(store) == [after(delta(60.0, True))] * 3


def test_newer_knowledge_that_says_the_opposite_corrects_and_takes_back(store: Store) -> None:
    labels = [label(0), label(1, fraud=False, known_at=1001.0), label(2, known_at=1002.0)]
    assert store.apply_labels(labels, learned=0) == ["new", "correction", "correction"]
    expected = after(delta(60.0, True), delta(60.0, False, corrects=True), delta(60.0, True, corrects=True))
    assert known(store) == [expected] * 3
    assert (expected.frauds, expected.genuine) == (1, 0)


def test_older_knowledge_that_says_the_opposite_is_superseded(store: Store) -> None:
    assert store.apply_labels([label(0), label(1, fraud=False, known_at=999.0)], learned=0) == [
        "new",
        "superseded",
    ]
    assert known(store) == [after(delta(60.0, True))] * 3


def test_of_labels_known_at_the_same_time_the_later_in_the_log_wins(store: Store) -> None:
    labels = [label(0), label(1, fraud=False), label(2)]
    assert store.apply_labels(labels, learned=0) == ["new", "correction", "correction"]


def test_a_repeat_moves_what_is_known_to_the_latest_time(store: Store) -> None:
    labels = [label(0, known_at=10.0), label(1, known_at=20.0), label(2, fraud=False, known_at=15.0)]
    assert store.apply_labels(labels, learned=0) == ["new", "duplicate", "superseded"]
    labels = [label(3, known_at=5.0), label(4, fraud=False, known_at=19.5)]
    assert store.apply_labels(labels, learned=0) == ["duplicate", "superseded"]


def test_redelivered_label_stands_as_it_stood_and_informs_nobody(
    store: Store, open_store: Callable[[], Store]
) -> None:
    labels = [
        label(3),
        label(4, fraud=False, known_at=1001.0),
        label(5, "t2"),
        label(9, known_at=7.0),
        label(10, fraud=False, known_at=2000.0),
    ]
    expected = ["new", "correction", "new", "superseded", "duplicate"]
    assert store.apply_labels(labels, learned=0) == expected
    before = known(store)
    assert store.apply_labels(labels, learned=0) == expected
    assert open_store().apply_labels(labels[1:3], learned=0) == expected[1:3]
    more = [*labels[3:], label(11, "t3")]
    assert store.apply_labels(more, learned=0) == [*expected[3:], "new"]
    assert known(store) == [apply_label(before[0], delta(60.0, True, "t3"))] * 3


def test_a_label_below_what_is_learned_is_a_repeat(store: Store) -> None:
    assert store.apply_labels([label(0), label(1, "t2"), label(2, "t3")], learned=0) == ["new"] * 3
    before = known(store)
    assert store.apply_labels([label(1, "t2"), label(2, "t3")], learned=2) == ["duplicate", "new"]
    assert store.apply_labels([label(0), label(2, "t3")], learned=2) == ["duplicate", "new"]
    assert known(store) == before


def test_a_label_without_decision_waits_and_informs_nobody(store: Store) -> None:
    assert store.apply_labels([label(0, decided=False)], learned=0) == ["pending"]
    assert store.pending(["t0", "t1"]) == [None, b"label 0"]
    assert known(store) == [after()] * 3
    assert store.apply_labels([label(0)], learned=0) == ["pending"]  # as it stood
    assert store.apply_labels([label(1)], learned=0) == ["new"]  # the same label, in the log again
    store.remove_pending([("t1", b"label 0"), ("t9", b"label 0")])
    assert store.pending(["t1"]) == [None]
    assert store.apply_labels([label(0)], learned=0) == ["pending"]
    assert store.pending(["t1"]) == [None]  # a redelivered label does not become pending again
    assert store.pending([]) == []
    store.remove_pending([])


def test_a_label_that_changed_since_it_was_read_goes_on_waiting(store: Store) -> None:
    store.apply_labels([label(0, decided=False, known_at=10.0)], learned=0)
    read = store.expired(11.0, 10)
    store.apply_labels([label(1, decided=False, known_at=10.5, fraud=False)], learned=0)
    store.remove_pending(read)
    assert store.pending(["t1"]) == [b"label 1"]
    assert store.expired(11.0, 10) == [("t1", b"label 1")]
    store.remove_pending([("t1", b"label 1")])
    assert store.expired(11.0, 10) == []


def test_the_latest_knowledge_waits(store: Store) -> None:
    labels = [
        label(0, decided=False, known_at=10.0),
        label(1, decided=False, known_at=9.0, fraud=False),
        label(2, "t2", decided=False, known_at=10.0),
        label(3, "t2", decided=False, known_at=10.0, fraud=False),
    ]
    assert store.apply_labels(labels, learned=0) == ["pending"] * 4
    assert store.pending(["t1", "t2"]) == [b"label 0", b"label 3"]


def test_what_waits_says_where_the_last_label_of_its_transaction_waited(store: Store) -> None:
    entries = [b"0 newest\nknowledge", b"1 older", b"2 older still"]
    updates = [
        label(n, decided=False, known_at=10.0 - n)._replace(raw=entry) for n, entry in enumerate(entries)
    ]
    for update in updates:
        assert store.apply_labels([update], learned=0) == ["pending"]
    assert store.pending(["t1"]) == [b"0:2 newest\nknowledge"]
    newest = label(3, decided=False, known_at=10.0)._replace(raw=b"3 {}")
    store.apply_labels([newest], learned=0)
    assert store.pending(["t1"]) == [b"3 {}"]


def test_a_label_that_would_correct_waits_where_its_decision_is_gone(store: Store) -> None:
    labels = [
        label(0),
        label(1, decided=False),
        label(2, decided=False, fraud=False, known_at=1.0),
        label(3, decided=False, fraud=False, known_at=2000.0),
    ]
    assert store.apply_labels(labels, learned=0) == ["new", "duplicate", "superseded", "pending"]
    assert store.apply_labels([label(4, fraud=False, known_at=2000.0)], learned=0) == ["correction"]


def test_a_store_that_was_not_given_as_many_labels_says_so_and_changes_nothing(store: Store) -> None:
    store.apply_labels([label(0)], learned=0)
    store.advance_labels(3, passed=-1)
    store.advance_labels(2, passed=3)  # again, after a crash
    assert store.apply_labels([label(4, "t2")], learned=0, passed=3) == ["new"]
    before = known(store)
    with pytest.raises(LabelsBehind) as behind:
        store.apply_labels([label(9, "t3")], learned=0, passed=8)
    assert behind.value.start == 4
    with pytest.raises(LabelsBehind):
        store.advance_labels(9, passed=8)
    assert known(store) == before
    store.advance_labels(8, passed=3)
    assert store.apply_labels([label(9, "t3")], learned=0, passed=8) == ["new"]


def test_waiting_labels_expire_oldest_first(store: Store) -> None:
    times = {"a": 5.0, "b": 1.7e9 + 0.1, "c": 5.0, "d": -3.0, "e": 1.7e9 + 0.2}
    store.apply_labels(
        [label(n, key, known_at=at, decided=False) for n, (key, at) in enumerate(times.items())], learned=0
    )
    everything = [("d", b"label 3"), ("a", b"label 0"), ("c", b"label 2"), ("b", b"label 1")]
    assert store.expired(1.7e9 + 0.2, 10) == everything
    assert store.expired(1.7e9 + 0.2, 2) == everything[:2]
    assert store.expired(5.0, 10) == everything[:1]
    assert store.expired(5.0, 0) == []
    store.remove_pending([("a", b"label 0"), ("d", b"label 3")])
    assert store.expired(1e12, 1) == [("c", b"label 2")]


def test_offsets_that_do_not_rise_are_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="offsets must rise"):
        store.apply_labels([label(1), label(1, "t2")], learned=0)
    assert store.apply_labels([], learned=0) == []
    assert known(store) == [after()] * 3


def test_labels_at_the_ends_of_time_agree_with_the_arithmetic(store: Store) -> None:
    times = (1.7e9, -6.0e10, 2.5e11, 0.0, 1.0e-300, 1.7e9 + 1)
    labels = [label(n, f"t{n}", time=at) for n, at in enumerate(times)]
    assert store.apply_labels(labels, learned=0) == ["new"] * 6
    assert known(store) == [after(*(delta(at, True, f"t{n}") for n, at in enumerate(times)))] * 3


def test_what_is_taken_back_leaves_nothing_of_itself(store: Store) -> None:
    times = [random.Random(seed).uniform(0.0, 200.0) for seed in range(30)]
    labels = [label(n, f"t{n}", time=at) for n, at in enumerate(times)]
    labels += [label(30 + n, f"t{n}", fraud=False, known_at=2000.0, time=at) for n, at in enumerate(times)]
    labels += [label(60 + n, f"t{n}", known_at=3000.0, time=at) for n, at in enumerate(times)]
    store.apply_labels(labels, learned=0)
    expected = after(
        *(delta(at, True, f"t{n}") for n, at in enumerate(times)),
        *(delta(at, False, f"t{n}", corrects=True) for n, at in enumerate(times)),
        *(delta(at, True, f"t{n}", corrects=True) for n, at in enumerate(times)),
    )
    assert known(store) == [expected] * 3
    once = after(*(delta(at, True, f"t{n}") for n, at in enumerate(times)))
    assert expected == once._replace(updates=90)
    assert set(expected.sums[2::LABEL_WIDTH] + expected.sums[4::LABEL_WIDTH]) == {0.0}, "genuine"
