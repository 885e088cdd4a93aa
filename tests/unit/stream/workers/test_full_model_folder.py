"""The folder for large models is full: the learner says where, learns nothing twice, and goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from models.features.spec import FeatureSpec
from stream.adapters.kafka import signed_models
from stream.adapters.memory.store import MemoryOutbox, MemoryStore
from stream.adapters.redis.due_queues import MemoryDueQueue
from stream.adapters.redis.heartbeat import Heartbeat
from stream.adapters.redis.model_floor import MemoryModelFloor
from stream.config.factories import limits_of, new_model
from stream.config.settings import Settings, load
from stream.learning import Learner
from stream.messages import Label, encode, manifest_decoder
from stream.records import Record
from stream.runtime.handler import Retry
from stream.workers.learn import LearnPorts, LearnWorker
from tests.support.full_disk import CAN_LIMIT, WHY_NOT, no_file_above
from tests.support.model_keys import KEY

SPEC = FeatureSpec()
NOW = datetime(2026, 1, 5, tzinfo=UTC)


def settings(folder: Path) -> Settings:
    return load({"model_key": KEY, "installation": "test", "model_blob_dir": str(folder)}, {}).settings


def worker(own: Settings, outbox: MemoryOutbox) -> LearnWorker:
    """A learn worker that holds the labels, with everything around it in memory."""
    store = MemoryStore(SPEC.half_lives)
    floor = MemoryModelFloor()
    ports = LearnPorts(store, store, MemoryDueQueue(), outbox, lambda: NOW, Heartbeat("learn"), floor)
    found = LearnWorker(own, ports, SPEC, lambda _point: None)
    found._learner = Learner(
        model=new_model(own, SPEC),
        next_offset=0,
        decisions=store,
        labels=store,
        outbox=outbox,
        clock=ports.clock,
        spec=SPEC,
        negative_sampling_rate=own.negative_sampling_rate,
        labels_topic="labels",
        dead_letters="dead-letters",
        limits=limits_of(own),
    )
    return found


@pytest.mark.skipif(not CAN_LIMIT, reason=WHY_NOT)
def test_snapshot_that_finds_no_room_is_waited_with_where_it_is_said_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signed_models, "MAX_INLINE", 10)  # so every model is too large for a message
    outbox = MemoryOutbox()
    learner = worker(settings(tmp_path), outbox)
    label = Label(transaction_id="t", is_fraud=True, known_at=NOW - timedelta(days=1), source="analyst")
    records = [Record("labels", 0, 0, int(NOW.timestamp() * 1000), b"t", encode(label))]
    for _time in range(2):  # nothing may be acknowledged, however often it is tried
        with (
            no_file_above(100),
            pytest.raises(Retry, match=f"the snapshot was not written: .*'{tmp_path}/.*part'"),
        ):
            learner.handle(records)
        assert not list(tmp_path.iterdir()), "half a model takes no room"
        assert not outbox.values("models")
    learner.handle(records)
    [manifest] = [manifest_decoder.decode(value or b"") for value in outbox.values("models")]
    assert manifest.next_offset == 1
    assert [path.name for path in tmp_path.iterdir()] == [f"{manifest.sha256}.model"]
