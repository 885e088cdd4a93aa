"""Who may write to the topic of models achieves a refusal: nothing is opened, ended, forgotten or taken."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pytest

from models.scoring.snapshot import SnapshotRefused
from stream.adapters.kafka import models as kafka_models
from stream.adapters.kafka import signed_models
from stream.adapters.kafka.models import ModelFollower, ModelTopic, PublishedModel
from stream.adapters.kafka.signed_models import Trust, opened, publish
from stream.adapters.memory.store import MemoryOutbox
from stream.config.settings import Settings
from stream.config.signing_key import trusted_keys
from stream.messages import manifest_decoder
from tests.support.hostile_models import HOSTILE, blob_of, manifest_of, record
from tests.support.model_keys import ANOTHER, SIGNING, trust


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_record_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    with pytest.raises(SnapshotRefused) as refused:
        opened(HOSTILE[kind](), trust(blob_dir=str(tmp_path)))
    assert "\n" not in refused.value.reason
    assert len(refused.value.reason) < 600


def test_snapshot_signed_for_this_installation_is_taken() -> None:
    assert opened(record(7), trust()).manifest.next_offset == 7


def test_key_is_changed_without_a_stop(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{SIGNING.public.hex()}\n{ANOTHER.public.hex()}\n")
    both = trust(keys=trusted_keys(Settings(model_public_keys=str(path))))
    for key in (SIGNING, ANOTHER):
        assert opened(record(7, key=key), both).manifest.next_offset == 7


# ---- large snapshots


def published_as_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, Path]:
    monkeypatch.setattr(signed_models, "MAX_INLINE", 10)
    blob = blob_of(7)
    found = msgspec.structs.replace(manifest_of(blob, 7), blob=None)
    value = publish(MemoryOutbox(), "models", found, blob, str(folder))
    [path] = folder.iterdir()
    return value, path


def test_large_snapshot_is_the_file_of_its_digest_in_the_folder_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, path = published_as_file(tmp_path, monkeypatch)
    assert path.name == f"{manifest_decoder.decode(value).sha256}.model"
    assert opened(value, trust(blob_dir=str(tmp_path))).manifest.next_offset == 7
    with pytest.raises(SnapshotRefused, match="RIVERWATCH_MODEL_BLOB_DIR"):
        opened(value, trust())
    with pytest.raises(SnapshotRefused, match="cannot be read"):
        opened(value, trust(blob_dir=str(tmp_path / "other")))


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _link_to_a_file(path: Path) -> None:
    there = path.with_name("there")
    there.write_bytes(blob_of(7))
    path.symlink_to(there)


@pytest.mark.parametrize("make", [_fifo, _link, _link_to_a_file, Path.mkdir])
def test_what_is_no_regular_file_is_not_read_under_a_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    value, path = published_as_file(tmp_path, monkeypatch)
    path.unlink()
    make(path)
    with pytest.raises(SnapshotRefused):
        opened(value, trust(blob_dir=str(tmp_path)))


def test_file_larger_than_any_model_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value, path = published_as_file(tmp_path, monkeypatch)
    with path.open("r+b") as file:
        file.truncate(3 << 30)
    read: list[int] = []
    monkeypatch.setattr(signed_models, "verified", lambda *_, **__: read.append(1))
    with pytest.raises(SnapshotRefused, match="at most"):
        opened(value, trust(blob_dir=str(tmp_path)))
    assert not read


@pytest.mark.parametrize("digest", ["../there", "/dev/zero", "a" * 63, "A" * 64, "\x00" * 64, "٣" * 64, ""])
def test_what_is_no_digest_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digest: str
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(os, "open", lambda path, *_: asked.append(path))
    value = msgspec.json.encode(msgspec.to_builtins(manifest_of(b"", 9)) | {"blob": None, "sha256": digest})
    with pytest.raises(SnapshotRefused, match="names no file"):
        opened(value, trust(blob_dir=str(tmp_path)))
    assert not asked


# ---- which of many


class Topic(ModelTopic):
    """The topic of models in memory: what is there at first, and what comes."""

    def __init__(self, values: Iterable[bytes | None], taken: Trust) -> None:
        super().__init__(Settings(), name="default")
        self._trust = taken
        self.values = list(values)
        self.coming: queue.Queue[list[bytes] | Exception] = queue.Queue()

    def latest(self, floor: int = 0) -> tuple[PublishedModel | None, list[str]]:
        return self.best(self.values, floor)

    def poll(self, timeout: float) -> list[bytes]:
        try:
            found = self.coming.get(timeout=timeout)
        except queue.Empty:
            return []
        if isinstance(found, Exception):
            raise found
        return found


def version(found: PublishedModel | None) -> str:
    return found.manifest.version if found else ""


def test_model_that_has_learned_most_is_taken_wherever_it_stands() -> None:
    values = [record(10), record(100_000), None, b"rubbish", record(10)]
    newest, refused = Topic(values, trust()).latest()
    assert version(newest) == "default@100000"
    assert len(refused) == 1


def test_old_record_in_place_of_the_newest_is_refused_by_what_was_published_before() -> None:
    newest, refused = Topic([record(10)], trust()).latest(100_000)
    assert newest is None
    assert "default@10 is older than one that was published before" in refused[0]
    assert version(Topic([record(10), record(100_000)], trust()).latest(100_000)[0]) == "default@100000"


class Followed:
    """A follower of a topic in memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, values: list[bytes | None], floor: int = 0) -> None:
        self.topic = Topic(values, trust())
        self.used: list[str] = []
        self.told: list[str] = []
        self._changed = threading.Condition()
        monkeypatch.setattr(kafka_models, "ModelTopic", lambda *_, **__: self.topic)
        self.follower = ModelFollower(
            Settings(), name="default", swap=self._use, floor=lambda: floor, tell=self._tell
        )
        self.follower.start()
        assert self.follower.wait(60.0)

    def _use(self, published: PublishedModel) -> None:
        with self._changed:
            self.used.append(published.manifest.version)
            self._changed.notify_all()

    def _tell(self, trouble: str) -> None:
        with self._changed:
            self.told.append(trouble)
            self._changed.notify_all()

    def until(self, done: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(done, 60.0)


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> Iterable[Callable[..., Followed]]:
    made: list[Followed] = []

    def make(values: list[bytes | None], floor: int = 0) -> Followed:
        made.append(Followed(monkeypatch, values, floor))
        return made[-1]

    yield make
    for each in made:
        each.follower.stop()


def test_follower_outlives_every_hostile_record(followed: Callable[..., Followed]) -> None:
    one = followed([record(5)])
    for number, hostile in enumerate(HOSTILE.values()):
        one.topic.coming.put([hostile()])
        one.topic.coming.put([record(10 + number)])
    one.topic.coming.put(RuntimeError("of Kafka's client"))
    one.topic.coming.put([record(1000)])
    one.until(lambda: one.used[-1] == "default@1000")
    between = [f"default@{10 + number}" for number in range(len(HOSTILE))]
    assert one.used == ["default@5", *between, "default@1000"]
    assert one.follower.refused == len(HOSTILE)


def test_good_model_is_taken_though_an_old_copy_comes_behind_it(followed: Callable[..., Followed]) -> None:
    one = followed([record(5)])
    one.topic.coming.put([record(20), record(5), b"rubbish"])
    one.until(lambda: one.used[-1] == "default@20")


@pytest.mark.parametrize(
    ("values", "floor"), [([b"rubbish"], 0), ([record(10)], 100), ([], 100), ([record(10, key=ANOTHER)], 0)]
)
def test_scorer_that_finds_no_model_to_trust_says_so_until_it_has_one(
    followed: Callable[..., Followed], values: list[bytes | None], floor: int
) -> None:
    one = followed(values, floor)
    assert one.told
    assert all("no model can be trusted" in told for told in one.told)
    one.topic.coming.put([record(200)])
    one.until(lambda: one.told[-1] == "")
    assert one.used == ["default@200"]


def test_old_model_is_not_taken_in_place_of_one_that_is_missing(followed: Callable[..., Followed]) -> None:
    one = followed([b"rubbish"], 100)
    one.topic.coming.put([record(10)])
    one.topic.coming.put([record(200)])
    one.until(lambda: one.used == ["default@200"])


def test_scorer_of_a_new_installation_says_nothing(followed: Callable[..., Followed]) -> None:
    one = followed([])
    one.topic.coming.put([record(1)])
    one.until(lambda: bool(one.used))
    assert one.told == [""]
