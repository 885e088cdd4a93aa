"""The page to read first: a batch of payment events arrives, one decision on each leaves.

    records -> admit -> look up -> read and update profiles -> score -> record -> emit -> (acknowledge)

The order is the guarantee. Every step may be the last before a crash; the next run starts again at the last
acknowledged offset, finds what is done by the fence (profiles) and by the transaction's id (decisions), and
does the rest. Nothing here talks to Kafka or Redis: the ports do, and the same page runs in a worker, in a
replay and in a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from models.feature_spec import FeatureSpec
from models.features import entities_of, event_of, features_of
from models.profiles import Reading
from models.reasons import reason_text
from stream.admission import Limits, Rejected, admit_transaction, dead_letter
from stream.decisions import Recorded, pack, recent_activity, unpack
from stream.messages import Decision, Reason, Transaction
from stream.policy import Policy, Thresholds, decide
from stream.ports import Clock, EntityRef, FeatureStore, Message, Outbox, Touch
from stream.records import Record

MAX_REASONS = 5


class Scorer(Protocol):
    """A model as the pipeline sees it; a batch sees one model from its first event to its last."""

    @property
    def version(self) -> str:
        """What decisions name."""
        ...

    @property
    def thresholds(self) -> Thresholds:
        """Of its own scores."""
        ...

    def score(self, features: dict[str, float]) -> tuple[float, Sequence[tuple[str, float]]]:
        """The probability of fraud, and contributions by feature, strongest first."""
        ...


class Topics(NamedTuple):
    """Where a decision goes."""

    scores: str
    alerts: str
    dead_letters: str


class Counts(NamedTuple):
    """What became of a batch: `events = decided + repeated + rejected + forgotten`."""

    events: int
    decided: int
    repeated: int
    rejected: int
    forgotten: int
    alerts: int


class StoreBehind(Exception):  # noqa: N818 - the state of a dependency, as in `ports`
    """The store holds less than it did: it lost its last moments (a failover, an AOF of every second).

    Nothing was changed. Acknowledge nothing, go back to `starts`, call `Pipeline.own` again, and go on
    from there: redelivery makes the rest right. To go on without would leave out what was lost, for good.

    Attributes:
        starts: of each partition that is behind, the first offset the store does not hold.
    """

    def __init__(self, starts: Mapping[int, int]) -> None:
        places = ", ".join(f"partition {partition} to offset {start}" for partition, start in starts.items())
        super().__init__(
            f"the profiles are older than they were left, they lost their last moments: {places}"
        )
        self.starts = dict(starts)


class Arrival(NamedTuple):
    """A transaction and the record it came in."""

    record: Record
    transaction: Transaction


class Pipeline:
    """Scores batches. One instance a worker; `process` is called by one thread at a time.

    Args:
        store: profiles under the fence, and recorded decisions.
        outbox: durable once `send` returns.
        model: the model to use now, asked once a batch.
        clock: stamps `decided_at`; nothing depends on it.
        reached: called at the named points between the steps; tests crash there.
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
        topics: Topics,
        limits: Limits,
        features_in_scores: bool = True,
        reached: Callable[[str], None] = lambda _point: None,
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
        self._tokens: dict[int, int] = {}
        self._recorded: dict[int, int] = {}

    def own(self, partitions: Iterable[int]) -> None:
        """Become the owner of partitions that were assigned. To be called before their first batch."""
        owned = list(partitions)
        self._tokens.update(self._store.claim(owned))
        # What this worker had recorded under an earlier assignment says nothing of this one: after going
        # back it would have the journal trimmed of events that are still to be decided.
        for partition in owned:
            self._recorded.pop(partition, None)

    def begin_at(self, starts: Mapping[int, int]) -> None:
        """Say where owned partitions are read from; whatever lies below must have been acknowledged.

        So a store that loses its last moments before the first batch is noticed there, and not only later.
        """
        self._recorded.update({partition: start - 1 for partition, start in starts.items()})

    def disown(self, partitions: Iterable[int]) -> None:
        """Forget partitions that went to another worker."""
        for partition in partitions:
            self._tokens.pop(partition, None)
            self._recorded.pop(partition, None)

    def process(self, records: Sequence[Record]) -> Counts:
        """Decide every event of a batch, durably. When this returns, the batch may be acknowledged.

        Args:
            records: of any partitions owned, in offset order within each.

        Raises:
            DependencyDown: try the same batch again; what is done stays done.
            StaleOwner: the partitions are another worker's now; leave the batch alone.
            StoreBehind: the store lost its last moments; go back.
        """
        now = self._clock()
        arrivals, rejected = self._admit(records, now)
        arrivals, copies = _apart(arrivals)

        # 1. What is decided already is emitted again as it was.
        known = self._store.lookup([arrival.transaction.transaction_id for arrival in arrivals])
        before = [unpack(raw) if raw is not None else None for raw in known]
        self._reached("looked-up")

        # 2. Read the profiles, then update them: an event does not vouch for itself. A second event of a
        #    transaction touches nothing; the same event again is known by its offset, and only fills what a
        #    store that lost its last moments lacks.
        ends = {record.partition: record.offset for record in records}
        fresh = [
            (arrival, earlier)
            for arrival, earlier in zip(arrivals, before, strict=True)
            if earlier is None or earlier.origin == (arrival.record.partition, arrival.record.offset)
        ]
        touches = [self._touch(arrival) for arrival, _ in fresh]
        self._require_progress(ends)
        readings = self._store.apply(touches, ends=ends, recorded=self._recorded, tokens=self._tokens)
        self._reached("profiles-applied")

        # 3. Score with one model.
        model = self._model()
        proposals: list[tuple[int, str, bytes]] = []
        forgotten: list[str] = []
        for (arrival, earlier), touch, reading in zip(fresh, touches, readings, strict=True):
            if earlier is not None:
                continue
            if reading is None:
                forgotten.append(arrival.transaction.transaction_id)
            else:
                decision = self._decide(arrival, touch, reading, model, now)
                activity = recent_activity(touch.entities, reading) if decision.action != "approve" else []
                proposals.append((touch.partition, decision.transaction_id, pack(decision, activity)))
        self._reached("scored")

        # 4. Record: the first writer wins, and what is emitted is what is recorded.
        winners = self._store.record(proposals, tokens=self._tokens) if proposals else []
        decided = [unpack(winner) for winner in winners]
        self._reached("recorded")

        # 5. Emit, and wait until it is durable.
        repeated = [earlier for earlier in before if earlier is not None]
        late, lost = self._recall(forgotten)
        by_id = {entry.transaction_id: entry for entry in (*repeated, *decided, *late)}
        again = [*repeated, *late, *(by_id[name] for name in copies if name in by_id)]
        messages = [
            *self._outgoing(decided, ()),
            *self._outgoing(again, (("redelivered", b"1"),)),
            *rejected,
        ]
        self._outbox.send(messages)
        self._reached("emitted")

        # 6. The caller acknowledges.
        self._recorded.update(ends)
        return Counts(
            events=len(records),
            decided=len(decided),
            repeated=len(again),
            rejected=len(rejected),
            forgotten=lost + sum(name not in by_id for name in copies),
            alerts=sum(entry.is_alert for entry in decided),
        )

    def _require_progress(self, partitions: Iterable[int]) -> None:
        """Refuse to go on above a gap."""
        left = {
            partition: self._recorded[partition] for partition in partitions if partition in self._recorded
        }
        held = self._store.progress(left) if left else {}
        behind = {partition: at + 1 for partition, at in held.items() if at < left[partition]}
        if behind:
            raise StoreBehind(behind)

    def _admit(self, records: Sequence[Record], now: datetime) -> tuple[list[Arrival], list[Message]]:
        arrivals: list[Arrival] = []
        rejected: list[Message] = []
        for record in records:
            match admit_transaction(record, self._limits):
                case Rejected() as why:
                    rejected.append(
                        dead_letter(
                            record,
                            why,
                            self._topics.dead_letters,
                            now,
                            mask_card_numbers=self._limits.refuse_card_numbers,
                        )
                    )
                case transaction:
                    arrivals.append(Arrival(record, transaction))
        return arrivals, rejected

    def _touch(self, arrival: Arrival) -> Touch:
        payment, record = arrival.transaction, arrival.record
        return Touch(
            record.partition,
            record.offset,
            event_of(payment, self._spec),
            tuple(EntityRef(*entity) for entity in entities_of(payment, self._spec)),
        )

    def _decide(
        self, arrival: Arrival, touch: Touch, reading: tuple[Reading, ...], model: Scorer, now: datetime
    ) -> Decision:
        payment = arrival.transaction
        kinds = tuple(entity.kind for entity in touch.entities)
        features = features_of(payment, kinds, reading, self._spec)
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
                Reason(code=name, text=reason_text(name, features), contribution=value)
                for name, value in contributions[:MAX_REASONS]
            ],
            model_version=model.version,
            decided_at=now,
            features=features,
            origin=(touch.partition, touch.offset),
            entities={
                entity.kind: (entity.key, known.profile.updates, known.labels.updates)
                for entity, known in zip(touch.entities, reading, strict=True)
            },
        )

    def _recall(self, forgotten: Sequence[str]) -> tuple[list[Recorded], int]:
        """Decisions of events whose journal is trimmed: recorded and emitted before, by a worker since gone.

        What is no longer remembered either (a redelivery after `decision_ttl`) was emitted in its time.
        """
        if not forgotten:
            return [], 0
        found = [unpack(raw) for raw in self._store.lookup(forgotten) if raw is not None]
        return found, len(forgotten) - len(found)

    def _outgoing(
        self, entries: Iterable[Recorded], headers: tuple[tuple[str, bytes], ...]
    ) -> Iterable[Message]:
        for entry in entries:
            key = entry.key
            value = entry.decision if self._features_in_scores else entry.without_features()
            yield Message(self._topics.scores, key, value, headers)
            if entry.is_alert:
                yield Message(self._topics.alerts, key, entry.alert(), headers)


def _apart(arrivals: Sequence[Arrival]) -> tuple[list[Arrival], list[str]]:
    """The first arrival of each transaction, and the ids of those that came again in the same batch."""
    first: dict[str, Arrival] = {}
    copies: list[str] = []
    for arrival in arrivals:
        name = arrival.transaction.transaction_id
        if name in first:
            copies.append(name)
        else:
            first[name] = arrival
    return list(first.values()), copies
