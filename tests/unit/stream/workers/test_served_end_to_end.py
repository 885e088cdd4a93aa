"""A chosen model on its whole way: learned, published as signed bytes, served, replayed to the same bits."""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.features.spec import DEFAULT_SPEC
from models.scoring.snapshot import SnapshotHeader, dump
from models.snapshots import pickles
from producers.sources.open_source import open_source
from stream.adapters.kafka.models import opened, publish
from stream.adapters.memory.store import MemoryOutbox, MemoryStore
from stream.config.factories import limits_of, new_model, policy_of
from stream.config.settings import Duration, Settings
from stream.learning import Learner
from stream.messages import Decision, Label, ModelManifest, Transaction, decision_decoder, encode
from stream.pipeline import DecisionTopics, Pipeline
from stream.ports import Message
from stream.records import Record
from stream.replay.replay import Replay
from stream.replay.store import DecisionFile
from stream.workers.score import ModelInUse
from tests.support.model_keys import INSTALLATION, SIGNING, trust

DAY = 86_400.0
STEP = DAY / 4  # from one published model to the next
NOW = datetime(2026, 1, 5, tzinfo=UTC)
Item = Transaction | Label


@pytest.fixture(autouse=True)
def _unprobed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests pickled themselves needs no process that tries it first: each costs seconds."""
    monkeypatch.setattr(pickles, "probe", lambda *_: None)


class Installation:
    """A learner and a scorer that know of each other only what is on the topics, in one process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = MemoryStore(len(DEFAULT_SPEC.half_lives))
        self.outbox = MemoryOutbox()
        self.in_use = ModelInUse(policy_of(settings))
        self.pipeline = Pipeline(
            store=self.store,
            outbox=self.outbox,
            model=lambda: self.in_use.current,
            clock=lambda: NOW,
            spec=DEFAULT_SPEC,
            policy=policy_of(settings),
            topics=DecisionTopics("scores", "alerts", "dead-letters"),
            limits=limits_of(settings),
        )
        self.pipeline.on_assigned([0])
        self.learner = self.new_learner(new_model(settings, DEFAULT_SPEC), 0)
        self.published: list[str] = []
        self._events = self._labels = 0

    def new_learner(self, model: Any, next_offset: int) -> Learner:
        settings = self.settings
        return Learner(
            model=model,
            next_offset=next_offset,
            decisions=self.store,
            labels=self.store,
            outbox=self.outbox,
            clock=lambda: NOW,
            spec=DEFAULT_SPEC,
            negative_sampling_rate=settings.negative_sampling_rate,
            labels_topic="labels",
            dead_letters="dead-letters",
            limits=limits_of(settings),
        )

    def take(self, item: Item) -> None:
        """The next message."""
        if isinstance(item, Transaction):
            time = math.ceil(item.event_time.timestamp() * 1000.0)
            value = Record("transactions", 0, self._events, time, item.card_id.encode(), encode(item))
            self._events += 1
            self.pipeline.process([value])
        else:
            time = math.ceil(item.known_at.timestamp() * 1000.0)
            key = item.transaction_id.encode()
            self.learner.process([Record("labels", 0, self._labels, time, key, encode(item))])
            self._labels += 1

    def publish(self) -> None:
        """The learner publishes and dies; the scorer takes the snapshot, another learner goes on from it."""
        name, offset = self.settings.model, self.learner.next_offset
        version = f"{name}@{offset}"
        header = SnapshotHeader(
            name=name,
            version=version,
            next_offset=offset,
            learned=self.learner.learned,
            installation=INSTALLATION,
        )
        blob = dump(self.learner.model, key=SIGNING, header=header, classes=())
        manifest = ModelManifest(
            name=name,
            version=version,
            next_offset=offset,
            learned=self.learner.learned,
            created_at=NOW,
            event_time=None,
            sha256=hashlib.sha256(blob).hexdigest(),
            size=len(blob),
        )
        publish(self.outbox, "models", manifest, blob, "")
        value = self.sent("models")[-1].value or b""
        self.in_use.swap(opened(value, trust(name, classes=())))
        self.learner = self.new_learner(opened(value, trust(name, classes=())).model, offset)
        self.published.append(version)

    def sent(self, topic: str) -> list[Message]:
        return [message for message in self.outbox.sent if message.topic == topic]

    def decisions(self) -> list[Decision]:
        return [decision_decoder.decode(message.value or b"") for message in self.sent("scores")]


def streamed(settings: Settings, items: list[Item]) -> Installation:
    """Everything in its order; four times a day the model that labels changed is published."""
    installation = Installation(settings)
    step = -math.inf
    for item in items:
        at = item.event_time if isinstance(item, Transaction) else item.known_at
        if (now := math.floor(at.timestamp() / STEP)) > step:
            step = now
            version = f"{settings.model}@{installation.learner.next_offset}"
            if installation.learner.next_offset and version not in installation.published:
                installation.publish()
        installation.take(item)
    return installation


def replayed(settings: Settings, items: list[Item], path: Path) -> list[Decision]:
    out = DecisionFile(path)
    replay = Replay(settings, DEFAULT_SPEC, out, publish_every=STEP)
    assert replay.run(items)
    out.close()
    return [decision_decoder.decode(line) for line in path.read_bytes().splitlines()]


def bare(decision: Decision) -> bytes:
    """All of a decision but when it was made."""
    return encode(msgspec.structs.replace(decision, decided_at=NOW))


@pytest.mark.parametrize("model", ["hoeffding-tree", "river-pipeline"])
def test_chosen_model_is_learned_published_served_and_replayed_to_the_same_bits(
    model: str, tmp_path: Path
) -> None:
    settings = Settings(model=model, negative_sampling_rate=0.5, maturity=Duration(365 * DAY))
    source = open_source("simulated:3500", schema=None, label_delay=STEP, seed=3)
    items = list(source.items)
    installation = streamed(settings, items)
    live, again = installation.decisions(), replayed(settings, items, tmp_path / "out.jsonl")
    assert [bare(decision) for decision in live] == [bare(decision) for decision in again]
    versions = dict.fromkeys(decision.model_version for decision in live)
    assert next(iter(versions)) == "unsupervised-1", "until it has learned enough"
    assert set(versions) - {"unsupervised-1"} < set(installation.published)
    assert len(versions) > 3
    own = [decision for decision in live if decision.model_version != "unsupervised-1"]
    assert len({decision.score for decision in own}) > 5
    alerts = [decision for decision in own if decision.action != "approve"]
    assert alerts or model == "hoeffding-tree", "which has but one leaf by then"
    assert all(decision.reasons for decision in alerts)
