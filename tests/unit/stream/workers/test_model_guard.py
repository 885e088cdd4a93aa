"""The learner keeps its newest model the last on the topic, whatever is written there."""

from __future__ import annotations

import pytest

from stream.adapters.kafka.signed_models import Trust
from stream.adapters.memory.store import MemoryOutbox
from stream.ports import DependencyDown, Message
from stream.workers.model_guard import ModelGuard
from tests.support.hostile_models import HOSTILE, record
from tests.support.model_keys import trust


class Topic(MemoryOutbox):
    """The topic of models in memory, to read and to write."""

    def __init__(self, *values: bytes | None) -> None:
        super().__init__()
        self.trust: Trust = trust()
        for value in values:
            self.write(value)

    def write(self, value: bytes | None) -> bytes:
        self.send([Message("models", b"default", value)])
        return value or b""

    @property
    def newest(self) -> bytes | None:
        return self.sent[-1].value

    def since(self, start: int) -> tuple[int, list[bytes | None]]:
        values = [message.value for message in self.sent]
        return len(values), values[start:]

    def close(self) -> None: ...


def guarding(topic: Topic, value: bytes, offset: int) -> ModelGuard:
    guard = ModelGuard(lambda: topic, topic, "models", "default")
    guard.keep(value, offset)
    return guard


@pytest.mark.parametrize("kind", [*HOSTILE, "an old one", "a deletion"])
def test_model_that_was_written_over_is_published_again(kind: str) -> None:
    good = record(100)
    hostile = {"an old one": record(10), "a deletion": None}
    topic = Topic(good)
    guard = guarding(topic, good, 100)
    assert not guard.check()
    topic.write(hostile[kind] if kind in hostile else HOSTILE[kind]())
    assert guard.check()
    assert topic.newest == good
    assert not guard.check(), "what it wrote itself is as it should be"
    assert guard.healed == 1


def test_what_stood_behind_the_newest_when_a_learner_takes_over_is_seen() -> None:
    good = record(100)
    topic = Topic(record(90), good, b"rubbish")
    assert guarding(topic, good, 100).check()
    assert topic.newest == good


def test_model_of_a_learner_that_is_ahead_is_left_alone() -> None:
    good, ahead = record(100), record(200)
    topic = Topic(good, ahead)
    assert not guarding(topic, good, 100).check()
    assert topic.newest == ahead


def test_model_that_is_published_next_is_the_one_to_keep() -> None:
    first, second = record(100), record(200)
    topic = Topic(first)
    guard = guarding(topic, first, 100)
    guard.publish(lambda: topic.write(second), 200)
    assert not guard.check()
    topic.write(first)  # its own, and an old one now
    assert guard.check()
    assert topic.newest == second


def test_what_could_not_be_published_again_is_tried_again() -> None:
    good = record(100)
    topic = Topic(good, b"rubbish")
    guard = guarding(topic, good, 100)
    topic.fail_next()
    with pytest.raises(DependencyDown):
        guard.check()
    assert guard.check()
    assert topic.newest == good


def test_guard_that_was_stopped_writes_nothing() -> None:
    good = record(100)
    topic = Topic(good, b"rubbish")
    guard = guarding(topic, good, 100)
    guard.start()
    guard.stop()
    sent = len(topic.sent)
    topic.write(b"more of it")
    assert not guard.check()
    assert len(topic.sent) == sent + 1
