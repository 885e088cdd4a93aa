"""What is said while the broker is away: little, and what helps."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from stream.runtime.broker_log import BrokerOutageFilter

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.clock import Clock

ANYTHING = "Unable connect to node with id %s: %s"


@pytest.fixture
def outage(clock: Clock) -> BrokerOutageFilter:
    return BrokerOutageFilter("kafka:9092", every=5.0, clock=clock)


def aiokafka_says(outage: BrokerOutageFilter, line: str, *args: object) -> bool:
    record = logging.LogRecord("aiokafka", logging.ERROR, "client.py", 1, line, args, None)
    return outage.filter(record)


def test_lines_about_other_things_pass(outage: BrokerOutageFilter) -> None:
    assert aiokafka_says(outage, "Heartbeat failed for group %s because it is rebalancing", "score")
    assert aiokafka_says(outage, "Topic %s is not authorized for this client", "labels")


def test_outage_is_said_once_then_every_few_seconds_then_that_it_is_over(
    outage: BrokerOutageFilter, clock: Clock, said: Callable[[], list[str]]
) -> None:
    passed = 0
    lines: list[str] = []
    for _ in range(1300):  # 13 seconds of aiokafka
        passed += aiokafka_says(outage, ANYTHING, 1, "connection refused")
        outage.tick(reachable=False)
        lines += said()
        clock.now += 0.01
    assert passed == 0
    first, *later = lines
    assert "kafka:9092 cannot be reached (Unable connect to node with id 1: connection refused)" in first
    assert len(later) == 2
    assert all("lines of aiokafka held back" in line for line in later)
    clock.now += 1.0
    outage.tick(reachable=False)  # quiet, but the coordinator is not known yet
    assert said() == []
    outage.tick(reachable=True)
    assert said() == ["Kafka at kafka:9092 is back after 13 s"]
    outage.tick(reachable=True)
    assert said() == []


def test_what_is_over_within_a_second_is_not_mentioned(
    outage: BrokerOutageFilter, clock: Clock, said: Callable[[], list[str]]
) -> None:
    for _ in range(9):
        assert not aiokafka_says(outage, ANYTHING, 1, "connection reset")
        clock.now += 0.1
    clock.now += 1.0
    outage.tick(reachable=True)
    assert said() == []
    assert not aiokafka_says(outage, ANYTHING, 1, "connection reset")  # a new one starts to count anew
    assert said() == []
