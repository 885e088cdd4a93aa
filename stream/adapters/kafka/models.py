"""The compacted topic of models, as it is read: by whoever opens the newest, and by every score worker.

A model that cannot be trusted (forged, damaged, older than one that was in use) is refused before anything is
built from it, the last good one goes on, and the refusal is said loudly.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from models.scoring.snapshot import SnapshotRefused
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.errors import failure
from stream.adapters.kafka.isolation import isolation_level
from stream.adapters.kafka.signed_models import PublishedModel, Trust, opened, publish, trusted
from stream.config.factories import classes_of
from stream.config.settings import Settings
from stream.config.signing_key import trusted_keys
from stream.ports import DependencyDown, DependencyRefused

__all__ = [
    "ModelFollower", "ModelTopic", "PublishedModel", "Trust", "installation_of", "opened", "publish",
    "trust_of", "trusted",
]  # fmt: skip

logger = logging.getLogger(__name__)

_TAIL = 50  # records at the end of the topic that are read first
_PATIENCE = 10  # seconds for Kafka to answer


def installation_of(settings: Settings) -> str:
    """What models of this installation are signed for: offsets of labels mean something there alone.

    Raises:
        DependencyDown: Kafka, whose id it is unless the settings name another, does not answer.
    """
    if settings.installation:
        return settings.installation
    consumer = Consumer(confluent(settings, group_id="riverwatch-model-reader"))
    try:
        found = consumer.list_topics(settings.topic("models"), timeout=_PATIENCE)
    except KafkaException as error:
        raise DependencyDown(f"Kafka ({settings.kafka_bootstrap}): {error.args[0].str()}") from error
    finally:
        consumer.close()
    return f"{found.cluster_id or ''}/{settings.topic_prefix}"


def trust_of(settings: Settings, *, name: str = "") -> Trust:
    """What models of these settings are measured by.

    Args:
        settings: name keys, folder and classes.
        name: of another model than they name.

    Raises:
        SettingsError: they name no key.
        DependencyDown: Kafka does not answer.
    """
    keys, classes = trusted_keys(settings), classes_of(settings)
    name = name or settings.model
    return Trust(keys, name, installation_of(settings), settings.model_blob_dir, classes)


class ModelTopic:
    """Reads one model's messages from the topic, without a group: every reader reads all of them."""

    def __init__(self, settings: Settings, *, name: str) -> None:
        self._settings = settings
        self._key = name.encode()
        self._trust: Trust | None = None
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

    @property
    def trust(self) -> Trust:
        """What its models are measured by.

        Raises:
            DependencyDown: Kafka does not answer.
        """
        if self._trust is None:
            self._trust = trust_of(self._settings, name=self._key.decode())
        return self._trust

    def latest(self, floor: int = 0) -> tuple[PublishedModel | None, list[str]]:
        """The model that has learned most of those to be trusted, and why others were refused.

        Where it stands on the topic does not matter: whoever may write can put an old one at the end. `poll`
        goes on from there.

        Args:
            floor: `next_offset` of a model that was published once, as something else than the topic says:
                what has learned less is refused.

        Raises:
            DependencyDown: Kafka does not answer.
        """
        partition = TopicPartition(self._topic, 0)
        try:
            low, high = self._consumer.get_watermark_offsets(partition, timeout=_PATIENCE)
            for start in dict.fromkeys((max(low, high - _TAIL), low)):
                newest, refused = self.best(self._range(start, high), floor)
                if newest is not None:
                    return newest, refused
        except KafkaException as error:
            raise failure(confluent(self._settings), error, about=f"topic {self._topic}") from error
        return None, refused

    def best(self, values: Iterable[bytes | None], floor: int) -> tuple[PublishedModel | None, list[str]]:
        """Of records in their order the one that has learned most; reasons of refusals, the latest first.

        Raises:
            DependencyDown: Kafka does not answer.
        """
        refused: list[str] = []
        found: list[tuple[int, int, bytes]] = []
        for place, value in enumerate(values):
            if value is None:
                continue
            try:
                manifest, _ = trusted(value, self.trust)
                check_floor(manifest.version, manifest.next_offset, floor)
            except SnapshotRefused as refusal:
                refused.insert(0, refusal.reason)
            else:
                found.append((manifest.next_offset, place, value))
        for _, _, value in sorted(found, key=lambda each: each[:2], reverse=True):
            try:
                return opened(value, self.trust), refused
            except SnapshotRefused as refusal:
                refused.append(refusal.reason)
        return None, refused

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

    def since(self, start: int) -> tuple[int, list[bytes | None]]:
        """What was written under the model's name from an offset to the end; a deletion is None.

        Args:
            start: an offset; below 0: so many records before the end.

        Returns:
            The offset of the end, and the values.

        Raises:
            DependencyDown: Kafka does not answer.
        """
        try:
            low, high = self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, 0), timeout=_PATIENCE
            )
            start = min(max(low, start if start >= 0 else high + start), high)
            return high, list(self._range(start, high)) if start < high else []
        except KafkaException as error:
            raise DependencyDown(
                f"Kafka ({self._settings.kafka_bootstrap}): {error.args[0].str()}"
            ) from error

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


