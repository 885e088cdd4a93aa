"""Labels become learned examples: in the order of their log, each at most once, the latest knowledge first.

    labels -> admit -> join the decision -> status -> learn -> (snapshot, publish, acknowledge)

The model is a function of the log of labels and of the decisions, and of nothing else: two learners that read
the same log hold the same bits. So a model is named by the offset it has learned up to, and a learner that
comes back goes on from its snapshot as if it had never been away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from models.features.compute import label_delta_of
from models.features.spec import FeatureSpec
from stream.admission import Limits, Rejected, admit_label
from stream.dead_letters import WAITED, dead_letter
from stream.decisions import split_recorded
from stream.messages import Label
from stream.ports import Clock, DecisionLog, EntityRef, LabelStore, LabelUpdate, Message, Outbox
from stream.records import Record
from stream.views import LearnedDecision, learned_decision

ASSUMED_GENUINE = "maturity"  # the source of a label that is assumed: nobody reported the transaction
NOTHING_KNOWN = 0.0  # when an assumed label became known: before anything that anybody may report
JOURNAL_KEPT = 100_000  # labels whose status is remembered behind the published model


class Learnable(Protocol):
    """A model that the learner can train, one example at a time."""

    def learn_one(self, x: dict[str, float], y: bool) -> None:
        """Learn one example: features as served, and whether it was fraud."""
        ...


class LearnCounts(NamedTuple):
    """How many labels of a batch were learned, and what became of the others."""

    labels: int
    learned: int
    frauds: int
    corrections: int
    duplicates: int
    superseded: int
    pending: int
    rejected: int


def is_sampled(transaction_id: str, rate: float) -> bool:
    """Whether a genuine transaction is among the share that is learned; always the same answer.

    Args:
        transaction_id: what the hash is taken of.
        rate: the share, 0 to 1.

    >>> sum(is_sampled(f"t{i}", 0.1) for i in range(10_000))
    994
    """
    digest = hashlib.blake2b(transaction_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < rate * 2.0**64


def pending_entry(record: Record) -> bytes:
    """What is kept of a pending label: where it stood, and its bytes."""
    return b"%d %b" % (record.offset, record.value or b"")


def waited(entry: bytes) -> tuple[int, bytes]:
    """The offset and the bytes of a label that waited.

    >>> waited(b'42 {"is_fraud":true}')
    (42, b'{"is_fraud":true}')
    """
    offset, _, value = entry.partition(b" ")
    return int(offset.partition(b":")[0]), value


def last_waited(entry: bytes) -> int:
    """The offset of the last label that waited for the same transaction (an older knowledge is not kept).

    >>> last_waited(b'42 {}'), last_waited(b'42:57 {}')
    (42, 57)
    """
    return int(entry.partition(b" ")[0].rpartition(b":")[2])


def waited_header(entry: bytes) -> tuple[str, bytes]:
    """What a label that leaves the pending labels says: up to which offset its transaction's labels waited.

    So the log alone tells which labels found no decision.

    >>> waited_header(b'42:57 {}')
    ('waited', b'57')
    """
    return WAITED, b"%d" % last_waited(entry)


def requeue(
    outbox: Outbox,
    labels: LabelStore,
    topic: str,
    entries: Sequence[tuple[str, bytes]],
    reached: Callable[[str], None] = lambda _point: None,
) -> None:
    """Put pending labels (transaction_id, entry) into the log again, then remove them from the pending."""
    outbox.send(
        [Message(topic, name.encode(), waited(entry)[1], (waited_header(entry),)) for name, entry in entries]
    )
    reached("called-in")
    labels.remove_pending(entries)


def requeue_pending(
    outbox: Outbox,
    labels: LabelStore,
    topic: str,
    names: Sequence[str],
    reached: Callable[[str], None] = lambda _point: None,
) -> int:
    """Requeue what is pending for these transactions, whose decisions can be found now; says how many."""
    found = zip(names, labels.pending(names), strict=True)
    pending = [(name, entry) for name, entry in found if entry is not None]
    if pending:
        requeue(outbox, labels, topic, pending, reached)
    return len(pending)


class Learner:
    """Learns batches of labels. One instance an installation at a time; called by one thread at a time.

    Args:
        model: at the state of `next_offset`.
        next_offset: the first label the model has not seen.
        decisions: features as served.
        labels: knowledge of transactions and entities.
        reached: called at the named points between the steps; tests crash there.
    """

    def __init__(
        self,
        *,
        model: Learnable,
        next_offset: int,
        learned: int = 0,
        knowledge_time: float | None = None,
        decisions: DecisionLog,
        labels: LabelStore,
        outbox: Outbox,
        clock: Clock,
        spec: FeatureSpec,
        negative_sampling_rate: float,
        labels_topic: str,
        dead_letters: str,
        limits: Limits,
        reached: Callable[[str], None] = lambda _point: None,
    ) -> None:
        self.model = model
        self.next_offset = next_offset
        self.published_offset = next_offset
        self.learned = learned
        self.knowledge_time = knowledge_time
        self._decisions = decisions
        self._labels = labels
        self._outbox = outbox
        self._clock = clock
        self._spec = spec
        self._negative_sampling_rate = negative_sampling_rate
        self._labels_topic = labels_topic
        self._dead_letters = dead_letters
        self._limits = limits
        self._reached = reached

    @property
    def event_time(self) -> datetime | None:
        """The time of the latest label that the model has learned; None before the first."""
        return None if self.knowledge_time is None else datetime.fromtimestamp(self.knowledge_time, UTC)

    def process(self, records: Sequence[Record]) -> LearnCounts:
        """Learn a batch. It may be acknowledged when a model of at least its `next_offset` is published.

        Raises:
            DependencyDown: try the same batch again: nothing was learned of it yet.
            LabelsBehind: the store lost its last moments: see `give_again`, then try the same batch again.
        """
        # What the snapshot holds is not learned again.
        records = [record for record in records if record.offset >= self.next_offset]
        admitted, rejected = self._admit(records)
        served = self._join([label for _, label in admitted])
        updates = [self._update_of(record, label, served) for record, label in admitted]
        # Not trimmed to the published model itself: where that one is refused (or a stale learner
        # publishes an older one over it), an older model learns the labels between them as they stood.
        learned_below = max(self.published_offset - JOURNAL_KEPT, 0)
        before = self.next_offset - 1
        statuses = self._labels.apply_labels(updates, learned=learned_below, passed=before)
        if records:
            self._labels.advance_labels(records[-1].offset, passed=before)
        self._reached("labels-applied")
        early = [update for update, status in zip(updates, statuses, strict=True) if status == "pending"]
        self._outbox.send(rejected)
        self._requeue(early)

        # From here on nothing can fail half-way: the model takes the whole batch, or none of it.
        learned = frauds = 0
        for update, status in zip(updates, statuses, strict=True):
            if status in ("new", "correction") and (known := served.get(update.transaction_id)):
                frauds += update.is_fraud
                wanted = update.is_fraud or is_sampled(update.transaction_id, self._negative_sampling_rate)
                if wanted and known.features is not None:
                    self.model.learn_one(known.features, update.is_fraud)
                    learned += 1
        self.learned += learned
        if admitted:
            latest = max(label.known_at.timestamp() for _, label in admitted)
            self.knowledge_time = max(latest, self.knowledge_time or latest)
        if records:
            self.next_offset = records[-1].offset + 1
        self._reached("learned")
        return LearnCounts(
            labels=len(records),
            learned=learned,
            frauds=frauds,
            corrections=statuses.count("correction"),
            duplicates=statuses.count("duplicate"),
            superseded=statuses.count("superseded"),
            pending=len(early),
            rejected=len(rejected),
        )

    def give_again(self, records: Sequence[Record]) -> None:
        """Give the store labels again that it lost; the model has learned them and learns nothing.

        Args:
            records: from the first label that the store does not hold on, below `next_offset`.

        Raises:
            DependencyDown, LabelsBehind: as `process`.
        """
        admitted, _ = self._admit(records)
        served = self._join([label for _, label in admitted])
        updates = [self._update_of(record, label, served) for record, label in admitted]
        before = records[0].offset - 1
        learned_below = max(self.published_offset - JOURNAL_KEPT, 0)
        statuses = self._labels.apply_labels(updates, learned=learned_below, passed=before)
        self._labels.advance_labels(records[-1].offset, passed=before)
        self._requeue([t for t, status in zip(updates, statuses, strict=True) if status == "pending"])

    def published(self) -> None:
        """A snapshot of the model as it is now was published and flushed."""
        self.published_offset = self.next_offset

    def _admit(self, records: Sequence[Record]) -> tuple[list[tuple[Record, Label]], list[Message]]:
        admitted: list[tuple[Record, Label]] = []
        rejected: list[Message] = []
        for record in records:
            match admit_label(record, self._limits):
                case Rejected() as why:
                    hide = self._limits.refuse_card_numbers
                    topic, now = self._dead_letters, self._clock()
                    rejected.append(dead_letter(record, why, topic, now, mask_card_numbers=hide))
                case label:
                    admitted.append((record, label))
        return admitted, rejected

    def _join(self, labels: Sequence[Label]) -> dict[str, LearnedDecision]:
        names = list({label.transaction_id: None for label in labels})
        found = zip(names, self._decisions.decisions(names), strict=True)
        return {name: learned_decision(split_recorded(raw)[0]) for name, raw in found if raw is not None}

    def _update_of(self, record: Record, label: Label, served: Mapping[str, LearnedDecision]) -> LabelUpdate:
        known = served.get(label.transaction_id)
        # An assumed label knows nothing: it counts where nobody reports, and overrules nobody, not even
        # whoever reported before the payment's own time (clocks differ).
        known_at = NOTHING_KNOWN if label.source == ASSUMED_GENUINE else label.known_at.timestamp()
        if known is None:
            return LabelUpdate(
                record.offset, label.transaction_id, label.is_fraud, known_at, None, (), pending_entry(record)
            )
        happened = known.event_time.timestamp()
        return LabelUpdate(
            record.offset,
            label.transaction_id,
            label.is_fraud,
            known_at,
            label_delta_of(label.transaction_id, happened, label.is_fraud, self._spec),
            tuple(EntityRef(kind, key, 0) for kind, (key, _, _) in known.entities.items()),
            pending_entry(record),
        )

    def _requeue(self, early: Sequence[LabelUpdate]) -> None:
        """Put labels whose decision came between the look-up and the pending labels into the log again.

        Later decisions find their label among the pending labels (see `maturity`); between the two none is
        missed.
        """
        if not early:
            return
        found = self._decisions.decisions([update.transaction_id for update in early])
        back = [update for update, raw in zip(early, found, strict=True) if raw is not None]
        if back:
            # A newer knowledge of the transaction that waits already is requeued first, for it leaves too.
            names = list(dict.fromkeys(update.transaction_id for update in back))
            pending = zip(names, self._labels.pending(names), strict=True)
            entries = [(name, entry) for name, entry in pending if entry is not None]
            entries += [own for update in back if (own := (update.transaction_id, update.raw)) not in entries]
            requeue(self._outbox, self._labels, self._labels_topic, entries, self._reached)
