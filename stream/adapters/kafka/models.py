"""Models on their compacted topic: published by the learner, followed by every score worker.

A model that cannot be trusted (forged, damaged, of a newer format) is refused before anything is built from
it, the last good one goes on, and the refusal is said loudly.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from models.scoring.snapshot import ALLOWED, SnapshotRefused, Verified, verified
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.isolation import isolation_level
from stream.config.factories import classes_of
from stream.config.settings import Settings
from stream.messages import ModelManifest, encode, manifest_decoder
from stream.ports import DependencyDown, Message, Outbox

logger = logging.getLogger(__name__)

MAX_INLINE = 5_000_000  # bytes: what Base64 leaves of the 8 MB that the topic is made for
_TAIL = 50  # records at the end of the topic that are read first


class PublishedModel(msgspec.Struct, frozen=True):
    """A model that was read, verified and built."""

    manifest: ModelManifest
    model: Any


def publish(outbox: Outbox, topic: str, manifest: ModelManifest, blob: bytes, blob_dir: str) -> None:
    """Publish a snapshot, durably: inline where a message can hold it, else as a file that all workers share.

    Raises:
        ValueError: it is too large for a message and there is no folder for it.
        OSError: the folder takes no more.
        DependencyDown: Kafka does not answer.
    """
    if len(blob) <= MAX_INLINE:
        manifest = msgspec.structs.replace(manifest, blob=blob)
    elif not blob_dir:
        raise ValueError(
            f"the model {manifest.version} has {len(blob)} bytes, too many for a message: set "
            "RIVERWATCH_MODEL_BLOB_DIR to a folder that all workers share"
        )
    else:
        path = Path(blob_dir) / f"{manifest.sha256}.model"
        part = path.with_suffix(".part")
        try:
            part.write_bytes(blob)
            part.replace(path)
        except OSError as error:
            with suppress(OSError):
                part.unlink()  # half a model takes room and is of no use
            raise OSError(error.errno, error.strerror, str(part)) from error  # a failed write names no file
        manifest = msgspec.structs.replace(manifest, location=str(path))
    outbox.send([Message(topic, manifest.name.encode(), encode(manifest))])


def opened(
    value: bytes, key: bytes, *, name: str, allowed: Collection[tuple[str, str]] = ALLOWED
) -> PublishedModel:
    """The model of a message.

    Args:
        value: of the message.
        key: that models are signed with.
        name: of the model: another's is not taken for it.
        allowed: the classes it may be made of.

    Raises:
        SnapshotRefused: it is not to be trusted.
    """
    manifest, snapshot = trusted(value, key, name=name)
    return PublishedModel(manifest, snapshot.model(allowed))


def trusted(value: bytes, key: bytes, *, name: str) -> tuple[ModelManifest, Verified]:
    """What a message says of its model, as the one who signed it said; the model is not built.

    Args:
        value: of the message.
        key: that models are signed with.
        name: of the model: another's is not taken for it.

    Raises:
        SnapshotRefused: it is not to be trusted.
    """
    try:
        manifest = manifest_decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SnapshotRefused(f"the message on the models topic is no manifest: {error}") from error
    if manifest.blob is not None:
        blob = manifest.blob
    else:
        try:
            blob = Path(manifest.location or "").read_bytes()
        except OSError as error:
            raise SnapshotRefused(
                f"model {manifest.version}: its file {manifest.location} cannot be read ({error.strerror}); "
                "is RIVERWATCH_MODEL_BLOB_DIR the same folder for all workers?"
            ) from error
    if hashlib.sha256(blob).hexdigest() != manifest.sha256:
        raise SnapshotRefused(f"model {manifest.version}: the snapshot is not the one its manifest names")
    snapshot = verified(blob, key=key)
    header = snapshot.header
    if header.name != name:
        raise SnapshotRefused(
            f"model {manifest.version}: the snapshot holds {header.name}, and these workers run {name} (the "
            "setting model): publish each model under its own name"
        )
    if (header.version, header.next_offset) != (manifest.version, manifest.next_offset):
        raise SnapshotRefused(
            f"the manifest says {manifest.version}, the signed snapshot {header.version}: it was changed"
        )
    return msgspec.structs.replace(manifest, blob=None), snapshot


class ModelTopic:
    """Reads one model's messages from the topic, without a group: every reader reads all of them."""

    def __init__(self, settings: Settings, *, name: str) -> None:
        self._settings = settings
        self._key = name.encode()
        self._topic = settings.topic("models")
        self._consumer = Consumer(
            confluent(
                settings,
                group_id="riverwatch-model-reader",  # never joined, never committed
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_wait_max_ms=100,
                enable_partition_eof=True,
                isolation_level=isolation_level(confluent(settings)),
                fetch_max_bytes=10_000_000,
            )
        )

    def latest(self) -> tuple[PublishedModel | None, list[str]]:
        """The newest model that can be trusted, and why newer ones were refused; `poll` goes on from there.

        Raises:
            DependencyDown: Kafka does not answer.
        """
        partition = TopicPartition(self._topic, 0)
        try:
            low, high = self._consumer.get_watermark_offsets(partition, timeout=10)
            for start in dict.fromkeys((max(low, high - _TAIL), low)):
                refused: list[str] = []
                values = [value for value in self._range(start, high) if value is not None]
                for value in reversed(values):
                    try:
                        return self.opened(value), refused
                    except SnapshotRefused as refusal:
                        refused.append(refusal.reason)
        except KafkaException as error:
            raise DependencyDown(
                f"Kafka ({self._settings.kafka_bootstrap}): {error.args[0].str()}"
            ) from error
        return None, refused

    def opened(self, value: bytes) -> PublishedModel:
        """The model of one of its messages.

        Raises:
            SnapshotRefused: it is not to be trusted.
        """
        settings = self._settings
        return opened(value, settings.signing_key(), name=self._key.decode(), allowed=classes_of(settings))

    def poll(self, timeout: float) -> list[bytes]:
        """New messages of the model, the latest last."""
        found: list[bytes] = []
        message = self._consumer.poll(timeout)
        while message is not None:
            value = message.value()
            if message.error() is None and message.key() == self._key and value is not None:
                found.append(value)
            message = self._consumer.poll(0)
        return found

    def close(self) -> None:
        """Let the connection go."""
        self._consumer.close()

    def _range(self, start: int, end: int) -> Iterator[bytes | None]:
        position = TopicPartition(self._topic, 0, start if start < end else OFFSET_BEGINNING)
        self._consumer.assign([position if end else TopicPartition(self._topic, 0, OFFSET_BEGINNING)])
        deadline = time.monotonic() + 30
        at = start
        while at < end:
            message = self._consumer.poll(0.5)
            if message is None:
                if time.monotonic() > deadline:
                    raise DependencyDown(f"Kafka ({self._settings.kafka_bootstrap}): no answer for 30 s")
            elif (error := message.error()) is not None:
                # Compaction and transactions may leave the last offsets without a record.
                if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its only name
                    return
                raise KafkaException(error)
            else:
                at = (message.offset() or 0) + 1
                if message.key() == self._key:
                    yield message.value()


