"""What `riverwatch status` says to people."""

from __future__ import annotations

import pytest
import redis

from stream.adapters.kafka.admin import TopicMismatch
from stream.cli.look.status import as_text
from stream.config.settings import Settings
from stream.inspect import status as state_of_things
from stream.inspect.status import EventAccount, Status, lacking, look


@pytest.mark.parametrize(
    ("serves", "said"),
    [(True, "no worker runs"), (False, "which of them run is not known until it serves")],
)
def test_workers_are_missing_only_where_redis_can_tell(serves: bool, said: str) -> None:
    """Workers announce themselves in Redis: its silence says nothing of them."""
    found = Status(
        kafka="k:9092 answers",
        redis="redis://r",
        redis_serves=serves,
        workers=[],
        lag={},
        account=None,
        down=[],
    )
    assert said in as_text(found)


def test_kafka_that_has_other_topics_is_not_said_to_be_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(_: Settings) -> None:
        raise TopicMismatch("topics missing: scores; `riverwatch topics` creates them")

    monkeypatch.setattr(state_of_things, "check_topics", check)
    found = look(Settings(redis_url="redis://127.0.0.1:1/0"))
    assert found.kafka.endswith("answers")
    assert found.down[0].startswith("topics missing")


class Store:
    def counts(self) -> dict[str, int]:
        return {"decided": 0, "duplicates": 0, "rejected": 0}


class FullRedis:
    """It can be read, and refuses to grow."""

    def __init__(self, error: redis.RedisError) -> None:
        self._error = error

    def setrange(self, *_: object) -> int:
        raise self._error

    def info(self) -> dict[str, object]:
        raise self._error


def seen(monkeypatch: pytest.MonkeyPatch, error: redis.RedisError) -> Status:
    def check(_: Settings) -> None:
        raise TopicMismatch("not asked here")

    monkeypatch.setattr(state_of_things, "check_topics", check)
    monkeypatch.setattr(state_of_things, "redis_client", lambda _: FullRedis(error))
    monkeypatch.setattr(state_of_things, "make_store", lambda *_: Store())
    monkeypatch.setattr(state_of_things, "workers", lambda *_, **__: [])
    return look(Settings())


def test_redis_that_takes_no_writes_is_down_in_the_words_of_the_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Workers cannot announce themselves in it: whether they run is not known, and not denied."""
    full = redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'")
    found = seen(monkeypatch, full)
    assert found.redis.endswith("DOES NOT SERVE")
    assert found.down[1].startswith("Redis at 127.0.0.1:6379 cannot serve now (OutOfMemoryError")
    assert "its memory is full: raise maxmemory" in found.down[1]
    assert not any("worker runs" in what for what in found.down)
    assert "which of them run is not known" in as_text(found)


def test_who_may_only_read_redis_sees_it_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    found = seen(monkeypatch, redis.exceptions.NoPermissionError("this user has no permissions"))
    assert found.redis.endswith("answers")
    assert "no score worker runs" in found.down


def account(**changed: int) -> EventAccount:
    whole = {"events": 10, "decided": 7, "duplicates": 2, "rejected": 1, "lag": 0}
    return EventAccount(**(whole | changed), alerts=0, labels=0, dead_letters=0)


def test_events_without_an_outcome_are_down_when_none_is_in_work() -> None:
    assert lacking(account()) == []
    assert lacking(account(decided=5, lag=1)) == [], "some are in work, perhaps"
    assert lacking(account(decided=8)) == [], "one came while it was counted"
    [line] = lacking(account(decided=5))
    assert line.startswith("2 events are acknowledged and have neither decision nor dead letter")
