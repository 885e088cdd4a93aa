"""aiokafka's thread: what is fetched, committed and closed in it, and the generation of what it holds.

docs/adr/0002-faust-in-batches.md lists the private names this stands on.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol, cast

from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaConnectionError, KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FETCH_AT_MOST = 4096
"""Records taken from aiokafka's buffers in one go: it bounds how long the event loop is held."""


class Host(Protocol):
    """What the thread asks of the app that it belongs to.

    Attributes:
        fetch_max_wait_ms: how long the broker may hold a fetch that finds nothing new.
    """

    fetch_max_wait_ms: int

    @property
    def conf(self) -> Any:
        """Faust's settings."""


class Listener(driver.ConsumerRebalanceListener):
    """Moves the generation inside the consumer's own thread, at the moment the assignment moves."""

    _thread: FetchThread

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> Any:
        """Nothing fetched so far is anybody's from here on."""
        self._thread.generation += 1
        self._thread.held = False
        return super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """What is fetched from here on belongs to this assignment."""
        self._thread.generation += 1
        self._thread.held = True
        await super().on_partitions_assigned(assigned)


def _without_kafka(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What asyncio says of errors that nobody waited for, those of Kafka's left out."""
    if not isinstance(context.get("exception"), KafkaError):
        loop.default_exception_handler(context)


class FetchThread(driver.AIOKafkaConsumerThread):
    """aiokafka's thread. What must not be torn apart by a rebalance happens in here without an await.

    `generation` counts revocations and assignments. It is not the broker's number: a static member that
    comes back gets the same number again although its positions were lost. `held` is False from a
    revocation to the next assignment, when aiokafka still names the old partitions.
    """

    _consumer: Any
    generation = 0
    held = False
    _committing: asyncio.Future[bool] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._host = cast("Host", self.app)
        self._abandoned = threading.Event()
        self._commit_began = 0.0

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = self._host.fetch_max_wait_ms  # noqa: SLF001 - Faust hard-codes 1500
        return consumer

    async def on_start(self) -> None:
        """Connect, and keep trying: a broker that is not up yet is no reason to die."""
        while not self.should_stop:
            try:
                await super().on_start()
            except KafkaConnectionError:  # aiokafka has said so, and BrokerOutageFilter says it for people
                await self._consumer.stop()
                await asyncio.sleep(1.0)
            else:
                return

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        if self._abandoned.is_set():
            return False
        self._commit_began = time.monotonic()
        self._committing = asyncio.ensure_future(super()._commit(offsets))
        try:
            return await self._committing
        except asyncio.CancelledError:
            if self._abandoned.is_set():
                return False
            raise

    def abandon_commits(self) -> None:
        """Commit nothing from now on, nor wait for the commit under way: without a broker it never ends."""
        self._abandoned.set()
        with contextlib.suppress(RuntimeError):  # the loop is closed: the thread has ended before
            self.thread_loop.call_soon_threadsafe(self._cancel_commit)

    def unanswered(self) -> float | None:
        """For how many seconds the commit under way has waited for Kafka; None where none is under way."""
        if self._committing is None or self._committing.done():
            return None
        return time.monotonic() - self._commit_began

    def _cancel_commit(self) -> None:
        # aiokafka goes on with its request, shielded from this, and nobody is left to hear how that fails.
        self.thread_loop.set_exception_handler(_without_kafka)
        if self._committing is not None:
            self._committing.cancel()

    async def on_thread_stop(self) -> None:
        """Leave the group and close, within half a session: a broker that is away answers no goodbye."""
        try:
            async with asyncio.timeout(self._host.conf.broker_session_timeout / 2):
                await super().on_thread_stop()
        except (TimeoutError, asyncio.CancelledError):
            # Without a broker aiokafka 0.14.0 lets the cancellation of its own pending fetches out: the
            # thread would die in it, and its end be waited for for a minute.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            if self._consumer is not None:
                await self._consumer._client.close()  # noqa: SLF001 - what its own stop had left to do

    async def fetch(self, wanted: set[TP], wait: float) -> tuple[int, Mapping[TP, list[Any]]]:
        """What was fetched of the `wanted` partitions, and the generation it was fetched under."""
        return await self.call_thread(self._fetch, wanted, wait)  # type: ignore[no-any-return]

    async def _fetch(self, wanted: set[TP], wait: float) -> tuple[int, Mapping[TP, list[Any]]]:
        records = await self._fetch_records(
            self._ensure_consumer(), wanted, timeout=wait, max_records=FETCH_AT_MOST
        )
        # aiokafka moved the positions just before it returned, and nothing was awaited since: this is the
        # generation of the records. Read before the fetch, it would be that of an assignment already gone
        # when a rebalance falls into the wait, and live records would be dropped behind a moved position.
        return self.generation, records

    async def know_topics(self) -> None:
        """Ask again for subscribed topics whose partitions are unknown.

        A broker that has just come up may not know its topics yet. A group that forms in that moment deals
        out nothing, and aiokafka would look again only after `metadata_max_age_ms`, five minutes: workers
        that seem well and do nothing. Whoever leads the group deals again when the answer differs.
        """
        await self.call_thread(self._know_topics)

    async def _know_topics(self) -> None:
        client = self._ensure_consumer()._client  # noqa: SLF001 - aiokafka has no other way to ask
        if any(client.cluster.partitions_for_topic(topic) is None for topic in client._topics):  # noqa: SLF001
            await client.force_metadata_update()

    async def committed(self) -> tuple[int, dict[TP, int | None], dict[TP, int]]:
        """The generation, the committed offsets of its partitions, and where reading starts on each."""
        return await self.call_thread(self._committed)  # type: ignore[no-any-return]

    async def _committed(self) -> tuple[int, dict[TP, int | None], dict[TP, int]]:
        generation = self.generation
        if not self.held:
            raise IllegalStateError("between two assignments")
        consumer = self._ensure_consumer()
        partitions = sorted(consumer.assignment())
        offsets = dict(
            zip(partitions, await asyncio.gather(*map(consumer.committed, partitions)), strict=True)
        )
        fresh = [tp for tp, offset in offsets.items() if offset is None]
        starts = await consumer.beginning_offsets(fresh) if fresh else {}
        committed = {TP(*tp): offset for tp, offset in offsets.items()}
        return generation, committed, {tp: starts[tp] if at is None else at for tp, at in committed.items()}

    async def seek_to(self, generation: int, offsets: Mapping[TP, int], lowered: Mapping[TP, int]) -> bool:
        """Move the positions, unless the assignment has moved on. False when it has.

        Args:
            generation: of the assignment the offsets are for.
            offsets: where to read on.
            lowered: of them, those below what is committed. They are committed first: a worker that ends
                while it catches up must not be followed by one that begins where the first had been.
        """
        moved: bool = await self.call_thread(self._seek_to, generation, offsets, lowered)
        return moved

    async def _seek_to(self, generation: int, offsets: Mapping[TP, int], lowered: Mapping[TP, int]) -> bool:
        if generation != self.generation:
            return False
        consumer = self._ensure_consumer()
        if lowered:
            try:
                await consumer.commit({driver.ensure_aiokafka_TP(tp): at for tp, at in lowered.items()})
            except (CommitFailedError, IllegalStateError):
                return False
            if generation != self.generation:
                return False
        for tp, offset in offsets.items():
            consumer.seek(driver.ensure_aiokafka_TP(tp), offset)
        return True