def check_floor(version: str, next_offset: int, floor: int) -> None:
    """See that a model has not learned less than one that was published once.

    Raises:
        SnapshotRefused: somebody put an old one in its place.
    """
    if next_offset < floor:
        raise SnapshotRefused(
            f"model {version} is older than one that was published before (it had learned the labels below "
            f"{floor}): an old record was copied, or the newer one is gone; the learner publishes it again"
        )


def _no_floor() -> int:
    return 0


def _tell_nobody(_trouble: str) -> None:
    """Nobody asks."""


class ModelFollower:
    """Follows a model in a thread of its own and calls `swap` with each one that can be trusted.

    Args:
        settings: addresses, credentials, trusted keys.
        name: the model's name.
        swap: called in the follower's thread.
        floor: `next_offset` of the newest model that was published, as something else than the topic says.
        tell: called with why no model can be trusted, and with nothing once one can.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        name: str,
        swap: Callable[[PublishedModel], None],
        floor: Callable[[], int] = _no_floor,
        tell: Callable[[str], None] = _tell_nobody,
    ) -> None:
        self._settings = settings
        self._name = name
        self._swap = swap
        self._floor = floor
        self._tell = tell
        self._has_model = False
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._refusal: DependencyRefused | None = None
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)
        self.refused = 0

    def start(self) -> None:
        """Begin; `wait` tells when the topic was read to its end once."""
        self._thread.start()

    def wait(self, timeout: float) -> bool:
        """Whether the newest model is in use (or there is none yet), within `timeout` seconds.

        Raises:
            DependencyRefused: it will not be: Kafka refuses.
        """
        ready = self._ready.wait(timeout)
        if self._refusal is not None:
            raise self._refusal
        return ready

    def stop(self) -> None:
        """End, and let the connection go."""
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        topic = ModelTopic(self._settings, name=self._name)
        try:
            while not self._stop.is_set():
                try:
                    if self._ready.is_set():
                        self._follow(topic)
                    elif not self._catch_up(topic):
                        self._stop.wait(1.0)
                except Exception:  # whatever comes on the topic, or from Kafka, the next good model is taken
                    logger.exception("following models failed, and goes on")
                    self._stop.wait(1.0)
        finally:
            topic.close()

    def _catch_up(self, topic: ModelTopic) -> bool:
        try:
            floor = self._floor()
            newest, refused = topic.latest(floor)
        except DependencyDown as down:
            logger.warning("no model yet: %s", down)
            return False
        except DependencyRefused as refusal:  # said by the worker, which ends of it
            self._refusal = refusal
            return False
        self._refusal = None
        if refused:
            self.refused += len(refused) - 1  # said in one line: the newest is the one to see to
            older = f" (and {len(refused) - 1} others)" if len(refused) > 1 else ""
            self._refuse(refused[0] + older, goes_on=newest is not None)
        if newest is not None:
            self._use(newest)
        elif floor and not refused:
            self._refuse(
                f"models were published (the labels below {floor} were learned) and the topic holds none: "
                "they were deleted; the learner publishes again",
                goes_on=False,
            )
        self._ready.set()
        return True

    def _follow(self, topic: ModelTopic) -> None:
        """Of what came, the one that has learned most: what somebody wrote behind it does not hide it."""
        values = topic.poll(0.2)
        if not values:
            return
        newest, refused = topic.best(values, 0 if self._has_model else self._floor())
        for reason in dict.fromkeys(reversed(refused)):
            self._refuse(reason, goes_on=self._has_model or newest is not None)
        if newest is not None:
            self._use(newest)

    def _use(self, published: PublishedModel) -> None:
        try:
            self._swap(published)
        except Exception as error:  # noqa: BLE001 - other code made it; whatever it raises, scoring goes on
            what = f"{type(error).__name__}: {error}"
            self._refuse(
                f"model {published.manifest.version} cannot be used here ({what})", goes_on=self._has_model
            )
        else:
            self._has_model = True
            self._tell("")

    def _refuse(self, reason: str, *, goes_on: bool) -> None:
        self.refused += 1
        if goes_on:
            logger.error("MODEL REFUSED, the last good one goes on: %s", reason)
        else:
            logger.error("MODEL REFUSED, and there is none that is good: %s", reason)
            self._tell(f"no model can be trusted, and it scores without one: {reason}")
