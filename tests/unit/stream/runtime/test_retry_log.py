"""What waits says so at once, rarely from then on, and always when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stream.runtime.retry_log import FIRST, MOST, WaitLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.clock import Clock

REDIS_AWAY = "score waits, its batch of 5 unacknowledged: Redis at r:6379 cannot serve now"


@pytest.fixture
def wait(clock: Clock) -> WaitLog:
    return WaitLog("score goes on", clock)


def test_a_wait_is_said_at_once_then_when_it_has_doubled_and_when_it_is_over(
    wait: WaitLog, clock: Clock, said: Callable[[], list[str]]
) -> None:
    lines: list[str] = []
    for _ in range(31):  # a minute of tries
        wait.tried(REDIS_AWAY)
        lines += said()
        clock.now += 2.0
    wait.over()
    assert lines == [REDIS_AWAY, *(f"For {lasts} s now: {REDIS_AWAY}" for lasts in (6, 12, 24, 48))]
    assert said() == ["score goes on after 62 s"]
    wait.over()
    assert said() == []


def test_a_day_of_waiting_is_said_about_every_ten_minutes(
    wait: WaitLog, clock: Clock, said: Callable[[], list[str]]
) -> None:
    for _ in range(43_200):
        wait.tried(REDIS_AWAY)
        clock.now += 2.0
    assert 86_400 / MOST <= len(said()) <= 86_400 / MOST + 10


def test_another_reason_is_said_at_once_and_one_with_other_figures_is_none(
    wait: WaitLog, clock: Clock, said: Callable[[], list[str]]
) -> None:
    wait.tried("Redis at r:6379: 0 of 2 replicas have it")
    clock.now += FIRST / 10
    wait.tried("Redis at r:6379: 1 of 2 replicas have it")
    assert len(said()) == 1
    wait.tried("Redis at r:6379 is still loading")
    assert said() == ["Redis at r:6379 is still loading"]
    for _ in range(10):  # two that take turns are not two lines a try
        wait.tried("Redis at r:6379: 0 of 2 replicas have it")
        wait.tried("Redis at r:6379 is still loading")
    assert said() == []


def test_the_next_wait_is_said_as_if_it_were_the_first(
    wait: WaitLog, clock: Clock, said: Callable[[], list[str]]
) -> None:
    for _ in range(2):
        wait.tried(REDIS_AWAY)
        clock.now += FIRST
        wait.tried(REDIS_AWAY)
        wait.over()
        assert len(said()) == 3
