"""The judge of profiles: each holds its events once, and what was served follows from it. Pure."""

from __future__ import annotations

from models.features.compute import entities_of, features_of
from models.features.spec import FeatureSpec
from stream.decisions import content_digest
from stream.history.events import DecidedEvent, Packing, ReplayedEvents, Turn
from stream.history.join import Place
from stream.history.labels import ReplayedLabels
from stream.messages import Transaction, encode, transaction_decoder
from stream.records import Record
from stream.verify.promises import OTHER_FEATURES, OTHER_ORDER, Findings, event_at
from stream.verify.seen import Seen
from stream.views import NO_FEATURES, UNREADABLE, ServedDecision


class ProfileJudge:
    """Judges promise 2: applies each decided event once, in the order that decisions record.

    Args:
        findings: take what is broken.
        seen: what is in the store and what is acknowledged.
        labels: played already.
        packing: as the store keeps profiles.
        spec: the features.
        within: arrival times in Kafka, seconds, from and to: features are judged in there.

    Attributes:
        features: decisions whose features were compared.
        profiles: profiles that were compared.
    """

    def __init__(
        self,
        findings: Findings,
        seen: Seen,
        labels: ReplayedLabels,
        packing: Packing,
        spec: FeatureSpec,
        within: tuple[float, float],
    ) -> None:
        self._findings = findings
        self._seen = seen
        self._labels = labels
        self._spec = spec
        self._within = within
        self._replay = ReplayedEvents(
            spec, packing, labels.profile, on_update=self._on_update, read=self._on_read
        )
        self._in_work: set[str] = set()
        self._open_ended: set[str] = set()
        self._unread = 0
        self.features = self.profiles = 0

    def apply(self, record: Record, decision: ServedDecision, value: bytes) -> None:
        """An event, its decision, and the message that it was decided in."""
        name = f"{decision.transaction_id} ({event_at((record.partition, record.offset))})"
        try:
            payment: Transaction = transaction_decoder.decode(record.value or b"")
        except UNREADABLE:
            self._findings.broken(1, "was decided, and its event is no transaction", name)
            return
        if payment.transaction_id != decision.transaction_id:
            self._findings.broken(1, "was decided of an event that is another transaction's", name)
            return
        if decision.content_digest not in ("", content_digest(payment)):
            self._findings.broken(1, "records another content than its event has", name)
        case = DecidedEvent(record, payment, decision, value, self._spec)
        if not case.agrees:
            self._findings.broken(2, "its decision names other entities than its event", name)
            return
        self._replay.apply(case)

    def add_in_work(self, record: Record) -> None:
        """An event whose decision has not come yet: the store may have applied it to its profiles."""
        try:
            payment = transaction_decoder.decode(record.value or b"")
        except UNREADABLE:
            return
        names = [f"{kind}:{key}" for kind, key, _ in entities_of(payment, self._spec)]
        self._open_ended.update(names)
        self._in_work.update(
            name for name in names if record.offset <= self._seen.applied_offset(name, record.partition)
        )

    def finish(self) -> None:
        """All events were read: what is left over, and what the store holds beyond."""
        if self._seen.cut_off:
            self._judge_rest()
        else:
            # A decision may be read before one that came earlier in the order of an entity: workers emit side
            # by side. Where that one is still to come, the gap is no fault.
            self._in_work |= self._replay.finish(self._on_disorder, open_ended=self._open_ended)
            self._judge_profiles()
        if self._unread:
            self._findings.remark(
                2,
                f"the features of {self._unread:,} decisions were not compared: they are not on the topic "
                "or in Redis, or rest on labels that cannot be played again",
            )

    def _on_update(self, name: str, place: Place, updates: int, raw: bytes) -> None:
        held = self._seen.profiles.get(name)
        if held is None or held[0] < updates:
            if place[1] <= self._seen.applied_offset(name, place[0]):
                self._findings.broken(
                    2,
                    "its profile in Redis lacks events that Redis says it has applied",
                    f"{name}, {event_at(place)}",
                )
        elif held[0] == updates:
            self.profiles += 1
            del self._seen.profiles[name]
            if held[1] != self._seen.digest(raw):
                self._findings.broken(
                    2, "its profile in Redis is not what its events give", f"{name} after {updates} events"
                )

    def _on_read(self, case: DecidedEvent) -> None:
        """All that was known when the event came: what was served must follow from it."""
        start, end = self._within
        snapshots = tuple(snapshot for snapshot in case.snapshots if snapshot is not None)
        name = f"{case.decision.transaction_id} ({event_at(case.place)})"
        if len(snapshots) < len(case.entities) and not self._labels.is_whole:
            self._unread += 1
        elif len(snapshots) < len(case.entities):
            self._findings.broken(3, "was decided with labels that the log does not hold", name)
        elif case.decision.features == NO_FEATURES:
            self._unread += 1
        elif start <= case.came < end:
            self.features += 1
            served = encode(features_of(case.payment, case.event, case.kinds, snapshots, self._spec))
            if served != bytes(case.decision.features):
                self._findings.broken(2, OTHER_FEATURES, name)

    def _on_disorder(self, name: str, turn: Turn, held: int) -> None:
        if name in self._in_work:
            return
        self._findings.broken(
            2,
            OTHER_ORDER,
            f"{name}: {turn.case.decision.transaction_id} ({event_at(turn.case.place)}) read "
            f"{turn.before} events where the log gives {held}",
        )

    def _judge_rest(self) -> None:
        """Of a log without its beginning only what began later can be computed again."""
        began_before = len(self._seen.profiles)
        self._findings.remark(
            2,
            f"{self._seen.cut_off}: {began_before:,} profiles that began before were not compared, nor what "
            "was decided by them",
            unjudged=self.profiles == 0,
        )

    def _judge_profiles(self) -> None:
        skipped = 0
        for name, (updates, _) in self._seen.profiles.items():
            if name in self._in_work:
                skipped += 1
                continue
            had = self._replay.updates(name)
            if updates > had:
                self._findings.broken(
                    2,
                    "its profile in Redis holds more events than the log gives",
                    f"{name}: {updates} and {had}",
                )
        if skipped:
            self._findings.remark(2, f"{skipped:,} profiles of events in work were not compared")
