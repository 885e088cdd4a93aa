"""A worker's look at its Redis: at the start, and every twenty seconds from then on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stream.adapters.redis.probe import check_protocol, check_rights, probe
from stream.adapters.redis.shards import place_of
from stream.config.settings import Settings
from stream.ports import DependencyDown, DependencyRefused

logger = logging.getLogger(__name__)

EVERY = 20.0  # seconds


class RedisWatch:
    """Refuses a Redis that loses what it is given, and says once what will soon fail.

    Args:
        settings: where it is, and what is accepted of it.
        client: of it.
    """

    def __init__(self, settings: Settings, client: Any) -> None:
        self._settings = settings
        self._client = client
        self._place = place_of(client)
        self._said: set[str] = set()

    def check(self) -> None:
        """Look once. A Redis that is away is waited for by whoever needs it.

        Raises:
            DependencyRefused: nothing may stand on it.
        """
        settings = self._settings
        try:
            found = probe(self._client, self._place, allow_eviction=settings.redis_allow_eviction)
            check_rights(self._client, self._place, settings.redis_prefix, settings.shards)
        except DependencyDown:
            check_protocol(settings.redis_url)
            return
        if found.losing:
            raise DependencyRefused("; ".join(finding.text for finding in found.losing))
        for finding in found.warnings:
            if finding.kind not in self._said:
                logger.warning("%s", finding.text)
        self._said = {finding.kind for finding in found.warnings}

    @contextmanager
    def watching(self, refuse: Callable[[str], None], *, every: float = EVERY) -> Iterator[None]:
        """Look again and again while the block lasts, in a thread of its own.

        Args:
            refuse: called once with the reason why nothing may stand on it any more.
            every: seconds between two looks, > 0.
        """
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(every):
                try:
                    self.check()
                except DependencyRefused as refused:
                    refuse(str(refused))
                    return

        thread = threading.Thread(target=look, name="redis-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(5)
