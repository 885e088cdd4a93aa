"""Partitions become one stream in order of event time, whatever the order in which their messages arrive."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from stream.history.event_order import LEAST, Disorder, EventOrder, Placed

Partitions = list[list[float]]
times = st.floats(min_value=0.0, max_value=1e9).map(lambda time: round(time, 1))
partitions = st.lists(st.lists(times, max_size=40), min_size=1, max_size=5)


def ordered(
    parts: Partitions, look_ahead: int, arrival: Random
) -> tuple[list[tuple[int, int]], list[float], EventOrder[None]]:
    """Places and times as they are given, where messages arrive in chunks of chance."""
    order = EventOrder[None](range(len(parts)), look_ahead=look_ahead)
    at, found = [0] * len(parts), []
    while order.hungry:
        number = arrival.choice(sorted(order.hungry))
        for _ in range(arrival.randint(1, 7)):
            if at[number] == len(parts[number]):
                order.end(number)
                break
            order.add(Placed(parts[number][at[number]], number, at[number], None))
            at[number] += 1
        found += list(order.ready())
    return [(each.partition, each.offset) for each in found], [each.time for each in found], order


@given(partitions, st.integers(0, 10), st.randoms(use_true_random=False))
def test_everything_is_given_once_and_chance_of_arrival_changes_nothing(
    parts: Partitions, look_ahead: int, arrival: Random
) -> None:
    places, _, order = ordered(parts, look_ahead, arrival)
    assert sorted(places) == [(n, at) for n, part in enumerate(parts) for at in range(len(part))]
    again, _, other = ordered(parts, look_ahead, Random(1))
    assert (again, other.disorder) == (places, order.disorder)


@given(partitions, st.randoms(use_true_random=False))
def test_what_the_look_ahead_reaches_is_in_order(parts: Partitions, arrival: Random) -> None:
    _, given_times, order = ordered(parts, 40, arrival)
    assert given_times == sorted(given_times)
    assert order.disorder.late == 0


def test_an_item_later_than_the_look_ahead_is_given_where_it_stands_and_counted() -> None:
    places, _, order = ordered([[1.0, 2.0, 3.0, 0.0, 4.0]], 2, Random(1))
    assert [offset for _, offset in places] == [0, 3, 1, 2, 4]
    assert order.disorder == Disorder(items=1, furthest=3.0, late=1)
    assert ordered([[1.0, 2.0, 3.0, 0.0, 4.0]], 3, Random(1))[2].disorder == Disorder(1, 3.0, 0)


def test_a_partition_that_is_ahead_waits_for_the_others() -> None:
    order = EventOrder[None]([0, 1], look_ahead=10)
    held = 0
    while 0 in order.hungry:
        order.add(Placed(float(held), 0, held, None))
        held += 1
        assert list(order.ready()) == []
    assert held == 2 * LEAST + 1, "the one that stands for its partition is not counted"
    assert order.hungry == {1}
