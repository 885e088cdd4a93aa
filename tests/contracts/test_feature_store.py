"""What every `FeatureStore` promises."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from models.features.decay import weights
from models.features.profiles import Event, Profile, ProfileSnapshot, apply_event, label_delta
from stream.adapters.memory.store import MemoryStore
from stream.adapters.redis.store import RedisStore
from stream.ports import EntityRef, EventUpdate, LabelUpdate, OtherLog, StaleOwner, StoreBehind

HALF_LIVES = (60.0, 3600.0)
Store = MemoryStore | RedisStore
CARD = EntityRef("card", "c1", 3)
MERCHANT = EntityRef("merchant", "m1", 0)
ENTITIES = [(kind, f"{kind[0]}{n}") for kind in ("card", "merchant", "device") for n in range(1, 6)]


def event(time: float, amount: float = 10.0, recent_event: bytes = b"") -> Event:
    return Event(time, amount, math.log1p(amount), weights(time, HALF_LIVES), recent_event)


def event_update(
    offset: int, *entities: EntityRef, partition: int = 0, time: float | None = None
) -> EventUpdate:
    return EventUpdate(
        partition,
        offset,
        event(60.0 * offset if time is None else time, 10.0 + offset, b"n%d" % offset),
        entities,
        f"t{offset}",
    )


def apply(
    store: Store, updates: Sequence[EventUpdate], fencing_tokens: dict[int, int], recorded: int = -1
) -> list[tuple[ProfileSnapshot, ...] | None]:
    ends: dict[int, int] = {}
    for each in updates:
        ends[each.partition] = each.offset
    return store.apply(
        updates, ends=ends, recorded=dict.fromkeys(ends, recorded), fencing_tokens=fencing_tokens
    )


def profiles(store: Store) -> list[Profile]:
    return [store.profile(kind, key) for kind, key in ENTITIES]


def stream(length: int) -> list[EventUpdate]:
    """Events of two partitions that share merchants, one card far busier than the others."""
    updates = []
    for n in range(length):
        card = EntityRef("card", "c1" if n % 3 else f"c{2 + n % 4}", 3)
        merchant = EntityRef("merchant", f"m{1 + n % 5}", 0)
        device = EntityRef("device", f"d{1 + n % 2}", 1)
        late = 5000.0 if n % 11 == 7 else 0.0
        updates.append(event_update(n // 2, card, merchant, device, partition=n % 2, time=100.0 * n - late))
    return updates


def test_an_event_does_not_vouch_for_itself(store: Store) -> None:
    fencing_tokens = store.claim([0])
    first, second = apply(
        store, [event_update(0, CARD, MERCHANT), event_update(1, MERCHANT, CARD)], fencing_tokens
    )
    assert first is not None
    assert second is not None
    assert [snapshot.profile.updates for snapshot in first] == [0, 0]
    assert [snapshot.profile.updates for snapshot in second] == [1, 1]
    assert second[1].profile == apply_event(first[0].profile, event(0.0, 10.0, b"n0"), 3)
    assert second[0].profile == apply_event(first[1].profile, event(0.0, 10.0, b"n0"), 0)


def test_a_batch_of_any_cut_reads_and_leaves_the_same_bits(store: Store) -> None:
    updates = stream(300)
    oracle = MemoryStore(HALF_LIVES)
    expected = apply(oracle, updates, oracle.claim([0, 1]))
    fencing_tokens = store.claim([0, 1])
    found = []
    for cut in (updates[:1], updates[1:2], updates[2:60], updates[60:299], updates[299:]):
        found += apply(store, cut, fencing_tokens)
    assert found == expected
    assert profiles(store) == profiles(oracle)


def test_redelivered_event_changes_no_profile_and_reads_the_same(
    store: Store, open_store: Callable[[], Store]
) -> None:
    updates = stream(100)
    fencing_tokens = store.claim([0, 1])
    first = apply(store, updates[:60], fencing_tokens)
    before = profiles(store)
    assert apply(store, updates[:60], fencing_tokens) == first
    assert apply(store, updates[20:41], fencing_tokens) == first[20:41]
    assert apply(open_store(), updates[59:60], fencing_tokens) == first[59:60]
    assert profiles(store) == before
    again = apply(store, updates[40:], fencing_tokens)  # old and new in one batch
    assert again[:20] == first[40:]
    oracle = MemoryStore(HALF_LIVES)
    expected = apply(oracle, updates, oracle.claim([0, 1]))
    assert again == expected[40:]
    assert profiles(store) == profiles(oracle)


def test_a_recorded_event_is_no_longer_in_the_journal(store: Store) -> None:
    fencing_tokens = store.claim([0])
    updates = [event_update(n, CARD, MERCHANT) for n in range(6)]
    first = apply(store, updates, fencing_tokens)
    assert apply(store, updates, fencing_tokens, recorded=2) == [None, None, None, *first[3:]]
    assert apply(store, updates, fencing_tokens, recorded=1) == [None, None, None, *first[3:]]
    assert apply(store, updates, fencing_tokens, recorded=5) == [None] * 6


def test_a_journal_entry_is_given_to_its_own_transaction_alone(store: Store) -> None:
    fencing_tokens = store.claim([0])
    updates = [event_update(n, CARD, MERCHANT) for n in range(3)]
    first = apply(store, updates, fencing_tokens)
    before = profiles(store)
    other = updates[1]._replace(transaction_id="of another log")
    with pytest.raises(
        OtherLog, match=r"offset 1: transaction of another log is there now.*riverwatch adopt"
    ):
        apply(store, [updates[0], other, updates[2]], fencing_tokens)
    assert profiles(store) == before
    assert apply(store, updates, fencing_tokens) == first


def test_what_was_passed_without_an_update_is_told_from_what_is_trimmed(store: Store) -> None:
    fencing_tokens = store.claim([0])
    apply(store, [event_update(0, CARD)], fencing_tokens)
    store.apply([], ends={0: 1}, recorded={}, fencing_tokens=fencing_tokens, duplicates={0: [1]})
    passed = event_update(1, CARD, MERCHANT)
    assert apply(store, [passed], fencing_tokens) == [()]
    assert apply(store, [passed], fencing_tokens, recorded=1) == [None]


def test_a_store_behind_what_is_recorded_says_so_and_changes_nothing(store: Store) -> None:
    fencing_tokens = store.claim([0])
    apply(store, [event_update(4, CARD)], fencing_tokens)
    with pytest.raises(StoreBehind) as behind:
        apply(store, [event_update(10, CARD)], fencing_tokens, recorded=9)
    assert behind.value.starts == {0: 5}
    assert store.progress([0]) == {0: 4}
    assert store.profile(*CARD[:2]).updates == 1


def test_rejected_and_repeated_events_are_counted_once_and_decisions_when_they_are_recorded(
    store: Store,
) -> None:
    fencing_tokens = store.claim([0, 1])
    first = {"rejected": {0: [1, 2], 1: [0]}, "duplicates": {0: [3]}}
    store.apply(
        [event_update(0, CARD)], ends={0: 3, 1: 0}, recorded={}, fencing_tokens=fencing_tokens, **first
    )
    store.record([(0, "t0", b"a"), (0, "t1", b"b")], fencing_tokens=fencing_tokens)
    assert store.counts() == {"decided": 2, "rejected": 3, "duplicates": 1}
    # Delivered again, in another cut: what is passed already is not counted again.
    again = {"rejected": {0: [2, 4]}, "duplicates": {0: [3, 5, 6]}}
    store.apply([], ends={0: 6}, recorded={}, fencing_tokens=fencing_tokens, **again)
    store.record([(0, "t1", b"c"), (0, "t2", b"d")], fencing_tokens=fencing_tokens)
    assert store.counts() == {"decided": 3, "rejected": 4, "duplicates": 3}


def test_the_fence_moves_over_events_that_touch_nothing(store: Store) -> None:
    fencing_tokens = store.claim([0, 7])
    assert store.progress([0, 7]) == {0: -1, 7: -1}
    assert store.apply([event_update(3)], ends={0: 5, 7: 2}, recorded={}, fencing_tokens=fencing_tokens) == [
        ()
    ]
    assert store.progress([0, 7, 8]) == {0: 5, 7: 2, 8: -1}
    assert apply(store, [event_update(3)], fencing_tokens) == [()]
    assert apply(store, [event_update(5, CARD)], fencing_tokens) == [
        ()
    ]  # at the applied offset, and never read
    assert store.progress([0]) == {0: 5}
    assert store.progress([]) == {}
    assert store.apply([], ends={}, recorded={}, fencing_tokens=fencing_tokens) == []


def test_partitions_have_fences_of_their_own(store: Store) -> None:
    fencing_tokens = store.claim([0, 1])
    apply(store, [event_update(9, MERCHANT)], fencing_tokens)
    [snapshots] = apply(store, [event_update(3, MERCHANT, partition=1)], fencing_tokens)
    assert snapshots is not None
    assert snapshots[0].profile.updates == 1


def test_a_stale_owner_changes_nothing(store: Store, open_store: Callable[[], Store]) -> None:
    old = store.claim([0, 1])
    apply(store, [event_update(0, CARD, MERCHANT)], old)
    successor = open_store()
    new = successor.claim([1])
    assert new[1] > old[1]
    before = profiles(store)
    batch = [event_update(1, CARD, MERCHANT), event_update(0, CARD, MERCHANT, partition=1)]
    with pytest.raises(StaleOwner, match="partition 1"):
        apply(store, batch, old)
    with pytest.raises(StaleOwner, match="partition 1"):
        store.record([(1, "t1", b"old")], fencing_tokens=old)
    assert profiles(store) == before
    assert store.progress([0, 1]) == {0: 0, 1: -1}
    assert store.lookup(["t1"]) == [None]
    apply(store, [event_update(1, CARD)], old)  # the partition that is still its own
    apply(successor, batch[1:], new)
    assert store.progress([0, 1]) == {0: 1, 1: 0}


def test_a_token_is_higher_than_any_before_it(store: Store, open_store: Callable[[], Store]) -> None:
    first = store.claim([0, 1])
    second = open_store().claim([1])
    third = store.claim([0, 1])
    assert first[1] < second[1] < third[1]
    assert first[0] < third[0]


def test_a_higher_token_than_the_stored_one_takes_over(store: Store) -> None:
    fencing_tokens = store.claim([0])
    apply(store, [event_update(0, CARD)], {0: fencing_tokens[0] + 5})
    with pytest.raises(StaleOwner):
        apply(store, [event_update(1, CARD)], fencing_tokens)
    assert store.record([(0, "t", b"1")], fencing_tokens={0: fencing_tokens[0] + 9}) == [b"1"]
    with pytest.raises(StaleOwner):
        apply(store, [event_update(1, CARD)], {0: fencing_tokens[0] + 5})
    assert store.claim([0])[0] > fencing_tokens[0] + 9


def test_what_is_recorded_first_returns(store: Store) -> None:
    fencing_tokens = store.claim([0, 1])
    assert store.record([(0, "a", b"1"), (1, "b", b"2"), (0, "a", b"3")], fencing_tokens=fencing_tokens) == [
        b"1",
        b"2",
        b"1",
    ]
    assert store.record([(1, "c", b"4"), (1, "b", b"5")], fencing_tokens=fencing_tokens) == [b"4", b"2"]
    assert store.lookup(["c", "x", "b", "a"]) == [b"4", None, b"2", b"1"]
    assert store.record([], fencing_tokens=fencing_tokens) == []


def test_the_last_events_are_kept_the_latest_first(store: Store) -> None:
    fencing_tokens = store.claim([0])
    recent_events = [b"", b"a" * 255, b"\x00\xff", b"d", b"e"]
    updates = [
        EventUpdate(0, n, event(n, recent_event=recent_event), (CARD, MERCHANT))
        for n, recent_event in enumerate(recent_events)
    ]
    snapshots = apply(store, updates, fencing_tokens)
    assert [snapshot[0].profile.recent for snapshot in snapshots if snapshot] == [
        (),
        (b"",),
        (b"a" * 255, b""),
        (b"\x00\xff", b"a" * 255, b""),
        (b"d", b"\x00\xff", b"a" * 255),
    ]
    assert store.profile("merchant", "m1").recent == ()


def test_keeping_fewer_recent_events_drops_the_oldest(store: Store) -> None:
    fencing_tokens = store.claim([0])
    apply(store, [event_update(n, CARD) for n in range(5)], fencing_tokens)
    apply(store, [event_update(5, EntityRef("card", "c1", 2))], fencing_tokens)
    assert store.profile("card", "c1").recent == (b"n5", b"n4")


def test_a_late_event_weighs_its_own_time_and_moves_first_not_last(store: Store) -> None:
    fencing_tokens = store.claim([0])
    apply(store, [event_update(0, CARD, time=10_000.0), event_update(1, CARD, time=4_000.0)], fencing_tokens)
    profile = store.profile("card", "c1")
    assert (profile.first, profile.last) == (4_000.0, 10_000.0)
    exponent, count = profile.sums[:2]
    assert count * 2.0 ** (exponent - 10_000.0 / 60.0) == pytest.approx(1.0 + 2.0 ** (-6_000.0 / 60.0))


@pytest.mark.parametrize("amount", [0.01, 12.0, 1e9])
def test_an_outlier_is_clipped_and_counted_as_the_arithmetic_says(store: Store, amount: float) -> None:
    fencing_tokens = store.claim([0])
    expected = store.profile("card", "c1")
    usual = [10.0, 10.1, 9.9, 10.0]
    for offset, each in enumerate([*usual, amount, 10.0, amount]):
        happening = event(1.7e9 + offset, each)
        apply(store, [EventUpdate(0, offset, happening, (CARD,))], fencing_tokens)
        expected = apply_event(expected, happening, 3)
    assert store.profile("card", "c1") == expected
    high = expected.sums[5] > 0.0
    assert high == (amount == 1e9)


@pytest.mark.parametrize("time", [-6.0e10, -1.0, 0.0, 1.0e-300, 2.5e11])
def test_events_at_the_ends_of_time_agree_with_the_arithmetic(store: Store, time: float) -> None:
    fencing_tokens = store.claim([0])
    expected = store.profile("card", "c1")
    for offset, at in enumerate((1.7e9, time, 1.7e9 + 1, time)):
        apply(store, [event_update(offset, CARD, time=at)], fencing_tokens)
        expected = apply_event(expected, event_update(offset, CARD, time=at).event, 3)
    assert store.profile("card", "c1") == expected
    assert all(map(math.isfinite, expected.sums))


@pytest.mark.parametrize("half_lives", [1000, 1022, 1023, 1040, 1075, 1090, 1116, 1130, 5001])
def test_sums_fade_into_nothing_as_the_arithmetic_says(store: Store, half_lives: int) -> None:
    fencing_tokens = store.claim([0])
    expected = store.profile("card", "c1")
    for offset, at in enumerate((0.0, 1.0, 60.0 * half_lives)):
        happening = event(1.7e9 + at, 9.87e12)
        apply(store, [EventUpdate(0, offset, happening, (CARD,))], fencing_tokens)
        expected = apply_event(expected, happening, 3)
    assert store.profile("card", "c1") == expected


def test_confirmed_labels_are_read_with_the_profile(store: Store) -> None:
    fencing_tokens = store.claim([0])
    delta = label_delta("t0", 0.0, True, HALF_LIVES)
    label = LabelUpdate(0, "t0", True, 50.0, delta, (CARD, MERCHANT), b"")
    first = apply(store, [event_update(0, CARD, MERCHANT)], fencing_tokens)
    store.apply_labels([label], learned=0)
    again = apply(store, [event_update(0, CARD, MERCHANT), event_update(1, CARD, MERCHANT)], fencing_tokens)
    assert again[0] == first[0]  # as it was read, before the label
    assert again[1] is not None
    assert [snapshot.labels.frauds for snapshot in again[1]] == [1, 1]
    assert [snapshot.labels.latest for snapshot in again[1]] == [(True,), (True,)]


def test_a_batch_that_the_fence_would_not_cover_is_refused(store: Store) -> None:
    fencing_tokens = store.claim([0])
    with pytest.raises(ValueError, match="not beyond the end 3"):
        store.apply([event_update(4, CARD)], ends={0: 3}, recorded={}, fencing_tokens=fencing_tokens)
    with pytest.raises(ValueError, match="no end"):
        store.apply(
            [event_update(4, CARD, partition=1)], ends={0: 3}, recorded={}, fencing_tokens=fencing_tokens
        )
    with pytest.raises(ValueError, match="offsets must rise"):
        store.apply(
            [event_update(2, CARD), event_update(1, CARD)],
            ends={0: 3},
            recorded={},
            fencing_tokens=fencing_tokens,
        )
    with pytest.raises(ValueError, match="claim it first"):
        store.apply(
            [event_update(4, CARD, partition=2)], ends={2: 4}, recorded={}, fencing_tokens=fencing_tokens
        )
    assert store.progress([0]) == {0: -1}


def test_an_event_with_other_entities_than_when_it_was_applied_is_refused(store: Store) -> None:
    fencing_tokens = store.claim([0])
    apply(store, [event_update(0, CARD)], fencing_tokens)
    with pytest.raises(ValueError, match="other entities"):
        apply(store, [event_update(0, CARD, EntityRef("card", "c1", 3))], fencing_tokens)


def test_a_batch_of_thousands_of_entities_is_one_batch(store: Store) -> None:
    fencing_tokens = store.claim([0])
    updates = [
        event_update(n, *(EntityRef(kind, f"{n}", 0) for kind in ("a", "b", "c", "d", "e")))
        for n in range(1300)
    ]
    snapshots = apply(store, updates, fencing_tokens)
    assert all(snapshot is not None and len(snapshot) == 5 for snapshot in snapshots)
    assert apply(store, updates, fencing_tokens) == snapshots
    assert store.profile("e", "1299").updates == 1
