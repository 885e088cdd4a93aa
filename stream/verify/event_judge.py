"""The judge of events: each has a decision, is a duplicate, has a dead letter, or is yet to come. Pure.

It keeps no state of the workers and follows none of their steps: from a decision it takes what it claims (its
place, the order in which profiles were updated), recomputes the rest, and compares to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable

from models.features.spec import FeatureSpec
from stream.admission import ID_CONFLICT, Limits, Rejected, admit_transaction
from stream.dead_letters import DeadLetter
from stream.decisions import content_digest
from stream.history.events import Packing
from stream.history.join import EventJoin, Place
from stream.history.labels import ReplayedLabels
from stream.records import Record
from stream.verify.decision_judge import DecisionJudge
from stream.verify.profile_judge import ProfileJudge
from stream.verify.promises import Findings, event_at
from stream.verify.seen import Seen
from stream.views import ServedDecision, transaction_id_of

ALWAYS = (float("-inf"), float("inf"))


class EventJudge:
    """Judges promises 1, 2 and 4, over the events, decisions and dead letters.

    Dead letters go in first, then events and decisions, each topic's in the order of its offsets, side by
    side: what has met its counterpart is judged and forgotten, but for 25 bytes.

    Args:
        findings: take what is broken.
        seen: what is in the store and what is acknowledged.
        labels: played already.
        packing: as the store keeps profiles.
        spec: the features.
        limits: what is taken for believable.
        topic: of transactions, its full name.
        within: arrival times in Kafka, seconds, from and to: decisions and features are judged in there.

    Attributes:
        join: of events and decisions.
        decisions, profiled: the judges of the other two.
        applied: events that met their decision; `rejected`: that have a dead letter.
        duplicates: events of a transaction that another event's decision covers.
        lag: events not acknowledged; `lost`: acknowledged without outcome; `outside`: the same, not judged.
    """

    def __init__(
        self,
        findings: Findings,
        seen: Seen,
        labels: ReplayedLabels,
        packing: Packing,
        *,
        spec: FeatureSpec,
        limits: Limits,
        topic: str,
        within: tuple[float, float] = ALWAYS,
    ) -> None:
        self._findings = findings
        self._seen = seen
        self._limits = limits
        self._topic = topic
        self._within = within
        self._dead: dict[Place, str] = {}
        self._conflicts: list[tuple[Place, str, str]] = []
        self._ends: dict[int, int] = {}
        self.join = EventJoin(self._meet)
        self.decisions = DecisionJudge(findings, seen)
        self.profiled = ProfileJudge(findings, seen, labels, packing, spec, within)
        self.events = self.applied = self.duplicates = self.rejected = self.lag = self.lost = self.outside = 0

    @property
    def features(self) -> int:
        """Decisions whose features were compared."""
        return self.profiled.features

    @property
    def profiles(self) -> int:
        """Profiles that were compared."""
        return self.profiled.profiles

    def add_dead_letter(self, headers: Iterable[tuple[str, bytes]]) -> None:
        """A dead letter; it counts where its headers say that it comes from the transactions."""
        letter = DeadLetter.parse(headers)
        if letter is not None and letter.topic == self._topic:
            self._dead[letter.place] = letter.reason

    def add_event(self, record: Record) -> None:
        """A message of the transactions, readable or not."""
        place = (record.partition, record.offset)
        self._ends[record.partition] = record.offset + 1
        self.events += 1
        if place in self._dead:
            self._judge_letter(record, place, both=self.join.decisions.pop(place, None) is not None)
        else:
            self.join.add_event(record)

    def add_decision(self, record: Record, recorded: bytes | None) -> None:
        """A message of the scores, and what the store has recorded of its transaction."""
        decision = self.decisions.first(record, recorded)
        if decision is not None:
            self.join.add_decision(decision, record.value or b"")

    def finish(self) -> None:
        """All was read: what is left over, and what the store holds beyond."""
        self.decisions.finish()
        for place, name, content in self._conflicts:
            if not self.decisions.contradicts(name, content):
                what = "a dead letter says that its event contradicts a decision, and none is that it does"
                self._findings.broken(4, what, event_at(place))
        for place, record in self.join.events.items():
            self._judge_undecided(place, record)
        for place, (decision, _) in self.join.decisions.items():
            if place[1] < self._ends.get(place[0], 0):
                self._findings.broken(
                    1,
                    "was decided of an event that is not there",
                    f"{decision.transaction_id} ({event_at(place)})",
                )
        self.profiled.finish()
        if not self._seen.cut_off:
            self._judge_counts()

    def _meet(self, record: Record, decision: ServedDecision, value: bytes) -> None:
        self.applied += 1
        self.profiled.apply(record, decision, value)

    def _judge_letter(self, record: Record, place: Place, *, both: bool) -> None:
        self.rejected += 1
        if both:
            self._findings.broken(4, "an event has a decision and a dead letter", event_at(place))
        if not self._is_within(record):
            return
        admitted = admit_transaction(record, self._limits)
        if isinstance(admitted, Rejected):
            return
        if self._dead[place] == ID_CONFLICT:
            self._conflicts.append((place, admitted.transaction_id, content_digest(admitted)))
        else:
            self._findings.remark(
                4,
                f"{event_at(place)} is a dead letter ({self._dead[place]}); with these settings it is fine",
            )

    def _judge_undecided(self, place: Place, record: Record) -> None:
        name = transaction_id_of(record.value)
        if name is not None and self.decisions.has_decision(name):
            self._judge_further(place, record)
        elif record.offset >= self._seen.committed.get(record.partition, 0):
            self.lag += 1
            self.profiled.add_in_work(record)
        elif not self._is_within(record):
            self.outside += 1
        else:
            self.lost += 1
            admitted = admit_transaction(record, self._limits)
            if isinstance(admitted, Rejected):
                what = "an event that cannot be processed has no dead letter"
                self._findings.broken(4, what, f"{event_at(place)}: {admitted.reason}")
            else:
                self._findings.broken(1, "has no decision", f"{name} ({event_at(place)})")
                self._findings.broken(
                    4, "an acknowledged event has neither decision nor dead letter", event_at(place)
                )

    def _judge_further(self, place: Place, record: Record) -> None:
        """A further event of a transaction: it brings what was decided, or must have a dead letter."""
        admitted = admit_transaction(record, self._limits)
        is_other = not isinstance(admitted, Rejected) and self.decisions.contradicts(
            admitted.transaction_id, content_digest(admitted)
        )
        if not is_other:
            self.duplicates += 1
        elif record.offset >= self._seen.committed.get(record.partition, 0):
            self.lag += 1
        else:
            self.lost += 1
            what = "an event brings other content under a decided transaction_id and has no dead letter"
            self._findings.broken(4, what, event_at(place))

    def _judge_counts(self) -> None:
        counts = self._seen.counts
        if counts is None or self.lag:
            return
        decided = self.decisions.decided
        for told, found in (
            ("decided", decided),
            ("rejected", self.rejected),
            ("duplicates", self.duplicates),
        ):
            if counts[told] != found:
                self._findings.broken(
                    4,
                    "the counters in Redis are not those of the log",
                    f"{told}: {counts[told]:,} and {found:,}",
                )

    def _is_within(self, record: Record) -> bool:
        start, end = self._within
        return start <= record.timestamp_ms / 1000.0 < end
