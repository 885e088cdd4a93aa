"""The page to read first: a batch of payment events arrives, one decision on each leaves.

    records -> admit -> look up -> read and update profiles -> score -> record -> emit -> (acknowledge)

The order is the guarantee. Every step may be the last before a crash; the next run starts again at the last
acknowledged offset, finds what is done by the applied offset (profiles) and by the transaction's id
(decisions), and does the rest. Nothing here talks to Kafka or Redis: the ports do, and the same page runs in
a worker, in a replay and in a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from msgspec import UNSET

from models.features.compute import entities_of, event_of, features_of
from models.features.payment import Categories
from models.features.profiles import ProfileSnapshot
from models.features.reasons import feature_reason
from models.features.spec import FeatureSpec
from stream.admission import ID_CONFLICT, Limits, Rejected, admit_transaction
from stream.dead_letters import dead_letter
from stream.decisions import (
    Arrival,
    Recorded,
    check_known,
    conflict_text,
    content_digest,
    decided_elsewhere,
    pack,
    recent_activity,
    sort_out,
    split_conflicts,
    unpack,
)
from stream.messages import Decision, Reason
from stream.policy import Policy, Thresholds, decide
from stream.ports import Clock, EntityRef, EventUpdate, FeatureStore, Message, Outbox
from stream.records import Epochs, Record

MAX_REASONS = 5
REDELIVERED = (("redelivered", b"1"),)


class Scorer(Protocol):
    """A model as the pipeline sees it; a batch sees one model from its first event to its last."""

    @property
    def version(self) -> str:
        """The version that every decision of this model names."""
        ...

    @property
    def thresholds(self) -> Thresholds:
        """Score thresholds for review and decline, computed from this model's scores."""
        ...

    def score(self, features: dict[str, float]) -> tuple[float, Sequence[tuple[str, float]]]:
        """The probability of fraud, and contributions by feature, strongest first."""
        ...


class DecisionTopics(NamedTuple):
    """The topics that a decision is written to."""

    scores: str
    alerts: str
    dead_letters: str


class BatchCounts(NamedTuple):
    """What became of a batch: `events = decided + duplicates + rejected + forgotten`.

    Of the rejected, `id_conflicts` brought other content under a transaction_id that was decided.
    """

    events: int
    decided: int
    duplicates: int
    rejected: int
    forgotten: int
    alerts: int
    id_conflicts: int = 0


