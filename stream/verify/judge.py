"""The judge of the promises: what the logs and the store hold, against what the logs alone give. Pure.

It keeps no state of the workers and follows none of their steps: from a decision it takes what it claims (its
place, the order in which profiles were updated), recomputes the rest, and compares to the bit.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec
import numpy as np

from models.features.compute import features_of
from models.features.profiles import LabelProfile
from models.features.spec import FeatureSpec
from models.metrics.decision_window import digest
from stream.admission import Limits, Rejected, admit_transaction
from stream.history.events import NO_FEATURES, Case, Packing, ReplayedEvents, Served, Turn, served_decoder
from stream.history.labels import ReplayedLabels
from stream.messages import Transaction, encode, transaction_decoder
from stream.records import Record

MOST_EXAMPLES = 10
_BITS = 2**64 - 1
_MARK = "redelivered"
_SHIFT = 48  # offsets below 2**48

Verdict = Literal["holds", "broken", "not judged"]

OTHER_FEATURES = "the features it was decided with are not those of its profiles"
OTHER_ORDER = "the order its decisions record has gaps or says a place twice"
UNTRUSTED = "a model on the topic cannot be trusted; workers refuse it"
PROMISES = {
    1: "every transaction has exactly one decision",
    2: "profiles hold each event exactly once",
    3: "each label is learned at most once, and the latest knowledge wins",
    4: "events in = decisions + copies + dead letters + lag",
    5: "a worker of an older generation changes nothing",
    6: "a broken or forged model is refused",
}


class Break(msgspec.Struct, frozen=True):
    """One way in which a promise is broken.

    Attributes:
        what: is wrong, of each.
        count: how many transactions, entities, labels or models it is wrong with.
        examples: some of them.
    """

    what: str
    count: int
    examples: tuple[str, ...]


class Promise(msgspec.Struct, frozen=True):
    """The verdict on one promise.

    Attributes:
        judged: what was looked at, in figures.
        remarks: what could not be judged, and why.
    """

    number: int
    text: str
    verdict: Verdict
    judged: str
    breaks: tuple[Break, ...]
    remarks: tuple[str, ...]


class Findings:
    """Collects what is broken, with a few examples of each kind."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[int, str]] = Counter()
        self._examples: dict[tuple[int, str], list[str]] = {}
        self._remarks: dict[int, list[str]] = {}
        self._unjudged: set[int] = set()

    def broken(self, promise: int, what: str, example: str, *, count: int = 1) -> None:
        """One more example of what is broken."""
        self._counts[promise, what] += count
        examples = self._examples.setdefault((promise, what), [])
        if len(examples) < MOST_EXAMPLES:
            examples.append(example)

    def remark(self, promise: int, text: str, *, unjudged: bool = False) -> None:
        """What is to be known beside the verdict; `unjudged`: without it there can be none."""
        self._remarks.setdefault(promise, []).append(text)
        if unjudged:
            self._unjudged.add(promise)

    def promise(self, number: int, judged: str) -> Promise:
        """The verdict on a promise."""
        breaks = tuple(
            Break(what, count, tuple(self._examples[of, what]))
            for (of, what), count in self._counts.items()
            if of == number
        )
        verdict: Verdict = "broken" if breaks else "not judged" if number in self._unjudged else "holds"
        remarks = tuple(self._remarks.get(number, ()))
        return Promise(number, PROMISES[number], verdict, judged, breaks, remarks)


class Seen(NamedTuple):
    """What was seen from the side before the topics were read, in this order.

    Attributes:
        starts: of each partition of transactions, the first offset that the log still holds.
        committed: of each partition of transactions, the offset up to which it is acknowledged.
        fence: by entity and partition, the offset the store has applied; -1 for nothing.
        profiles: of each entity. Emptied as they are compared.
        digest: of a profile's bytes.
        remembered: seconds since 1970 from which every decision must still be recorded.
        counts: the store's own; None where events are in work and they move.
        cut_off: which logs have lost their beginning, in words; empty where all are whole.
    """

    starts: Mapping[int, int]
    committed: Mapping[int, int]
    fence: Callable[[str, int], int]
    profiles: dict[str, tuple[int, bytes]]
    digest: Callable[[bytes], bytes]
    remembered: float
    counts: Mapping[str, int] | None
    cut_off: str = ""


class _Waiting(NamedTuple):
    record: Record
    name: str | None


