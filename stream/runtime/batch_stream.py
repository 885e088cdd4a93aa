"""A Faust stream that is read in batches: what is queued, acknowledged when the body comes back for more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import faust

from stream.records import Record, header_pairs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stream.runtime.consumer import BatchConsumer
    from stream.runtime.positions import Run


class Batch:
    """Records of one topic from one or several partitions, in offset order within each.

    Attributes:
        runs: the records by partition, as the consumer handed them over.
        given_up: set by the body that could not handle it: it will not be acknowledged.
    """

    __slots__ = ("given_up", "runs")

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        self.given_up = False

    @property
    def records(self) -> list[Record]:
        """The records as the core knows them."""
        return [
            Record(*run.tp, raw.offset, raw.timestamp, raw.key, raw.value, header_pairs(raw.headers))
            for run in self.runs
            for raw in run.records
        ]


class BatchStream(faust.Stream[Any]):
    """A Faust stream that is read in batches."""

    app: Any
    channel: Any

    async def batches(self, max_records: int, min_interval: float = 0.0) -> AsyncIterator[Batch]:
        """Yield what is queued, at most `max_records` at a time, and wait only when nothing is.

        With a `min_interval` the next batch begins so many seconds after the last one began, at the earliest.

        A batch is acknowledged when the body comes back for the next one. When it raises or leaves,
        nothing of the batch is.

        Raises:
            SkippedRecordsError: when acknowledging would pass over records that were never handed over.
        """
        started_here = await self.maybe_start()
        consumer: BatchConsumer = self.app.consumer
        queue = self.channel.queue
        kept: Run | None = None
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        try:
            while not self.should_stop:
                if (pause := next_at - loop.time()) > 0:
                    await self.sleep(pause)
                runs: list[Run] = []
                room = max_records
                while room and (kept is not None or not runs or not queue.empty()):
                    if kept is None:
                        run = await queue.get()
                        usable = consumer.took(run)
                    else:
                        run, kept = kept, None
                        usable = consumer.may_hand(run)
                    if usable:
                        run, kept = run.split(room)
                        runs.append(run)
                        room -= len(run.records)
                batch = Batch(runs)
                next_at = loop.time() + min_interval
                consumer.pick_up(runs)
                try:
                    yield batch
                    if not batch.given_up:
                        consumer.acknowledge(runs)
                finally:
                    consumer.put_down()
        except StopAsyncIteration:  # how a channel says that it is stopped
            return
        finally:
            if started_here:
                await self.stop()
