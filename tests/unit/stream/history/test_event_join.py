"""Events and decisions meet by place, whatever the order; the first decision of an event counts."""

from __future__ import annotations

import random
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from stream.history.join import EventJoin, FirstDecisions, Place, pack_place, unpack_place
from stream.records import Record
from stream.views import ServedDecision

places = st.tuples(st.integers(0, 3), st.integers(0, 70))


def decision(origin: Place) -> ServedDecision:
    return ServedDecision(
        transaction_id=f"{origin}",
        decided_at=datetime(2026, 1, 5, tzinfo=UTC),
        action="approve",
        model_version="m",
        origin=origin,
    )


def event(place: Place) -> Record:
    return Record("transactions", *place, 0, b"c", b"{}")


@given(st.lists(places))
def test_the_first_decision_of_each_event_is_the_one_that_counts(origins: list[Place]) -> None:
    first, seen = FirstDecisions(), set[Place]()
    for origin in origins:
        assert first.add(origin) is (origin not in seen)
        seen.add(origin)


@given(st.lists(places), st.dictionaries(st.integers(0, 3), st.integers(0, 70)))
def test_decisions_of_events_that_the_log_lost_or_of_no_event_are_no_events_first(
    origins: list[Place], starts: dict[int, int]
) -> None:
    first = FirstDecisions(starts)
    counted = [origin for origin in origins if first.add(origin)]
    held = [origin for origin in origins if origin[1] >= starts.get(origin[0], 0)]
    assert counted == list(dict.fromkeys(held))
    assert not any(map(first.add, [(-1, -1), (-1, 5), (2, -1)]))


@given(st.tuples(st.integers(0, 2**15 - 1), st.integers(0, 2**48 - 1)))
def test_a_place_is_read_back_from_its_number(place: Place) -> None:
    assert unpack_place(pack_place(place)) == place


@given(st.sets(places), st.sets(places), st.integers(0, 1000))
def test_events_and_decisions_meet_once_each_in_any_interleaving(
    sent: set[Place], decided: set[Place], seed: int
) -> None:
    met: list[Place] = []
    join = EventJoin(lambda record, found, value: met.append(_same(record, found, value)))
    items = [("event", place) for place in sent] + [("decision", place) for place in decided]
    random.Random(seed).shuffle(items)
    for kind, place in items:
        if kind == "event":
            join.add_event(event(place))
        else:
            join.add_decision(decision(place), b"%r" % (place,))
    assert sorted(met) == sorted(sent & decided)
    assert join.events.keys() == sent - decided
    assert join.decisions.keys() == decided - sent


def _same(record: Record, found: ServedDecision, value: bytes) -> Place:
    assert (record.partition, record.offset) == found.origin
    assert value == b"%r" % (found.origin,)
    return found.origin


@given(st.integers(0, 12), st.integers(1, 4), st.integers(1, 4))
def test_topics_side_by_side_are_read_whole_and_no_more_than_a_batch_waits(
    count: int, of_events: int, of_decisions: int
) -> None:
    join = EventJoin(lambda *_: None)
    most = 0

    def batches(size: int, topic: str) -> list[list[Record]]:
        records = [Record(topic, 0, at, 0, None, b"") for at in range(count)]
        return [records[at : at + size] for at in range(0, count, size)]

    def add(record: Record) -> None:
        join.add_event(record)
        note()

    def decided(batch: list[Record]) -> None:
        for record in batch:
            join.add_decision(decision((0, record.offset)), b"")
            note()

    def note() -> None:
        nonlocal most
        most = max(most, len(join.events), len(join.decisions))

    events, decisions = batches(of_events, "transactions"), batches(of_decisions, "scores")
    join.read(iter(events), iter(decisions), event=add, decided=decided)
    assert (join.events, join.decisions) == ({}, {})
    assert most <= max(of_events, of_decisions)
