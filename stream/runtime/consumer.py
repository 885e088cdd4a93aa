"""The consumer behind the batch stream: whole runs of records handed over, end offsets acknowledged.

Faust tracks every message it hands over. This consumer tracks partitions instead, by their `Positions`. One
coroutine, `_drain_messages`, owns what is read next: it alone seeks, fetches and hands over.

docs/adr/0002-faust-in-batches.md lists the private names this stands on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Protocol, cast

from aiokafka.errors import (
    ConsumerStoppedError,
    GroupAuthorizationFailedError,
    IllegalStateError,
    TopicAuthorizationFailedError,
)
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream.runtime.fetch_thread import FetchThread, Host, Listener
from stream.runtime.handler import TopicPartition
from stream.runtime.positions import Positions, Run, lower

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from stream.runtime.answers import Gap
    from stream.runtime.fetch_thread import Fetch
    from stream.runtime.retry_log import WaitLog

log = logging.getLogger(__name__)

ANSWERS_WITHIN = 5.0
"""Seconds that a commit may take without a word about it."""

NOBODY = -1
"""The generation of no assignment: nothing is handed over, nothing can be acknowledged."""


_LACKS_RIGHT = (
    "Kafka ({bootstrap}) refuses READ of a topic or its group ({error}) to this worker; grant it with "
    "`kafka-acls --add`"
)


class ConsumerHost(Host, Protocol):
    """What the consumer asks of the app that it belongs to.

    Attributes:
        bootstrap: where Kafka is, for people.
        records_ahead: the most records on the channel of each topic.
        on_committed: called when acknowledgements stand in Kafka.
    """

    bootstrap: str
    records_ahead: dict[str, int]
    on_committed: Callable[[], None]

    @property
    def should_stop(self) -> bool:
        """The app is stopping."""

    def refuse(self, reason: str) -> None:
        """End, because something refuses that a person must mend."""

    def channel_of(self, topic: str) -> Any:
        """The channel of the agent that reads a topic."""

    async def ask_on_assigned(
        self, held: frozenset[TopicPartition], gone: Callable[[], bool]
    ) -> dict[TopicPartition, int] | None:
        """Where to start below the committed offsets; None when the partitions went before it was known."""

    async def tell_on_revoked(self, held: frozenset[TopicPartition]) -> None:
        """The partitions are finished with, and what was done of them is committed."""


def _say_gone(tp: TP, first: int, last: int) -> None:
    log.warning(
        "%s[%s] no longer holds the offsets %s to %s, and they were not read: retention took them",
        tp.topic,
        tp.partition,
        first,
        last,
    )


class BatchConsumer(driver.Consumer):
    """Hands each partition's fetched list to the agent's channel as one `Run`; commits end offsets.

    Attributes:
        current: the generation whose runs may be handed over and acknowledged.
        letting_go: set from a revocation or a shutdown until partitions are held again.
        stale_dropped: records dropped because they were fetched under another generation.
        gaps_known: gaps in the offsets that an answer of Kafka went over.
        gaps_believed: others, that were there again when read again.
    """

    RebalanceListener = Listener
    _thread: FetchThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._host = cast("ConsumerHost", self.app)
        self.current = NOBODY
        self.letting_go = asyncio.Event()
        self.stale_dropped = 0
        self.gaps_known = self.gaps_believed = self._in_hand = 0
        self._changed = asyncio.Event()  # flow or room: the drain has a reason to look again
        self._idle = asyncio.Event()
        self._idle.set()
        self.positions = Positions({})
        self._reread: dict[TP, int] = {}  # offsets at which a gap is being read again
        self._queued: defaultdict[str, int] = defaultdict(int)  # records on the channels, a topic

    def _new_consumer_thread(self) -> FetchThread:
        return FetchThread(self, loop=self.loop, beacon=self.beacon)

    # Fetching

    async def perform_seek(self) -> None:
        """Nothing: the drain alone moves the positions, or a fetch of its own could come between."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: it judges by per-message sensors, which have nothing to tell here."""

    def resume_flow(self) -> None:
        """Go on, with whatever partitions are assigned now."""
        super().resume_flow()
        self._changed.set()

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                self._changed.clear()
                if not (self.flow_active and self._thread.held):
                    await self._changed.wait()
                elif self.current != self._thread.generation:
                    if not await self._take_positions():
                        await self.sleep(0.01)
                elif wanted := self._wanted():
                    # A topic that is full is looked at again soon: its handler must not run dry.
                    wait = 1.0 if len(wanted) == len(self.positions.next) else 0.02
                    await self._hand_over(await self._thread.fetch(wanted, wait))
                else:
                    await self._changed.wait()
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self._host.should_stop:
                raise
        except (GroupAuthorizationFailedError, TopicAuthorizationFailedError) as error:
            self._host.refuse(_LACKS_RIGHT.format(bootstrap=self._host.bootstrap, error=error))

    def _wanted(self) -> set[TP]:
        return {
            tp for tp in self.positions.next if self._queued[tp.topic] < self._host.records_ahead[tp.topic]
        }

    async def _take_positions(self) -> bool:
        """Seek every assigned partition to where it starts, and open the generation. False: try again."""
        try:
            generation, committed, offsets, passed = await self._thread.committed()
        except IllegalStateError:  # a partition left in the middle of the question
            return False
        rewind = await self._host.ask_on_assigned(
            frozenset(TopicPartition(*tp) for tp in offsets), lambda: self._thread.generation != generation
        )
        if rewind is None:
            return False
        lowered = {TP(*tp): offset for tp, offset in rewind.items()}
        lower(offsets, lowered)
        self._thread.passed = dict(passed)
        if not await self._thread.seek_to(generation, offsets, lowered):
            return False
        self.positions = Positions(offsets, passed)
        self._committed_offset.update(committed)
        self._reread.clear()
        self._queued.clear()
        self.letting_go.clear()
        self.current = generation
        return True

    async def _hand_over(self, fetch: Fetch) -> None:
        generation, fetched, gaps = fetch
        seeks: dict[TP, int] = {}
        if generation != self.current or not self.flow_active:
            # A moved assignment seeks every partition anew; where it has not moved, these are still owed.
            self.stale_dropped += sum(map(len, fetched.values()))
            wanted = self.positions.next
            seeks = {TP(*tp): wanted[TP(*tp)] for tp in fetched if TP(*tp) in wanted}
        else:
            for tp, records in fetched.items():
                self._hand_over_run(TP(*tp), records, gaps[tp], seeks)
        if seeks:
            await self._thread.seek_to(self.current, seeks, {})

    def _hand_over_run(self, tp: TP, records: list[Any], gap: Gap, seeks: dict[TP, int]) -> None:
        expected = self.positions.next[tp]
        if records[0].offset < expected:
            records = [record for record in records if record.offset >= expected]
            if not records:
                return
        found, lost = records[0].offset, 0
        if gap == (expected, found) != (expected, expected):
            self.gaps_known += 1  # Kafka's own answer goes over it: a marker, what was aborted or compacted
        elif found > expected:
            if self._reread.get(tp) != expected:
                self._reread[tp] = seeks[tp] = expected
                return
            self.gaps_believed, lost = self.gaps_believed + 1, found - expected
            _say_gone(tp, expected, found - 1)
        run = Run(self.current, tp, expected, records, lost)
        self.positions.next[tp] = run.end
        self._queued[tp.topic] += len(records)
        self._host.channel_of(tp.topic).queue.force_put_nowait(run)

    def coordinator_is_known(self) -> bool:
        """Whether the broker that coordinates the group was reachable when last spoken to."""
        return self._thread.coordinator_is_known()

    def say_unanswered(self, wait: WaitLog) -> None:
        """Say of a broker that is there and silent what nobody else does: its commits are not answered."""
        lasts = self._thread.unanswered()
        if lasts is None:
            wait.over()
        elif lasts > ANSWERS_WITHIN and self.coordinator_is_known():
            wait.tried(
                f"Kafka at {self._host.bootstrap} answers no commit: what is done is not acknowledged; "
                "trying until it does"
            )

    async def know_topics(self) -> None:
        """Once the group was joined, see to it that every topic's partitions are known."""
        if self.coordinator_is_known() and not self._thread.should_stop:
            await self._thread.know_topics()

    # Handing over and taking back: called by the stream, in the event loop

    def took(self, run: Run) -> bool:
        """The stream took a run off its channel. False when it must not be handed on."""
        if run.generation != self.current or self.letting_go.is_set():
            return False
        self._queued[run.tp.topic] -= len(run.records)
        self._changed.set()
        return True

    def may_hand(self, run: Run) -> bool:
        """Whether the generation of a run that was kept back is still open."""
        return run.generation == self.current and not self.letting_go.is_set()

    def pick_up(self, runs: Iterable[Run]) -> None:
        """A batch is in a handler's hand."""
        self._in_hand += 1
        self._idle.clear()
        self.positions.taken.update({run.tp: run.end for run in runs})

    def put_down(self) -> None:
        """It is out of the hand, whatever became of it."""
        self._in_hand -= 1
        if not self._in_hand:
            self._idle.set()

    def acknowledge(self, runs: Iterable[Run]) -> None:
        """Everything up to the end of each run was handled.

        Runs of a generation that is gone are ignored: whoever holds the partition reads them again.

        Raises:
            SkippedRecordsError: when a run does not begin where the last acknowledgement ended.
        """
        for run in runs:
            if run.generation == self.current:
                self.positions.acknowledge(run)

    # Committing

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        acknowledged = list(self.positions.dirty)
        return (tp for tp in acknowledged if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        self.positions.dirty.discard(tp)
        if tp in self.positions.passed:
            self._thread.passed[tp] = self.positions.passed[tp]
        return self.positions.handled.get(tp)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        done: bool = await super()._commit(offsets)
        if done:
            self.positions.committed.update(offsets)
            self._host.on_committed()
        return done

    async def leave(self, patience: float) -> bool:
        """Let go for good, within twice `patience` seconds: no commit is under way when it returns.

        Returns:
            Whether Kafka answered to the end, as far as it was asked.
        """
        try:
            async with asyncio.timeout(2 * patience):
                await self.let_go(patience)
                await self.maybe_wait_for_commit_to_finish()
        except TimeoutError:  # what that means is said from what is left over
            self.letting_go.set()
        answered = self.coordinator_is_known() and self._thread.unanswered() is None
        self._thread.abandon_commits()
        return answered

    async def let_go(self, patience: float) -> None:
        """Hand over nothing more, let the batch in hand finish within `patience` seconds, commit, close."""
        self.letting_go.set()
        self.stop_flow()
        try:
            await asyncio.wait_for(self._idle.wait(), patience)
        except TimeoutError:
            log.warning("The batch in hand was not done within %.1f s: it will be handled again", patience)
        while self.positions.dirty and not self._thread.should_stop:
            await self.commit()  # does nothing while another commit is under way: hence again
        held = frozenset(TopicPartition(*tp) for tp in self.positions.next)
        self.current = NOBODY
        self.positions.next = {}
        if held:
            await self._tell_on_revoked(held, patience)

    async def _tell_on_revoked(self, held: frozenset[TopicPartition], patience: float) -> None:
        telling = asyncio.ensure_future(self._host.tell_on_revoked(held))
        try:
            await asyncio.wait_for(asyncio.shield(telling), patience)  # it may queue behind a slow handler
        except TimeoutError:
            log.warning("on_revoked was not done within %.1f s: the partitions go without it", patience)
        except Exception as error:  # noqa: BLE001 - whatever it is, aiokafka would only log it
            await self.crash(error)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish and commit before the partitions go: Faust would do neither."""
        await self.let_go(self._host.conf.broker_session_timeout / 2)
        await super().on_partitions_revoked(revoked)
