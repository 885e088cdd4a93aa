"""What nobody reports by the horizon is assumed genuine, and that is a label too; early labels are requeued.

The maturity agent reads every decision. For the hash-chosen share it remembers when each falls due, in event
time and by partition, and writes the label `genuine, source: maturity` once the partition's decisions have
come that far. So one log holds everything that is learned. It also finds labels that came before their
decision and puts them into the log again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from stream.admission import UNKNOWN_TRANSACTION, Rejected
from stream.dead_letters import dead_letter
from stream.learning import ASSUMED_GENUINE, is_sampled, requeue_pending, waited, waited_header
from stream.messages import Label, encode
from stream.ports import Clock, LabelStore, Message, Outbox
from stream.records import Record
from stream.views import timed_decision

DUE_LIMIT = 5000  # labels emitted in one go, so that a jump in event time stays a bounded batch


class DueQueue(Protocol):
    """What falls due when, by partition. Adding twice is adding once."""

    def add(self, partition: int, due: Sequence[tuple[float, str]]) -> None:
        """Remember (time in seconds, transaction_id)."""
        ...

    def due(self, partition: int, until: float, limit: int) -> list[tuple[float, str]]:
        """What falls due up to a time, the earliest first."""
        ...

    def done(self, partition: int, transaction_ids: Sequence[str]) -> None:
        """Forget what was emitted."""
        ...


class MaturityCounts(NamedTuple):
    """How many decisions were followed, and how many labels were emitted, requeued or expired for them."""

    decisions: int
    matured: int
    requeued: int
    expired: int


class Maturity:
    """Follows `scores` in batches.

    Args:
        horizon: seconds of event time after which a transaction is assumed genuine, > 0.
        label_wait: seconds of event time that a label may wait for its decision, > 0.
        negative_sampling_rate: the share of transactions that is learned as genuine.
        requeues: whether a decision that is seen here can be found by the learner; else whoever makes it so
            requeues its label.
    """

    def __init__(
        self,
        *,
        queue: DueQueue,
        labels: LabelStore,
        outbox: Outbox,
        clock: Clock,
        horizon: float,
        label_wait: float,
        negative_sampling_rate: float,
        labels_topic: str,
        dead_letters: str,
        requeues: bool = True,
        reached: Callable[[str], None] = lambda _point: None,
    ) -> None:
        self._queue = queue
        self._labels = labels
        self._outbox = outbox
        self._clock = clock
        self._horizon = horizon
        self._label_wait = label_wait
        self._negative_sampling_rate = negative_sampling_rate
        self._labels_topic = labels_topic
        self._dead_letters = dead_letters
        self._reached = reached
        self._requeues = requeues
        self._watermarks: dict[int, float] = {}

    def process(self, records: Sequence[Record]) -> MaturityCounts:
        """Follow a batch of decisions. Every step may be repeated: a label that comes twice is a duplicate.

        Raises:
            DependencyDown: try the same batch again.
        """
        seen = [(record.partition, timed_decision(record.value)) for record in records if record.value]
        names = [entry.transaction_id for _, entry in seen]
        requeued = self._requeue(names) if self._requeues else 0
        by_partition: dict[int, list[tuple[float, str]]] = {}
        watermarks: dict[int, float] = {}
        for partition, entry in seen:
            time = entry.event_time.timestamp()
            watermarks[partition] = max(time, watermarks.get(partition, time))
            if is_sampled(entry.transaction_id, self._negative_sampling_rate):
                by_partition.setdefault(partition, []).append((time + self._horizon, entry.transaction_id))
        for partition, due in by_partition.items():
            self._queue.add(partition, due)
        self._reached("queued")
        matured = sum(self._mature(partition, until) for partition, until in watermarks.items())
        return MaturityCounts(len(seen), matured, requeued, self._expire(watermarks))

    def _mature(self, partition: int, until: float) -> int:
        count = 0
        while due := self._queue.due(partition, until, DUE_LIMIT):
            self._outbox.send([self._assumed_genuine(time, name) for time, name in due])
            self._reached("matured")
            self._queue.done(partition, [name for _, name in due])
            count += len(due)
        return count

    def _assumed_genuine(self, due: float, name: str) -> Message:
        label = Label(
            transaction_id=name,
            is_fraud=False,
            known_at=datetime.fromtimestamp(due, UTC),
            source=ASSUMED_GENUINE,
        )
        return Message(self._labels_topic, name.encode(), encode(label))

    def _requeue(self, names: Sequence[str]) -> int:
        return requeue_pending(self._outbox, self._labels, self._labels_topic, names, self._reached)

    def _expire(self, watermarks: Mapping[int, float]) -> int:
        """Labels pending for too long become dead letters: by the slowest partition's event time."""
        if not watermarks:
            return 0
        for partition, time in watermarks.items():
            self._watermarks[partition] = max(time, self._watermarks.get(partition, time))
        lost = self._labels.expired(min(self._watermarks.values()) - self._label_wait, DUE_LIMIT)
        if lost:
            why = Rejected(UNKNOWN_TRANSACTION, "no decision on this transaction came while its label waited")
            self._outbox.send([self._expired_letter(name, entry, why) for name, entry in lost])
            self._reached("given-up")
            self._labels.remove_pending(lost)
        return len(lost)

    def _expired_letter(self, name: str, entry: bytes, why: Rejected) -> Message:
        offset, value = waited(entry)
        record = Record(self._labels_topic, 0, offset, 0, name.encode(), value)
        # It was admitted, so it shows no card number; and its key says whose label it was, to the byte.
        letter = dead_letter(record, why, self._dead_letters, self._clock(), mask_card_numbers=False)
        return letter._replace(headers=(*letter.headers, waited_header(entry)))
