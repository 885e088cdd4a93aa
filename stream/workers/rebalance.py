"""What a score worker does at a rebalance: where it starts in the partitions that are assigned to it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from stream.adapters.kafka.admin import committed
from stream.config.settings import Settings
from stream.ports import FeatureStore
from stream.records import Epochs
from stream.runtime.handler import Retry
from stream.workers.log_watch import LogWatch

logger = logging.getLogger(__name__)


def where_to_start(
    settings: Settings, watch: LogWatch, store: FeatureStore, partitions: Sequence[int]
) -> tuple[Epochs, dict[int, int], dict[int, int]]:
    """The log's epochs, what is acknowledged, and where to go back to.

    Raises:
        OtherLog: the log is not the one that was worked on.
        Retry, DependencyDown: it cannot be told, or a person has to rebuild Redis.
    """
    epochs = watch.check()["transactions"].history()
    topic = settings.topic("transactions")
    done = committed(settings, settings.group("score"), topic, partitions)
    progress = store.progress(partitions)
    worked_to = {number: max(at, progress[number] + 1) for number, at in done.items()}
    watch.check_tail("transactions", worked_to)
    return epochs, done, _behind(topic, done, progress)


def _behind(topic: str, done: Mapping[int, int], progress: Mapping[int, int]) -> dict[int, int]:
    """Where Redis holds less than what was acknowledged (it lost its last moments): start there again.

    Raises:
        Retry: it holds nothing at all of a partition that was worked on; a person has to rebuild it.
    """
    back: dict[int, int] = {}
    for partition, acknowledged in done.items():
        start = progress[partition] + 1
        if acknowledged <= start:
            continue
        if start == 0:
            raise Retry(
                f"Redis holds nothing of {topic}[{partition}], acknowledged to {acknowledged}: is "
                "RIVERWATCH_REDIS_URL the right one? If its data is lost, run `riverwatch rebuild`"
            )
        logger.warning(
            "Redis is behind: %s[%d] was acknowledged to %d and is applied to %d; going back there",
            topic,
            partition,
            acknowledged,
            start,
        )
        back[partition] = start
    if back:
        logger.warning(
            "Redis lost its last moments, and what partitions share may now be in another order: run "
            "`riverwatch verify`, and `riverwatch rebuild` where it finds something; where workers wait for "
            "a replica (RIVERWATCH_REDIS_REPLICAS=1) nothing is lost"
        )
    return back


def tell_what_is_scored(settings: Settings, partitions: Sequence[int], version: str) -> None:
    """Log which partitions were assigned and the model that scores them, and partitions that were added."""
    topic = settings.topic("transactions")
    numbers = ", ".join(map(str, partitions)) or "none"
    logger.info("scoring %s, partitions %s with model %s", topic, numbers, version)
    if partitions and partitions[-1] >= settings.partitions:
        logger.warning(
            "%s has %d partitions or more now, and this worker was started with %d: it scores them, and "
            "whatever starts from now on needs RIVERWATCH_PARTITIONS set to their number",
            topic,
            partitions[-1] + 1,
            settings.partitions,
        )