class Pipeline:
    """Scores batches. One instance a worker; `process` is called by one thread at a time.

    Args:
        store: profiles under the applied offset, and recorded decisions.
        outbox: durable once `send` returns.
        model: the model to use now, asked once a batch.
        clock: stamps `decided_at`; nothing depends on it.
        reached: called at the named points between the steps; tests crash there.
        on_conflicts: told which events brought other content under a decided transaction_id.
    """

    def __init__(
        self,
        *,
        store: FeatureStore,
        outbox: Outbox,
        model: Callable[[], Scorer],
        clock: Clock,
        spec: FeatureSpec,
        policy: Policy,
        topics: DecisionTopics,
        limits: Limits,
        features_in_scores: bool = True,
        reached: Callable[[str], None] = lambda _point: None,
        on_conflicts: Callable[[Sequence[str]], None] = lambda _conflicts: None,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._model = model
        self._clock = clock
        self._spec = spec
        self._policy = policy
        self._topics = topics
        self._limits = limits
        self._features_in_scores = features_in_scores
        self._reached = reached
        self._on_conflicts = on_conflicts
        self._fencing_tokens: dict[int, int] = {}
        self._recorded: dict[int, int] = {}
        self._epochs = Epochs()

    def set_epochs(self, epochs: Epochs) -> None:
        """Say which epochs the log has; until then it has one."""
        self._epochs = epochs

    def on_assigned(self, partitions: Iterable[int]) -> None:
        """Become the owner of partitions that were assigned. To be called before their first batch."""
        owned = list(partitions)
        self._fencing_tokens.update(self._store.claim(owned))
        # What was recorded before says nothing of now: the journal would be trimmed of what is undecided.
        for partition in owned:
            self._recorded.pop(partition, None)

    def remember(self, decisions: Sequence[tuple[int, str, bytes]]) -> None:
        """Record decisions that were emitted before and that the store has lost (see `adapters.emitted`).

        Raises:
            StaleOwner, DependencyDown: as `process`.
        """
        if decisions:
            self._store.record(decisions, fencing_tokens=self._fencing_tokens)

    def set_start_offsets(self, starts: Mapping[int, int]) -> None:
        """Say where owned partitions are read from; whatever lies below must have been acknowledged.

        So a store that loses its last moments before the first batch is noticed there, and not only later.
        """
        self._recorded.update({partition: start - 1 for partition, start in starts.items()})

    def on_revoked(self, partitions: Iterable[int]) -> None:
        """Forget partitions that went to another worker."""
        for partition in partitions:
            self._fencing_tokens.pop(partition, None)
            self._recorded.pop(partition, None)

    def process(self, records: Sequence[Record]) -> BatchCounts:
        """Decide every event of a batch, durably. When this returns, the batch may be acknowledged.

        Args:
            records: of any partitions owned, in offset order within each.

        Raises:
            DependencyDown: try the same batch again; what is done stays done.
            StaleOwner: the partitions are another worker's now; leave the batch alone.
            StoreBehind: the store lost its last moments; go back.
            OtherLog: of events that were worked on neither what was read nor what was decided is known.
        """
        now = self._clock()
        arrivals, rejected = self._admit(records, now)

        # 1. What is decided already will be emitted again as it was.
        names = list(dict.fromkeys(arrival.transaction.transaction_id for arrival in arrivals))
        entries = _found(names, self._store.lookup(names))
        self._reached("looked-up")

        # 2. Read the profiles, then update them: an event does not vouch for itself. A second event of a
        #    transaction updates nothing; the same event again is known by its place, and only fills what a
        #    store that lost its last moments lacks. Other content under a decided id updates nothing either.
        originals, duplicates, conflicts = sort_out(arrivals, entries, self._epochs)
        ends = {record.partition: record.offset for record in records}
        updates = [_update_of(arrival, self._spec) for arrival in originals]
        snapshots = self._store.apply(
            updates,
            ends=ends,
            recorded=self._recorded,
            fencing_tokens=self._fencing_tokens,
            rejected=_offsets([*(record for record, _ in rejected), *(each.record for each in conflicts)]),
            duplicates=_offsets(arrival.record for arrival in duplicates),
        )
        self._reached("profiles-applied")

        # 3. Score with one model.
        model = self._model()
        proposals: list[tuple[int, str, bytes]] = []
        trimmed: list[Arrival] = []
        forgotten: list[str] = []
        for arrival, update, snapshot in zip(originals, updates, snapshots, strict=True):
            earlier = entries.get(arrival.transaction.transaction_id)
            if earlier is not None:  # once more: the store may have lost it since it was looked up
                proposals.append((update.partition, earlier.transaction_id, earlier.raw))
            elif snapshot is None:  # its journal is trimmed: it was recorded, by a worker that is gone
                trimmed.append(arrival)
                forgotten.append(arrival.transaction.transaction_id)
            elif not snapshot:  # passed as a duplicate of an event that is not decided yet: that one decides
                forgotten.append(arrival.transaction.transaction_id)
            else:
                decision = self._decide(arrival, update, snapshot, model, now)
                activity = recent_activity(update.entities, snapshot) if decision.action != "approve" else []
                proposals.append((update.partition, decision.transaction_id, pack(decision, activity)))
        self._reached("scored")

        # 4. Record: the first writer wins, and what is emitted is what is recorded.
        winners = self._store.record(proposals, fencing_tokens=self._fencing_tokens) if proposals else []
        found = {entry.transaction_id: entry for entry in map(unpack, winners)}
        decided = {name: entry for name, entry in found.items() if name not in entries}
        if forgotten:
            entries |= _found(forgotten, self._store.lookup(forgotten))
            check_known(trimmed, entries)
        elsewhere = decided_elsewhere(originals, decided, proposals, winners, self._epochs)
        entries |= {name: decided.pop(name) for name in elsewhere}
        self._reached("recorded")

        # 5. Emit, and wait until it is durable.
        known = entries | decided if conflicts or forgotten or elsewhere else {}
        kept, conflicting, told = self._refuse(arrivals, known, now)
        refused = [*(letter for _, letter in rejected), *conflicting]
        self._outbox.send([*self._outgoing(kept, decided, entries), *refused])
        self._on_conflicts(told)
        self._reached("emitted")

        # 6. The caller acknowledges.
        self._recorded.update(ends)
        lost = sum(each.transaction.transaction_id not in known for each in kept) if forgotten else 0
        return BatchCounts(
            events=len(records),
            decided=len(decided),
            duplicates=len(kept) - len(decided) - lost,
            rejected=len(refused),
            forgotten=lost,
            alerts=sum(entry.is_alert for entry in decided.values()),
            id_conflicts=len(told),
        )

    def _admit(
        self, records: Sequence[Record], now: datetime
    ) -> tuple[list[Arrival], list[tuple[Record, Message]]]:
        arrivals: list[Arrival] = []
        rejected: list[tuple[Record, Message]] = []
        for record in records:
            match admit_transaction(record, self._limits):
                case Rejected() as why:
                    rejected.append((record, self._letter(record, why, now)))
                case transaction:
                    arrivals.append(Arrival(record, transaction, content_digest(transaction)))
        return arrivals, rejected

    def _letter(self, record: Record, why: Rejected, now: datetime) -> Message:
        topic, hide = self._topics.dead_letters, self._limits.refuse_card_numbers
        epoch = self._epochs.of(record.partition, record.offset)
        return dead_letter(record, why, topic, now, mask_card_numbers=hide, epoch=epoch)

    def _refuse(
        self, arrivals: Sequence[Arrival], entries: Mapping[str, Recorded], now: datetime
    ) -> tuple[Sequence[Arrival], list[Message], list[str]]:
        """Those that agree with what is recorded; of those that do not, dead letters and what to say."""
        kept, conflicts = split_conflicts(arrivals, entries, self._epochs) if entries else (arrivals, [])
        told = [conflict_text(arrival, entry) for arrival, entry in conflicts]
        letters = [
            self._letter(arrival.record, Rejected(ID_CONFLICT, text), now)
            for (arrival, _), text in zip(conflicts, told, strict=True)
        ]
        return kept, letters, told

    def _decide(
        self,
        arrival: Arrival,
        update: EventUpdate,
        snapshot: tuple[ProfileSnapshot, ...],
        model: Scorer,
        now: datetime,
    ) -> Decision:
        payment = arrival.transaction
        kinds = tuple(entity.kind for entity in update.entities)
        features = features_of(payment, update.event, kinds, snapshot, self._spec)
        score, contributions = model.score(features)
        return Decision(
            transaction_id=payment.transaction_id,
            event_time=payment.event_time.astimezone(UTC),  # producers may write another offset
            card_id=payment.card_id,
            merchant_id=payment.merchant_id,
            amount_minor=payment.amount_minor,
            currency=payment.currency,
            country=payment.country,
            category=payment.category,
            channel=payment.channel,
            score=score,
            action=decide(score, payment.amount_minor, payment.currency, self._policy, model.thresholds),
            reasons=[
                Reason(code=name, text=reason_text(name, features, payment), contribution=value)
                for name, value in contributions[:MAX_REASONS]
            ],
            model_version=model.version,
            decided_at=now,
            features=features,
            origin=(update.partition, update.offset),
            epoch=self._epochs.of(update.partition, update.offset) or UNSET,
            entities={
                entity.kind: (entity.key, known.profile.updates, known.labels.updates)
                for entity, known in zip(update.entities, snapshot, strict=True)
            },
            content_digest=arrival.content,
        )

    def _outgoing(
        self, arrivals: Sequence[Arrival], decided: Mapping[str, Recorded], earlier: Mapping[str, Recorded]
    ) -> Iterable[Message]:
        """For each arrival its decision; what may have been sent before says so."""
        fresh = dict(decided)
        for arrival in arrivals:
            name = arrival.transaction.transaction_id
            entry = fresh.pop(name, None)
            headers = () if entry is not None else REDELIVERED
            entry = entry or decided.get(name) or earlier.get(name)
            if entry is not None:
                value = entry.decision if self._features_in_scores else entry.without_features()
                yield Message(self._topics.scores, entry.key, value, headers)
                if entry.is_alert:
                    yield Message(self._topics.alerts, entry.key, entry.alert(), headers)


def _update_of(arrival: Arrival, spec: FeatureSpec) -> EventUpdate:
    payment, record = arrival.transaction, arrival.record
    return EventUpdate(
        record.partition,
        record.offset,
        event_of(payment, spec),
        tuple(EntityRef(*entity) for entity in entities_of(payment, spec)),
        payment.transaction_id,
    )


def _found(names: Sequence[str], recorded: Sequence[bytes | None]) -> dict[str, Recorded]:
    return {name: unpack(raw) for name, raw in zip(names, recorded, strict=True) if raw is not None}


def reason_text(name: str, features: Mapping[str, float], payment: Categories) -> str:
    """What an analyst reads for a feature of a payment, or of the payment that a decision is about."""
    field, category, _ = name.partition("=")
    if not category:
        return feature_reason(name, features)
    # A categorical feature is one of many buckets; the payment knows the word. That it is in none of those of
    # usual payments can be a reason of its own.
    is_in = name in features
    return f"{field.capitalize()} is {getattr(payment, field) if is_in else 'another than usual'}"


def _offsets(records: Iterable[Record]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for record in records:
        found.setdefault(record.partition, []).append(record.offset)
    return found