class EventJudge:
    """Judges promises 1, 2 and 4, over the events, decisions and dead letters.

    Dead letters go in first, then events and decisions, each topic's in the order of its offsets, side by
    side: what has met its counterpart is judged and forgotten, but for 25 bytes.

    Args:
        seen: what stands in the store and what is acknowledged.
        labels: played already.
        within: arrival times in Kafka, seconds, from and to: decisions and features are judged in there.
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
        within: tuple[float, float] = (float("-inf"), float("inf")),
    ) -> None:
        self._findings = findings
        self._seen = seen
        self._labels = labels
        self._spec = spec
        self._limits = limits
        self._topic = topic
        self._within = within
        self._replay = ReplayedEvents(
            spec, packing, labels.profile, updated=self._on_update, read=self._on_read
        )
        self._dead: dict[tuple[int, int], str] = {}
        self._waiting: dict[tuple[int, int], _Waiting] = {}
        self._early: dict[tuple[int, int], tuple[Served, bytes]] = {}
        self._ends: dict[int, int] = {}
        self._contents: dict[int, array[int]] = {}
        self._unmarked: dict[int, bytearray] = {}
        self._names, self._places = array("Q"), array("q")
        self._decided = np.zeros(0, dtype=np.uint64)
        self._touched_in_work: set[str] = set()
        self.versions: set[str] = set()
        self.events = self.applied = self.decided = self.repeated = self.copies = self.rejected = self.lag = 0
        self.lost = self.outside = 0
        self.features = self.profiles = 0
        self._unread = 0

    # ---- what goes in

    def add_dead_letter(self, headers: Sequence[tuple[str, bytes]]) -> None:
        """A dead letter; it counts where its headers say that it comes from the transactions."""
        told = dict(headers)
        partition, offset = told.get("partition", b""), told.get("offset", b"")
        if told.get("topic") == self._topic.encode() and partition.isdigit() and offset.isdigit():
            self._dead[int(partition), int(offset)] = told.get("reason", b"").decode(errors="replace")

    def add_event(self, record: Record) -> None:
        """A message of the transactions, readable or not."""
        place = (record.partition, record.offset)
        self._ends[record.partition] = record.offset + 1
        self.events += 1
        found = self._early.pop(place, None)
        if place in self._dead:
            self._judge_letter(record, both=found is not None)
        elif found is not None:
            self._meet(record, *found)
        else:
            self._waiting[place] = _Waiting(record, _name(record))

    def add_decision(self, record: Record, recorded: bytes | None) -> None:
        """A message of the scores, and what the store has recorded of its transaction."""
        try:
            decision = served_decoder.decode(record.value or b"")
        except msgspec.DecodeError:
            where = f"{record.topic}[{record.partition}] offset {record.offset}"
            self._findings.broken(1, "a message among the decisions is none", where)
            return
        value = record.value or b""
        marked = any(name == _MARK for name, _ in record.headers)
        if not self._is_first(decision, value, marked=marked):
            return
        self.versions.add(decision.model_version)
        self._compare_recorded(decision, value, recorded)
        if decision.features == NO_FEATURES and recorded is not None:  # the setting keeps them off the topic
            line = recorded.partition(b"\n")[0]
            decision = msgspec.structs.replace(decision, features=served_decoder.decode(line).features)
        waiting = self._waiting.pop(decision.origin, None)
        if waiting is not None:
            self._meet(waiting.record, decision, value)
        else:
            self._early[decision.origin] = (decision, value)

    @property
    def wants_events(self) -> bool:
        """Whether the next to read is events rather than decisions."""
        return len(self._waiting) <= len(self._early)

    # ---- one by one

    def _is_first(self, decision: Served, value: bytes, *, marked: bool) -> bool:
        """Whether no decision on this event came before; the further ones must be the same bytes."""
        partition, offset = decision.origin
        name = f"{decision.transaction_id} (event {partition}/{offset})"
        if partition < 0:
            self._findings.broken(1, "a decision does not say where its transaction stands", name)
            return False
        contents = self._contents.setdefault(partition, array("Q"))
        unmarked = self._unmarked.setdefault(partition, bytearray())
        at = offset - self._seen.starts.get(partition, 0)
        if at < 0:  # an event that is older than what the log still holds
            return False
        if at >= len(contents):
            contents.frombytes(bytes(8 * (at + 1 - len(contents))))
            unmarked.extend(bytes(at + 1 - len(unmarked)))
        content = (hash(value) & _BITS) or 1  # of this process alone: compared, not kept
        before = contents[at]
        if not marked:
            if unmarked[at]:
                self._findings.broken(1, "was emitted twice, and no copy is marked as one", name)
            unmarked[at] = 1
        if before:
            self.repeated += 1
            if before != content:
                self._findings.broken(1, "was decided twice, differently", name)
            return False
        contents[at] = content
        self._names.append(digest(decision.transaction_id))
        self._places.append(partition << _SHIFT | offset)
        self.decided += 1
        return True

    def _compare_recorded(self, decision: Served, value: bytes, recorded: bytes | None) -> None:
        name = f"{decision.transaction_id} (event {decision.origin[0]}/{decision.origin[1]})"
        if recorded is None:
            if decision.decided_at.timestamp() > self._seen.remembered:
                self._findings.broken(
                    1,
                    "its decision is not in Redis any more: sent again, it would be decided anew "
                    "(`riverwatch rebuild` puts it back)",
                    name,
                )
            return
        line = recorded.partition(b"\n")[0]
        if decision.features == NO_FEATURES:
            kept = served_decoder.decode(line)
            same = (kept.origin, kept.decided_at, kept.action) == (
                decision.origin,
                decision.decided_at,
                decision.action,
            )
        else:
            same = line == value
        if not same:
            self._findings.broken(1, "is recorded in Redis otherwise than it was emitted", name)

    def _judge_letter(self, record: Record, *, both: bool) -> None:
        place = (record.partition, record.offset)
        self.rejected += 1
        if both:
            self._findings.broken(4, "an event has a decision and a dead letter", f"event {_at(place)}")
        if self._is_within(record) and not isinstance(admit_transaction(record, self._limits), Rejected):
            self._findings.remark(
                4,
                f"event {_at(place)} is a dead letter ({self._dead[place]}); with these settings it is fine",
            )

    def _meet(self, record: Record, decision: Served, value: bytes) -> None:
        """An event and its decision."""
        self.applied += 1
        place = (record.partition, record.offset)
        name = f"{decision.transaction_id} (event {_at(place)})"
        try:
            payment: Transaction = transaction_decoder.decode(record.value or b"")
        except msgspec.DecodeError:
            self._findings.broken(1, "was decided, and its event is no transaction", name)
            return
        if payment.transaction_id != decision.transaction_id:
            self._findings.broken(1, "was decided of an event that is another transaction's", name)
            return
        case = Case(record, payment, decision, value, self._spec)
        if not case.agrees:
            self._findings.broken(2, "its decision names other entities than its event", name)
            return
        self._replay.apply(case)

    def _on_update(self, name: str, place: tuple[int, int], updates: int, raw: bytes) -> None:
        held = self._seen.profiles.get(name)
        if held is None or held[0] < updates:
            if place[1] <= self._seen.fence(name, place[0]):
                self._findings.broken(
                    2,
                    "its profile in Redis lacks events that Redis says it has applied",
                    f"{name}, event {_at(place)}",
                )
        elif held[0] == updates:
            self.profiles += 1
            del self._seen.profiles[name]
            if held[1] != self._seen.digest(raw):
                self._findings.broken(
                    2, "its profile in Redis is not what its events give", f"{name} after {updates} events"
                )

    def _on_read(self, case: Case) -> None:
        """All that was known when the event came: what was served must follow from it."""
        start, end = self._within
        readings = tuple(reading for reading in case.readings if reading is not None)
        name = f"{case.decision.transaction_id} (event {_at(case.place)})"
        if len(readings) < len(case.entities) and not self._labels.is_whole:
            self._unread += 1
        elif len(readings) < len(case.entities):
            self._findings.broken(3, "was decided with labels that the log does not hold", name)
        elif case.decision.features == NO_FEATURES:
            self._unread += 1
        elif start <= case.came < end:
            self.features += 1
            served = encode(features_of(case.payment, case.event, case.kinds, readings, self._spec))
            if served != bytes(case.decision.features):
                self._findings.broken(2, OTHER_FEATURES, name)

    # ---- the end

    def finish(self) -> None:
        """All was read: what is left over, and what the store holds beyond."""
        self._judge_twice()
        self._judge_undecided()
        for place, (decision, _) in self._early.items():
            if place[1] < self._ends.get(place[0], 0):
                self._findings.broken(
                    1,
                    "was decided of an event that is not there",
                    f"{decision.transaction_id} (event {_at(place)})",
                )
        if self._seen.cut_off:
            self._judge_rest()
        else:
            self._replay.finish(self._on_disorder)
            self._judge_profiles()
            self._judge_counts()
        if self._unread:
            self._findings.remark(
                2,
                f"the features of {self._unread:,} decisions were not compared: they are not on the topic "
                "or in Redis, or rest on labels that cannot be played again",
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

    def _judge_twice(self) -> None:
        names, places = np.array(self._names, dtype=np.uint64), np.array(self._places, dtype=np.int64)
        order = np.argsort(names, kind="stable")
        names, places = names[order], places[order]
        for at in np.flatnonzero(names[1:] == names[:-1]).tolist():
            pair = " and ".join(_at(_split(int(place))) for place in places[at : at + 2])
            self._findings.broken(1, "two events of one transaction were each decided", f"events {pair}")
        self._decided = names

    def _has_decision(self, name: str) -> bool:
        key = np.uint64(digest(name))
        at = int(np.searchsorted(self._decided, key))
        return at < self._decided.size and self._decided[at] == key

    def _judge_undecided(self) -> None:
        for place, (record, name) in self._waiting.items():
            if name is not None and self._has_decision(name):
                self.copies += 1
                continue
            partition, offset = place
            if offset >= self._seen.committed.get(partition, 0):
                self.lag += 1
                self._note_in_work(record)
            elif not self._is_within(record):
                self.outside += 1
            else:
                self.lost += 1
                admitted = admit_transaction(record, self._limits)
                if isinstance(admitted, Rejected):
                    what = "an event that cannot be processed has no dead letter"
                    self._findings.broken(4, what, f"event {_at(place)}: {admitted.reason}")
                else:
                    self._findings.broken(1, "has no decision", f"{name} (event {_at(place)})")
                    self._findings.broken(
                        4, "an acknowledged event has neither decision nor dead letter", f"event {_at(place)}"
                    )

    def _note_in_work(self, record: Record) -> None:
        """Its profiles may hold an event whose decision has not come yet."""
        try:
            payment = transaction_decoder.decode(record.value or b"")
        except msgspec.DecodeError:
            return
        found = Case(record, payment, _NOBODY, b"", self._spec)
        self._touched_in_work.update(
            name for name, _ in found.entities if record.offset <= self._seen.fence(name, record.partition)
        )

    def _on_disorder(self, name: str, turn: Turn, held: int) -> None:
        if name in self._touched_in_work:
            return
        self._findings.broken(
            2,
            OTHER_ORDER,
            f"{name}: {turn.case.decision.transaction_id} (event {_at(turn.case.place)}) read "
            f"{turn.before} events where the log gives {held}",
        )

    def _judge_profiles(self) -> None:
        skipped = 0
        for name, (updates, _) in self._seen.profiles.items():
            if name in self._touched_in_work:
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

    def _judge_counts(self) -> None:
        counts = self._seen.counts
        if counts is None or self.lag:
            return
        for told, found in (("decided", self.decided), ("rejected", self.rejected), ("copies", self.copies)):
            if counts[told] != found:
                self._findings.broken(
                    4,
                    "the counters in Redis are not those of the log",
                    f"{told}: {counts[told]:,} and {found:,}",
                )

    def _is_within(self, record: Record) -> bool:
        start, end = self._within
        return start <= record.timestamp_ms / 1000.0 < end


_NOBODY = served_decoder.decode(
    b'{"transaction_id":"","decided_at":"1970-01-01T00:00:00Z","action":"","model_version":""}'
)


def _name(record: Record) -> str | None:
    try:
        return _named(record.value or b"").transaction_id
    except (msgspec.DecodeError, RecursionError):
        return None


class _Named(msgspec.Struct, frozen=True):
    transaction_id: str


_named = msgspec.json.Decoder(_Named).decode


def _at(place: tuple[int, int]) -> str:
    return f"{place[0]}/{place[1]}"


def _split(place: int) -> tuple[int, int]:
    return place >> _SHIFT, place & ((1 << _SHIFT) - 1)


class Learns(Protocol):
    """A model as the judge sees it."""

    def score_one(self, x: dict[str, float], /) -> float:
        """The probability of fraud."""
        ...

    def learn_one(self, x: dict[str, float], y: bool, /) -> None:
        """Learn one example."""
        ...


class Model(NamedTuple):
    """A model, and how much it says it has learned."""

    version: str
    learned: int
    model: Learns


def judge_models(
    findings: Findings, published: Model, replayed: Model, examples: Sequence[dict[str, float]]
) -> int:
    """Compare the newest published model with the one that the log of labels gives.

    Predictions are compared, then once more after both have learned the same examples: a young model's
    predictions do not show yet all that it has learned. Both models are changed by it.

    Returns:
        How many predictions were compared, to the bit.
    """
    if published.learned != replayed.learned:
        findings.broken(
            3,
            "a model says it has learned another number of labels than the log gives",
            f"{published.version}: {published.learned:,} and {replayed.learned:,}",
        )
    figures, wanted = _figures(published.model), _figures(replayed.model)
    differing = [
        f"{name} {figures.get(name)} and {wanted[name]}"
        for name in wanted
        if figures.get(name) != wanted[name]
    ]
    compared = 0
    for further in (False, True):
        if further:
            for place, x in enumerate(examples):
                published.model.learn_one(x, place % 2 == 0)
                replayed.model.learn_one(x, place % 2 == 0)
        wrong = sum(published.model.score_one(x).hex() != replayed.model.score_one(x).hex() for x in examples)
        compared += len(examples)
        if wrong:
            after = ", after both learned them" if further else ""
            differing.append(f"{wrong:,} of {len(examples):,} predictions{after}")
    if differing:
        findings.broken(
            3,
            "a model is not the one that learns each label of the log once",
            f"{published.version}: {'; '.join(differing)}",
        )
    return compared


def _figures(model: object) -> dict[str, object]:
    """The plain numbers among what a model holds."""
    return {name: value for name, value in vars(model).items() if isinstance(value, (int, float))}


class LabelsSeen(NamedTuple):
    """What stands in the store by labels, read before the labels were.

    Attributes:
        profiles: label profiles, of each entity.
        known: of each transaction, as stored.
        standing_fence: by transaction, the label up to which standings were given.
        profile_fence: by entity, the label up to which its profile was informed.
    """

    profiles: Mapping[str, tuple[int, bytes]]
    known: Mapping[str, bytes]
    standing_fence: Callable[[str], int]
    profile_fence: Callable[[str], int]


def judge_labels(
    findings: Findings,
    labels: ReplayedLabels,
    seen: LabelsSeen,
    *,
    digest: Callable[[LabelProfile], bytes],
    remembered: float,
) -> None:
    """Compare what the store knows by labels with what the log of labels gives, to the bit.

    Args:
        findings: take what is broken.
        labels: played.
        seen: what stands in the store.
        digest: of a label profile's bytes.
        remembered: seconds since 1970 from which everything must still be known.
    """
    for name, (updates, held) in seen.profiles.items():
        profile = labels.profile(name, updates)
        if profile is None:
            what = "its label profile in Redis holds more labels than the log gives"
            findings.broken(3, what, f"{name}: {updates} and {labels.updates(name)}")
        elif digest(profile) != held:
            what = "its label profile in Redis is not what its labels give"
            findings.broken(3, what, f"{name} after {updates} labels")
    for name in labels.entities():
        held_updates = seen.profiles[name][0] if name in seen.profiles else 0
        if held_updates < (due := labels.updates(name, until=seen.profile_fence(name))):
            what = "its label profile in Redis lacks labels that Redis says it has applied"
            findings.broken(3, what, f"{name}: {held_updates} of {due}")
    for name, known in labels.known.items():
        stored = seen.known.get(name)
        if known.offset > seen.standing_fence(name) or (stored is None and known.came < remembered):
            continue
        if stored != known.stored:
            what = "what Redis knows of it is not the latest knowledge of the log"
            findings.broken(3, what, f"{name}: {_told(stored)}, and the log says {_told(known.stored)}")
    for name in seen.known.keys() - labels.known.keys():
        what = "Redis knows something of it that no label of the log says"
        findings.broken(3, what, f"{name}: {_told(seen.known[name])}")


def _told(stored: bytes | None) -> str:
    if not stored:
        return "nothing"
    return f"{'fraud' if stored[:1] == b'1' else 'genuine'}, known at {stored[1:].decode(errors='replace')}"
