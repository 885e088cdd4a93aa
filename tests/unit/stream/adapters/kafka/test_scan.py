"""Ranges of a topic: each record once, and a gap in offsets is looked at twice before it is believed."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from stream.adapters.kafka.message import record_of
from stream.adapters.kafka.scan import _marks, _Reader
from stream.records import Record


class Client:
    """Notes where it is told to go."""

    def __init__(self) -> None:
        self.sought: list[tuple[int, int]] = []

    def seek(self, place: TopicPartition) -> None:
        self.sought.append((place.partition, place.offset))


def records(*places: tuple[int, int]) -> list[Record]:
    return [Record("t", partition, offset, 0, None, b"x") for partition, offset in places]


def reader_of(spans: dict[int, tuple[int, int]]) -> tuple[_Reader, Client, set[int]]:
    client: Any = Client()
    unread = set(spans)
    return _Reader(client, "t", spans, {n: start for n, (start, _) in spans.items()}, unread), client, unread


def given(reader: _Reader, *places: tuple[int, int]) -> list[tuple[int, int]]:
    return [(each.partition, each.offset) for each in reader.within(records(*places))]


def test_a_gap_is_read_again_and_what_it_hid_is_given() -> None:
    reader, client, _ = reader_of({0: (0, 9), 1: (0, 9)})
    assert given(reader, (0, 0), (0, 3), (0, 4), (1, 0)) == [(0, 0), (1, 0)]
    assert client.sought == [(0, 1)]
    assert given(reader, (0, 1), (0, 2), (0, 3)) == [(0, 1), (0, 2), (0, 3)]


def test_a_gap_that_is_there_again_is_believed() -> None:
    reader, client, _ = reader_of({0: (0, 9)})
    assert given(reader, (0, 4)) == []
    assert given(reader, (0, 4), (0, 5)) == [(0, 4), (0, 5)]
    assert client.sought == [(0, 0)]


def test_all_gaps_of_a_batch_are_looked_at_again_at_once() -> None:
    reader, client, _ = reader_of({0: (0, 20)})
    assert given(reader, (0, 0), (0, 2), (0, 3), (0, 7), (0, 9)) == [(0, 0)]
    assert given(reader, (0, 2), (0, 3), (0, 7), (0, 8), (0, 9)) == [(0, n) for n in (2, 3, 7, 8, 9)]
    assert client.sought == [(0, 1)]
    assert given(reader, (0, 12)) == []
    assert client.sought == [(0, 1), (0, 10)]


def test_another_gap_at_the_place_of_one_is_looked_at_again() -> None:
    reader, client, _ = reader_of({0: (0, 20)})
    assert given(reader, (0, 2)) == []
    assert given(reader, (0, 4)) == []
    assert given(reader, (0, 2), (0, 4)) == []
    assert given(reader, (0, 2), (0, 4)) == [(0, 2), (0, 4)]
    assert client.sought == [(0, 0)] * 3


def test_what_was_given_is_not_given_again() -> None:
    reader, _, _ = reader_of({0: (2, 9)})
    assert given(reader, (0, 1), (0, 2), (0, 3)) == [(0, 2), (0, 3)]
    assert given(reader, (0, 2), (0, 3), (0, 4)) == [(0, 4)]


def test_a_span_ends_before_its_end_and_with_it_its_partition() -> None:
    reader, _, unread = reader_of({0: (0, 2), 1: (0, 9)})
    assert given(reader, (0, 0), (0, 1), (0, 2), (1, 0)) == [(0, 0), (0, 1), (1, 0)]
    assert unread == {1}


def test_a_gap_before_the_end_keeps_its_partition_open() -> None:
    reader, _, unread = reader_of({0: (0, 9)})
    unread.discard(0)  # the end of the partition was met in the batch
    assert given(reader, (0, 5)) == []
    assert unread == {0}


class Fetched:
    """A message as the client gives it."""

    def partition(self) -> int:
        return 2

    def offset(self) -> int:
        return 5

    def timestamp(self) -> tuple[int, int]:
        return 1, 7

    def key(self) -> bytes:
        return b"k"

    def value(self) -> None:
        return None

    def headers(self) -> list[tuple[str, bytes | None]]:
        return [("a", b"1"), ("b", None), ("a", b"2")]


def test_headers_keep_their_order_and_names_that_repeat() -> None:
    message: Any = Fetched()
    headers = (("a", b"1"), ("b", b""), ("a", b"2"))
    assert record_of("t", message) == Record("t", 2, 5, 7, b"k", None, headers)


class Leaderless:
    """A client whose partition gets its leader with the third question."""

    def __init__(self, code: int) -> None:
        self.asked = 0
        self._code = code

    def get_watermark_offsets(self, _place: TopicPartition, timeout: float) -> tuple[int, int]:
        assert timeout > 0
        self.asked += 1
        if self.asked < 3:
            raise KafkaException(KafkaError(self._code))
        return 0, 7


@pytest.mark.parametrize("code", [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE])
def test_a_partition_without_a_leader_is_asked_again(code: int) -> None:
    client: Any = Leaderless(code)
    assert _marks(client, TopicPartition("t", 0), 5.0) == (0, 7)
    assert client.asked == 3


def test_what_does_not_pass_is_raised_at_once() -> None:
    client: Any = Leaderless(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException):
        _marks(client, TopicPartition("t", 0), 5.0)
    assert client.asked == 1
