"""From where a learner goes on: its snapshot, or the logs, or nowhere."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest

from models.features.spec import DEFAULT_SPEC
from models.scoring.registry import build_model
from stream.adapters.kafka.models import PublishedModel, opened
from stream.adapters.memory.store import MemoryOutbox, MemoryStore
from stream.adapters.redis.model_floor import MemoryModelFloor
from stream.config.settings import Secret, Settings
from stream.history.catch_up import CaughtUp
from stream.learning import JOURNAL_KEPT
from stream.messages import ModelManifest
from stream.runtime.handler import Retry
from stream.workers import learn
from stream.workers.learn import LearnPorts, LearnWorker
from tests.support.model_keys import ANOTHER, INSTALLATION, KEY, SIGNING, trust

NOW = datetime(2026, 1, 5, tzinfo=UTC)
SETTINGS = Settings(model_key=Secret(KEY), installation=INSTALLATION)


def published(next_offset: int) -> PublishedModel:
    manifest = ModelManifest(
        name=SETTINGS.model,
        version=f"{SETTINGS.model}@{next_offset}",
        next_offset=next_offset,
        learned=3,
        created_at=NOW,
        event_time=None,
        sha256=hashlib.sha256(b"").hexdigest(),
        size=0,
    )
    return PublishedModel(manifest, build_model(SETTINGS.model))


class World:
    """What a learner finds when it takes over."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, newest: PublishedModel | None, refused: list[str]
    ) -> None:
        self.catch_up: list[int] = []
        self.outbox = MemoryOutbox()
        self.floor = MemoryModelFloor()

        class Topic:
            def __init__(self, _: Settings, *, name: str) -> None:
                assert name == SETTINGS.model

            def latest(self) -> tuple[PublishedModel | None, list[str]]:
                return newest, refused

            def close(self) -> None: ...

        def late(_: Settings, until: int) -> CaughtUp:
            self.catch_up.append(until)
            return CaughtUp(build_model(SETTINGS.model), 7, [])

        monkeypatch.setattr(learn, "ModelTopic", Topic)
        monkeypatch.setattr(learn, "catch_up", late)
        store = MemoryStore(len(DEFAULT_SPEC.half_lives))
        unused: Any = None  # neither is asked here
        ports = LearnPorts(store, store, unused, self.outbox, lambda: NOW, unused, self.floor)
        self.worker = LearnWorker(SETTINGS, ports, DEFAULT_SPEC, lambda _: None)


def test_learner_goes_on_from_its_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    for acknowledged in (0, 40, 42, 42 + JOURNAL_KEPT):
        world = World(monkeypatch, published(42), ["a newer one is forged"])
        assert world.worker.take_over(acknowledged) == 42
        assert not world.catch_up
        assert not world.outbox.sent


def test_first_learner_of_an_installation_begins_at_the_first_label(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, None, [])
    assert world.worker.take_over(0) == 0
    assert not world.catch_up


@pytest.mark.parametrize("newest", [None, published(42)])
def test_model_that_is_new_or_far_behind_learns_the_logs_and_is_published_at_once(
    monkeypatch: pytest.MonkeyPatch, newest: PublishedModel | None
) -> None:
    acknowledged = 43 + JOURNAL_KEPT
    world = World(monkeypatch, newest, [])
    assert world.worker.take_over(acknowledged) == acknowledged
    assert world.catch_up == [acknowledged]
    [message] = world.outbox.sent
    found = opened(message.value or b"", trust()).manifest
    assert (found.next_offset, found.learned) == (acknowledged, 7)


def test_learner_that_can_trust_no_snapshot_learns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, None, ["signed with another key"])
    with pytest.raises(Retry, match=r"acknowledged to 50, .* is the key that signed it"):
        world.worker.take_over(50)
    assert not world.catch_up


def test_each_reason_of_a_refusal_is_said_once_however_often_it_is_tried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refused = ["signed with another key", "signed with another key", "no manifest"]
    world = World(monkeypatch, None, refused)
    for _ in range(5):
        with pytest.raises(Retry):
            world.worker.take_over(50)
    said = "MODEL REFUSED, and there is none that is good: "
    assert [record.getMessage() for record in caplog.records] == [
        f"{said}signed with another key",
        f"{said}no manifest",
    ]
    refused.append("a newer one")
    with pytest.raises(Retry):
        world.worker.take_over(50)
    assert caplog.records[-1].getMessage() == f"{said}a newer one"


def test_learner_whose_models_were_all_written_over_learns_them_again_from_the_logs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A key trusted here signed the last one: what is refused now is not for want of the right key."""
    world = World(monkeypatch, None, ["no manifest", "signed with another key"])
    world.floor.rise(INSTALLATION, SETTINGS.model, 50, SIGNING.id.hex())
    assert world.worker.take_over(50) == 50
    assert world.catch_up == [50]
    [message] = world.outbox.sent
    assert opened(message.value or b"", trust()).manifest.next_offset == 50
    world = World(monkeypatch, None, ["signed with another key"])
    world.floor.rise(INSTALLATION, SETTINGS.model, 50, ANOTHER.id.hex())
    with pytest.raises(Retry, match="RIVERWATCH_MODEL_PUBLIC_KEYS"):
        world.worker.take_over(50)


def test_what_is_published_raises_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, None, [])
    world.worker.take_over(50)
    assert world.floor.read(INSTALLATION, SETTINGS.model) == 50
    assert world.floor.signer(INSTALLATION, SETTINGS.model) == SIGNING.id.hex()