class ModelFollower:
    """Follows a model in a thread of its own and calls `swap` with each one that can be trusted.

    Args:
        settings: addresses, credentials, the signing key.
        name: the model's name.
        swap: called in the follower's thread.
    """

    def __init__(self, settings: Settings, *, name: str, swap: Callable[[PublishedModel], None]) -> None:
        self._settings = settings
        self._name = name
        self._swap = swap
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)
        self.refused = 0

    def start(self) -> None:
        """Begin; `wait` tells when the topic was read to its end once."""
        self._thread.start()

    def wait(self, timeout: float) -> bool:
        """Whether the newest model is in use (or there is none yet), within `timeout` seconds."""
        return self._ready.wait(timeout)

    def stop(self) -> None:
        """End, and let the connection go."""
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        topic = ModelTopic(self._settings, name=self._name)
        try:
            while not self._stop.is_set() and not self._catch_up(topic):
                self._stop.wait(1.0)
            while not self._stop.is_set():
                for value in topic.poll(0.2)[-1:]:
                    self._take(topic, value)
        finally:
            topic.close()

    def _catch_up(self, topic: ModelTopic) -> bool:
        try:
            newest, refused = topic.latest()
        except DependencyDown as down:
            logger.warning("no model yet: %s", down)
            return False
        if refused:
            self.refused += len(refused) - 1  # said in one line: the newest is the one to see to
            older = f" (and {len(refused) - 1} older ones)" if len(refused) > 1 else ""
            self._refuse(refused[0] + older, goes_on=newest is not None)
        if newest is not None:
            self._use(newest)
        self._ready.set()
        return True

    def _take(self, topic: ModelTopic, value: bytes) -> None:
        try:
            self._use(topic.opened(value))
        except SnapshotRefused as refusal:
            self._refuse(refusal.reason)

    def _use(self, published: PublishedModel) -> None:
        try:
            self._swap(published)
        except Exception as error:  # noqa: BLE001 - other code made it; whatever it raises, scoring goes on
            what = f"{type(error).__name__}: {error}"
            self._refuse(f"model {published.manifest.version} cannot be used here ({what})")

    def _refuse(self, reason: str, *, goes_on: bool = True) -> None:
        self.refused += 1
        if goes_on:
            logger.error("MODEL REFUSED, the last good one goes on: %s", reason)
        else:
            logger.error("MODEL REFUSED, and there is none that is good: %s", reason)
