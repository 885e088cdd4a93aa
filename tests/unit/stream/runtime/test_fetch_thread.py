"""Without a broker a worker still ends: what Kafka would have to answer is not waited for for ever."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream.config.settings import Settings
from stream.runtime.app import BatchTopic, create_batch_app
from stream.runtime.consumer import ANSWERS_WITHIN, BatchConsumer
from stream.runtime.fetch_thread import FetchThread
from stream.runtime.retry_log import WaitLog
from tests.support.patience import PATIENCE

SESSION = 0.4
OFFSETS = {TP("cards", 0): 100}


@pytest.fixture
def consumer() -> Iterator[BatchConsumer]:
    """One that was never started; the loop of its thread is run by the tests."""
    asyncio.set_event_loop(loop := asyncio.new_event_loop())
    app = create_batch_app(
        app_id="unit",
        bootstrap="127.0.0.1:1",
        topics=[BatchTopic("cards", lambda _: None, name="score")],
        session_timeout=SESSION,
        heartbeat_interval=SESSION / 4,
    )
    yield app.consumer
    loop.close()
    app.consumer._thread.thread_loop.close()
    asyncio.set_event_loop(None)


@pytest.fixture
def thread(consumer: BatchConsumer) -> FetchThread:
    """Its thread."""
    return consumer._thread


async def never_answered(*_: object) -> bool:
    await asyncio.Event().wait()
    return True


def limits_asked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how many seconds each thing may last that is done from here on."""
    asked: list[float] = []
    limit = asyncio.timeout

    def noted(seconds: float) -> asyncio.Timeout:
        asked.append(seconds)
        return limit(seconds)

    monkeypatch.setattr(asyncio, "timeout", noted)
    return asked


def with_client(thread: FetchThread) -> list[str]:
    """What became of the client of the thread's consumer."""
    done: list[str] = []

    async def close() -> None:
        done.append("closed")

    thread._consumer = SimpleNamespace(_client=SimpleNamespace(close=close))
    return done


def test_a_commit_that_nobody_answers_is_abandoned_and_never_taken_for_done(
    thread: FetchThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_commit", never_answered)

    async def commit_and_abandon() -> list[bool]:
        committing = asyncio.ensure_future(thread._commit(OFFSETS))
        await asyncio.sleep(0)
        assert thread.unanswered() is not None
        thread.abandon_commits()
        return [await committing, await thread._commit(OFFSETS)]

    ended = asyncio.wait_for(commit_and_abandon(), 5)
    assert thread.thread_loop.run_until_complete(ended) == [False, False]
    assert thread.unanswered() is None


def test_how_an_abandoned_request_fails_is_no_news_and_any_other_error_is(
    thread: FetchThread, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail_unheard(error: Exception) -> None:
        async def fail() -> None:
            raise error

        asyncio.ensure_future(fail())  # noqa: RUF006 - nobody keeps it: that is what is tried
        await asyncio.sleep(0.01)
        gc.collect()

    async def abandon_then_fail() -> None:
        thread.abandon_commits()
        await asyncio.sleep(0.01)
        await fail_unheard(KafkaConnectionError("closed"))
        assert caplog.records == []
        await fail_unheard(ValueError("a fault of ours"))

    thread.thread_loop.run_until_complete(abandon_then_fail())
    [record] = caplog.records
    assert "Task exception was never retrieved" in record.getMessage()


def test_a_commit_that_is_cancelled_by_others_is_cancelled(
    thread: FetchThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_commit", never_answered)

    async def commit_and_cancel() -> None:
        committing = asyncio.ensure_future(thread._commit(OFFSETS))
        await asyncio.sleep(0)
        committing.cancel()
        await committing

    with pytest.raises(asyncio.CancelledError):
        thread.thread_loop.run_until_complete(asyncio.wait_for(commit_and_cancel(), PATIENCE))


def test_commits_of_a_thread_that_has_ended_are_abandoned_without_a_word(thread: FetchThread) -> None:
    thread.thread_loop.close()
    thread.abandon_commits()


async def leaks_its_own_cancellation(*_: object) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("stop", [leaks_its_own_cancellation, never_answered])
def test_a_goodbye_that_fails_or_is_not_answered_ends_with_a_closed_client(
    thread: FetchThread, monkeypatch: pytest.MonkeyPatch, stop: Any
) -> None:
    closed = with_client(thread)
    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "on_thread_stop", stop)
    limits = limits_asked(monkeypatch)
    thread.thread_loop.run_until_complete(asyncio.wait_for(thread.on_thread_stop(), PATIENCE))
    assert closed == ["closed"]
    assert limits == [SESSION / 2]


def test_a_goodbye_takes_no_longer_than_supervisors_give(
    consumer: BatchConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They give 30 s (`stop_grace_period` in infra/compose.yaml), two of them for the rest of the end."""
    limits = limits_asked(monkeypatch)
    asyncio.get_event_loop_policy().get_event_loop().run_until_complete(consumer.leave(SESSION))
    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "on_thread_stop", never_answered)
    consumer._thread.thread_loop.run_until_complete(consumer._thread.on_thread_stop())
    assert len(limits) == 2
    assert sum(limits) / SESSION * Settings().session_timeout + 2.0 < 30.0


def test_who_cancels_the_goodbye_cancels_it(thread: FetchThread, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = with_client(thread)
    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "on_thread_stop", never_answered)

    async def stop_and_cancel() -> None:
        stopping = asyncio.ensure_future(thread.on_thread_stop())
        await asyncio.sleep(0)
        stopping.cancel()
        await stopping

    with pytest.raises(asyncio.CancelledError):
        thread.thread_loop.run_until_complete(stop_and_cancel())
    assert closed == []


def test_a_broker_that_is_there_and_answers_no_commit_is_named(
    consumer: BatchConsumer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wait = WaitLog("Kafka at 127.0.0.1:1 answers commits again")
    monkeypatch.setattr(consumer, "coordinator_is_known", lambda: True)
    for lasts in (None, ANSWERS_WITHIN - 1, ANSWERS_WITHIN + 1, ANSWERS_WITHIN + 2, None):
        monkeypatch.setattr(consumer._thread, "unanswered", lambda lasts=lasts: lasts)
        consumer.say_unanswered(wait)
    assert [record.getMessage() for record in caplog.records] == [
        "Kafka at 127.0.0.1:1 answers no commit: what is done is not acknowledged; trying until it does",
        "Kafka at 127.0.0.1:1 answers commits again after 0 s",
    ]
