"""Keeps the newest model on its topic: who may write there can write behind it, and compaction drops it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from models.scoring.snapshot import SnapshotRefused
from stream.adapters.kafka.signed_models import Trust, trusted
from stream.ports import DependencyDown, Message, Outbox

logger = logging.getLogger(__name__)

EVERY = 2.0  # seconds between two looks
TAIL = 50  # records before the end that the first look takes in


class ReadTopic(Protocol):
    """What a guard reads: `stream.adapters.kafka.models.ModelTopic`."""

    @property
    def trust(self) -> Trust:
        """What its models are measured by."""
        ...

    def since(self, start: int) -> tuple[int, list[bytes | None]]:
        """The end of the topic, and what came under the model's name since an offset (< 0: from the end)."""
        ...

    def close(self) -> None:
        """Let the connection go."""
        ...


class ModelGuard:
    """Publishes the learner's newest model again where another record was written behind it.

    Only the last record of a name is sure to survive compaction, so the newest model must be the last.

    Args:
        open_topic: gives the topic of models to read.
        outbox: of its own: it sends in a thread of its own.
        topic: of models.
        name: of the model.
    """

    def __init__(self, open_topic: Callable[[], ReadTopic], outbox: Outbox, topic: str, name: str) -> None:
        self._open_topic = open_topic
        self._outbox = outbox
        self._topic = topic
        self._name = name
        self._reader: ReadTopic | None = None
        self._newest: tuple[bytes, int] | None = None
        self._at = -TAIL
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.healed = 0

    def publish(self, send: Callable[[], bytes], next_offset: int) -> None:
        """Publish the newest model while nobody looks: from here on it is the one to keep.

        Args:
            send: publishes it, durably, and returns the message's value.
            next_offset: of the model.
        """
        with self._lock:
            self._newest = send(), next_offset

    def keep(self, value: bytes, next_offset: int) -> None:
        """Keep a model that was published before."""
        with self._lock:
            self._newest = value, next_offset

    def start(self) -> None:
        """Look now and then, until `stop`."""
        self.stop()
        self._stop.clear()
        self._at = -TAIL
        self._thread = threading.Thread(target=self._run, name="model guard", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """The model is another learner's to keep."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(30)
            self._thread = None
        with self._lock:
            self._newest = None

    def check(self) -> bool:
        """Look once; says whether the model was published again.

        Raises:
            DependencyDown: Kafka does not answer.
        """
        with self._lock:
            if self._newest is None:
                return False
            if self._reader is None:
                self._reader = self._open_topic()
            value, next_offset = self._newest
            end, found = self._reader.since(self._at)
            why = ""
            if found and found[-1] != value:
                why = self._why(found[-1], next_offset, self._reader.trust)
            if why:
                logger.error("MODEL OVERWRITTEN on %s, and published again: %s", self._topic, why)
                self._outbox.send([Message(self._topic, self._name.encode(), value)])
                self.healed += 1
            self._at = end
            return bool(why)

    def _why(self, last: bytes | None, next_offset: int, trust: Trust) -> str:
        """What is wrong with the last record; empty where it is a good model that has learned no less."""
        if last is None:
            return "it was deleted"
        try:
            manifest, _ = trusted(last, trust)
        except SnapshotRefused as refusal:
            return refusal.reason
        if manifest.next_offset < next_offset:
            return f"the last record is {manifest.version}, an older one"
        return ""

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            try:
                self.check()
            except DependencyDown as down:
                logger.warning("the topic of models is not looked at: %s", down)
            except Exception:  # whatever somebody wrote, the next look is taken
                logger.exception("looking at the topic of models failed, and goes on")
        if self._reader is not None:
            self._reader.close()
            self._reader = None
