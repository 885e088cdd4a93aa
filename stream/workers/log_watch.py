"""Whether the logs are those that were worked on: asked when partitions are assigned, and by time after that.

A topic that was deleted and made anew has the same name, and offsets that begin again; so has, from some
offset on, one whose leader lost its tail. Progress says nothing about either: nothing more of them is read
until a person has said that they are to be worked on (`riverwatch adopt`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from confluent_kafka.admin import AdminClient
from msgspec import structs

from stream.adapters.kafka.admin import beyond_end, committed, how_to_go_on, is_another, topic_ids
from stream.adapters.kafka.client import confluent
from stream.adapters.redis.logs import LogIdentity, RedisLogs
from stream.config.settings import Settings
from stream.ports import DependencyDown, OtherLog

logger = logging.getLogger(__name__)

READ = ("transactions", "labels", "scores", "dead-letters")

EVERY = 10.0  # seconds from one look to the next: what is made anew is noticed within 30

OTHER_ID = (
    "topic {topic} is not the one that was worked on (its id was {before} and is {now}): it was deleted and "
    "made anew. Nothing is read from it: {way}"
)
TAIL_LOST = (
    "{topic}[{partition}] ends at {end} and was worked on to {at}: it lost its tail (an unclean leader "
    "election, or a broker restored from an older disk). Nothing is read from it: {way}"
)


class LogWatch:
    """Compares the topics that a worker reads with those noted in Redis.

    Args:
        settings: addresses and names.
        logs: what is noted.
        names: of the topics, without prefix.
        every: seconds between two looks, > 0.
    """

    def __init__(
        self, settings: Settings, logs: RedisLogs, names: Sequence[str], *, every: float = EVERY
    ) -> None:
        self._settings = settings
        self._logs = logs
        self._topics = {settings.topic(name): name for name in names}
        self._every = every
        self._admin: AdminClient | None = None
        self._without_id: set[str] = set()
        self._ended: Callable[[str], object] = lambda _why: None
        self._look: Callable[[], object] = self.check
        self._is_read = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-watch", daemon=True)

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._stop.set()
        self._thread.join(2)

    def tell(self, ended: Callable[[str], object]) -> None:
        """Whom to tell, in the watch's thread, that a log is another one while it is read."""
        self._is_read.clear()
        self._ended = ended

    def is_read(self, look: Callable[[], object]) -> None:
        """The logs were checked and are read now.

        Args:
            look: at them, from here on, in the watch's thread; it raises as `check` and `check_tail`.
        """
        self._look = look
        self._is_read.set()

    def check(self) -> dict[str, LogIdentity]:
        """What is noted of each log; what was not noted yet is noted.

        Raises:
            OtherLog: a topic has another id than the one that was worked on.
            DependencyDown: Kafka or Redis does not answer.
        """
        if self._admin is None:
            self._admin = AdminClient(confluent(self._settings))
        ids = topic_ids(self._admin, self._topics)
        known = self._logs.known(self._topics.values())
        for topic, topic_id in ids.items():
            name = self._topics[topic]
            if not topic_id:
                self._say_without_id(topic)
            before = known.get(name)
            if before is None:
                known[name] = before = self._logs.note(name, topic_id)
            elif topic_id and not before.topic_id:  # the broker has come to give ids
                known[name] = before = structs.replace(before, topic_id=topic_id)
                self._logs.replace(name, before)
            if is_another(before.topic_id, topic_id):
                raise OtherLog(
                    OTHER_ID.format(topic=topic, way=how_to_go_on(name), before=before.topic_id, now=topic_id)
                )
        return known

    def check_tail(self, name: str, worked_to: Mapping[int, int]) -> None:
        """Whether a log still holds what was worked on, up to these offsets.

        Raises:
            OtherLog: a partition ends before.
            DependencyDown: Kafka does not answer.
        """
        topic = self._settings.topic(name)
        for partition, end in beyond_end(self._settings, topic, worked_to).items():
            at = worked_to[partition]
            raise OtherLog(
                TAIL_LOST.format(topic=topic, partition=partition, end=end, at=at, way=how_to_go_on(name))
            )

    def _say_without_id(self, topic: str) -> None:
        if topic not in self._without_id:
            self._without_id.add(topic)
            logger.warning(
                "this broker gives topic %s no id (Kafka: from 2.8 on): whether it was made anew is unknown",
                topic,
            )

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            if not self._is_read.is_set():
                continue
            try:
                self._look()
            except OtherLog as other:
                self._is_read.clear()  # told once: whoever wants to read it next says so itself
                self._ended(str(other))
            except DependencyDown:  # said by the worker itself, which needs them more than this does
                continue


def check_logs(settings: Settings, watch: LogWatch, role: str, held: Iterable[tuple[str, int]]) -> None:
    """Whether the logs of the partitions that a worker holds are those that its group worked on.

    Raises:
        OtherLog, DependencyDown: as `LogWatch.check` and `check_tail`.
    """
    watch.check()
    names = {settings.topic(name): name for name in READ}
    partitions: dict[str, list[int]] = {}
    for topic, partition in held:
        partitions.setdefault(topic, []).append(partition)
    for topic, numbers in partitions.items():
        watch.check_tail(names[topic], committed(settings, settings.group(role), topic, numbers))
