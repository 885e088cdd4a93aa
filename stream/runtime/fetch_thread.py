"""aiokafka's thread: what is fetched, committed and closed in it, and the generation of what it holds.

docs/adr/0002-faust-in-batches.md lists the private names this stands on.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaConnectionError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream.records import Passed, passed_of
from stream.runtime.answers import Answers, Gap

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from stream.config.isolation import Isolation


class Fetch(NamedTuple):
    """What was fetched.

    Attributes:
        generation: it was fetched under.
        records: by partition, in the order of their offsets.
        gaps: of each partition, what Kafka's answer went over before the first of them.
    """

    generation: int
    records: Mapping[TP, list[Any]]
    gaps: Mapping[TP, Gap]


class Committed(NamedTuple):
    """How far a group is.

    Attributes:
        generation: of the assignment.
        offsets: what is committed of each of its partitions.
        starts: where reading starts on each.
        passed: offsets without a record before what is committed.
    """

    generation: int
    offsets: dict[TP, int | None]
    starts: dict[TP, int]
    passed: dict[TP, Passed]


FETCH_AT_MOST = 4096
"""Records taken from aiokafka's buffers in one go: it bounds how long the event loop is held."""


class Host(Protocol):
    """What the thread asks of the app that it belongs to.

    Attributes:
        fetch_max_wait_ms: how long the broker may hold a fetch that finds nothing new.
        isolation: how to read from these brokers.
    """

    fetch_max_wait_ms: int
    isolation: Callable[[], Isolation]

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
        self._answers = Answers()
        self.passed: dict[TP, Passed] = {}  # what is said with the next commit of each partition

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = self._host.fetch_max_wait_ms  # noqa: SLF001 - Faust hard-codes 1500
        consumer._isolation_level = self._host.isolation()  # noqa: SLF001 - Faust's goes by its own producer
        consumer.commit = partial(self._commit_with_passed, consumer.commit)  # Faust's own says nothing more
        return consumer

    async def _commit_with_passed(
        self, commit: Callable[[Any], Awaitable[None]], offsets: Mapping[Any, Any]
    ) -> None:
        passed = self.passed
        await commit(
            {
                tp: OffsetAndMetadata(
                    at if isinstance(at, int) else at.offset,
                    passed[TP(*tp)].text if TP(*tp) in passed else "",
                )
                for tp, at in offsets.items()
            }
        )

    async def on_start(self) -> None:
        """Connect, and keep trying: a broker that is not up yet is no reason to die."""
        while not self.should_stop:
            try:
                await super().on_start()
            except KafkaConnectionError:  # aiokafka has said so, and BrokerOutageFilter says it for people
                await self._consumer.stop()
                await asyncio.sleep(1.0)
            else:
                # Nothing is assigned before this, and so nothing is fetched.
                self._answers = self._consumer._fetcher._records = Answers()  # noqa: SLF001
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

    def coordinator_is_known(self) -> bool:
        """Whether the broker that coordinates the group was reachable when last spoken to."""
        consumer = self._consumer
        return consumer is not None and consumer._coordinator.coordinator_id is not None  # noqa: SLF001

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

    async def fetch(self, wanted: set[TP], wait: float) -> Fetch:
        """What was fetched of the `wanted` partitions."""
        return await self.call_thread(self._fetch, wanted, wait)  # type: ignore[no-any-return]

    async def _fetch(self, wanted: set[TP], wait: float) -> Fetch:
        records = await self._fetch_records(
            self._ensure_consumer(), wanted, timeout=wait, max_records=FETCH_AT_MOST
        )
        # aiokafka moved the positions just before it returned, and nothing was awaited since: this is the
        # generation of the records. Read before the fetch, it would be that of an assignment already gone
        # when a rebalance falls into the wait, and live records would be dropped behind a moved position.
        gaps = {tp: self._answers.taken(tp, found[0].offset) for tp, found in records.items()}
        return Fetch(self.generation, records, gaps)

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

    async def committed(self) -> Committed:
        """How far the group is on the partitions that are held."""
        return await self.call_thread(self._committed)  # type: ignore[no-any-return]

    async def _committed(self) -> Committed:
        generation = self.generation
        if not self.held:
            raise IllegalStateError("between two assignments")
        consumer = self._ensure_consumer()
        partitions = sorted(consumer.assignment())
        # `consumer.committed` keeps the metadata for itself.
        found = await consumer._coordinator.fetch_committed_offsets(partitions)  # noqa: SLF001
        said = {TP(*tp): found[tp] for tp in partitions if tp in found and found[tp].offset >= 0}
        fresh = [tp for tp in partitions if TP(*tp) not in said]
        starts = await consumer.beginning_offsets(fresh) if fresh else {}
        offsets = {TP(*tp): said[TP(*tp)].offset if TP(*tp) in said else None for tp in partitions}
        return Committed(
            generation,
            offsets,
            {tp: starts[tp] if at is None else at for tp, at in offsets.items()},
            {tp: passed_of(place.metadata) for tp, place in said.items()},
        )

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
