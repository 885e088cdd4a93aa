"""What is known from labels, as the logs alone give it: one pass, one thread, the rules written anew.

Which labels found no decision depends on the moment they came, and the log tells it: a label that waited
stands in the log again, with a header that says up to which offset its transaction's labels waited.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from models.features.compute import label_delta_of
from models.features.profiles import LabelProfile, apply_label, no_labels
from models.features.spec import FeatureSpec
from stream.admission import UNKNOWN_TRANSACTION, Limits, Rejected, admit_label
from stream.dead_letters import WAITED, DeadLetter
from stream.learning import ASSUMED_GENUINE, NOTHING_KNOWN, is_sampled, last_waited, waited
from stream.records import Record
from stream.views import NO_FEATURES, labelled_decision

SKEW = 0.1  # seconds by which the clocks of two machines may differ


class _Label(NamedTuple):
    offset: int
    name: str
    is_fraud: bool
    known_at: float
    came: float  # when the record came to Kafka, seconds


class _Decided(NamedTuple):
    """What is kept of the decision of a labelled transaction."""

    event_time: float
    decided_at: float
    entities: tuple[str, ...]
    features: bytes


class ResolvedLabel(NamedTuple):
    """A label with its status.

    Attributes:
        status: see `stream.ports.LabelStore`.
        features: JSON, as served, where the label is one to learn; else empty.
    """

    offset: int
    name: str
    is_fraud: bool
    status: str
    features: bytes


class LatestLabel(NamedTuple):
    """The latest knowledge of a transaction.

    Attributes:
        offset: of the label that last changed or confirmed it.
        came: when that came to Kafka, seconds.
    """

    is_fraud: bool
    known_at: float
    offset: int
    came: float

    @property
    def stored(self) -> bytes:
        """As the store keeps it."""
        return b"%d%b" % (self.is_fraud, repr(self.known_at).encode())


class ReplayedLabels:
    """Takes the labels in, then the decisions of their transactions, and plays the labels once.

    Kept are some 250 bytes a label and the features of each transaction that is learned.

    Args:
        spec: the features.
        limits: what is taken for believable.
        negative_sampling_rate: the share of genuine transactions that is learned.
        decision_ttl: seconds that a decision is remembered, > 0.
    """

    def __init__(
        self, spec: FeatureSpec, limits: Limits, negative_sampling_rate: float, decision_ttl: float
    ) -> None:
        self._spec = spec
        self._limits = limits
        self._negative_sampling_rate = negative_sampling_rate
        self._ttl = decision_ttl
        self._log: list[_Label] = []
        self._requeued: dict[str, int] = {}
        self._resolved_by: list[tuple[int, float]] = []
        self._left: dict[str, set[int]] = {}
        self._early: dict[str, int] = {}
        self._decided: dict[str, _Decided | None] = {}
        self._deltas: dict[str, list[tuple[int, str, float, bool, bool]]] = {}
        self._at: dict[str, tuple[int, LabelProfile]] = {}
        self.known: dict[str, LatestLabel] = {}
        self.silent: set[str] = set()
        self.rejected: set[int] = set()
        self.end = 0
        self.is_whole = True  # no label and no decision of one has gone: else profiles cannot be told

    def __len__(self) -> int:
        return len(self._log)

    def add(self, record: Record) -> None:
        """The next label of the log, readable or not."""
        self.end = record.offset + 1
        label = admit_label(record, self._limits)
        if isinstance(label, Rejected):
            self.rejected.add(record.offset)
            return
        name = label.transaction_id
        known_at = label.known_at.timestamp()
        if label.source == ASSUMED_GENUINE:
            known_at = NOTHING_KNOWN
            self.silent.add(name)
        self._log.append(_Label(record.offset, name, label.is_fraud, known_at, record.timestamp_ms / 1000.0))
        self._decided.setdefault(name, None)
        for header, value in record.headers:
            if header == WAITED and value.isdigit():
                self._requeued[name] = max(int(value), self._requeued.get(name, -1))

    def add_pending(self, name: str, entry: bytes) -> None:
        """A label that waits still, as the store keeps it."""
        self._left.setdefault(name, set()).update((waited(entry)[0], last_waited(entry)))

    def add_published(self, next_offset: int, at: float) -> None:
        """A model came to Kafka at a time (seconds): labels before `next_offset` had their status by then.

        So one whose decision was made later found none and waited, though it is pending no more.
        """
        if not self._resolved_by or next_offset > self._resolved_by[-1][0]:
            self._resolved_by.append((next_offset, at))

    def add_expired(self, name: str, offset: int, last: int) -> None:
        """A label that waited until it became a dead letter, and the last of its transaction that waited."""
        self._left.setdefault(name, set()).update((offset, last))

    def add_dead_letter(self, key: bytes | None, letter: DeadLetter) -> bool:
        """Take in a label that expired; False where the letter says that it cannot be processed."""
        if letter.reason != UNKNOWN_TRANSACTION or key is None:
            return False
        self.add_expired(key.decode(errors="replace"), letter.offset, letter.last_waited)
        return True

    def wants(self, name: str) -> bool:
        """Whether the decision of this transaction matters."""
        return name in self._decided

    def add_decision(self, name: str, value: bytes) -> None:
        """The decision of a labelled transaction, with its features; the first one counts."""
        if self._decided.get(name, self) is None:
            found = labelled_decision(value)
            self._decided[name] = _Decided(
                found.event_time.timestamp(),
                found.decided_at.timestamp(),
                tuple(f"{kind}:{key}" for kind, (key, _, _) in found.entities.items()),
                bytes(found.features),
            )

    def is_pending(self, name: str, offset: int) -> bool:
        """Whether a label waits still: it found no decision, was not requeued since and did not expire."""
        if offset in self.rejected or offset <= max(self._left.get(name, (-1,))):
            return False
        decided = self._decided.get(name)
        if decided is None:
            return name in self._decided
        return offset > self._requeued.get(name, -1) and self._resolved_before(offset, decided)

    def undecided(self) -> Iterator[str]:
        """Labelled transactions whose decision did not come, and whose labels did not wait for it."""
        return (name for name, decided in self._decided.items() if decided is None and name not in self._left)

    def unresolved(self) -> Iterator[tuple[str, int]]:
        """Transactions whose label is pending or has expired, and where it stood."""
        for name, offsets in self._left.items():
            yield name, max(offsets)

    def is_decided(self, name: str) -> bool:
        """Whether the labelled transaction has a decision."""
        return self._decided.get(name) is not None

    def play(
        self, resolved: Callable[[ResolvedLabel], None], *, at: int | None = None
    ) -> Mapping[str, LatestLabel]:
        """Resolve the status of every label, in the order of the log.

        Args:
            resolved: called with each.
            at: an offset.

        Returns:
            What was known of each transaction before the label at `at`, or at the end.
        """
        self._find_early()
        before: dict[str, LatestLabel] | None = None
        for label in self._log:
            if at is not None and label.offset >= at and before is None:
                before = dict(self.known)
            decided = self._decided[label.name]
            if decided is not None and self._waited(label, decided):
                decided = None
            status = self._resolve(label, decided=decided is not None)
            features = b""
            if decided is not None and status in ("new", "correction"):
                is_correction = status == "correction"
                delta = (label.offset, label.name, decided.event_time, label.is_fraud, is_correction)
                for entity in decided.entities:
                    self._deltas.setdefault(entity, []).append(delta)
                if label.is_fraud or is_sampled(label.name, self._negative_sampling_rate):
                    features = decided.features if decided.features != bytes(NO_FEATURES) else b""
            resolved(ResolvedLabel(label.offset, label.name, label.is_fraud, status, features))
        return self.known if before is None else before

    def _waited(self, label: _Label, decided: _Decided) -> bool:
        """Whether the label found no decision: too early, or so late that it was forgotten."""
        if label.offset <= self._requeued.get(label.name, -1):
            return True
        if self._is_late(label, decided):
            return label.offset in self._left.get(label.name, ())
        return label.offset <= self._early.get(label.name, -1) or self._resolved_before(label.offset, decided)

    def _resolved_before(self, offset: int, decided: _Decided) -> bool:
        """Whether a label had its status before its transaction was decided."""
        at = bisect_right(self._resolved_by, (offset, math.inf))
        return at < len(self._resolved_by) and decided.decided_at > self._resolved_by[at][1] + SKEW

    def _is_late(self, label: _Label, decided: _Decided) -> bool:
        return label.came > decided.decided_at + self._ttl / 2.0

    def _find_early(self) -> None:
        """Of each transaction the last label that is pending, or has expired, before its decision came."""
        for label in self._log:
            decided = self._decided[label.name]
            if (
                decided
                and label.offset in self._left.get(label.name, ())
                and not self._is_late(label, decided)
            ):
                self._early[label.name] = label.offset

    def _resolve(self, label: _Label, *, decided: bool) -> str:
        known = self.known.get(label.name)
        latest = LatestLabel(label.is_fraud, label.known_at, label.offset, label.came)
        if known is not None and known.is_fraud == label.is_fraud:
            known_at = max(known.known_at, label.known_at)
            self.known[label.name] = latest._replace(known_at=known_at)
            return "duplicate"
        if known is not None and label.known_at < known.known_at:
            return "superseded"
        if not decided:
            return "pending"
        self.known[label.name] = latest
        return "new" if known is None else "correction"

    def updates(self, entity: str, *, until: int | None = None) -> int:
        """How many labels an entity has, up to an offset (included) or in all."""
        found = self._deltas.get(entity, ())
        return len(found) if until is None else sum(offset <= until for offset, *_ in found)

    def entities(self) -> Mapping[str, object]:
        """The entities that have labels."""
        return self._deltas

    def profile(self, entity: str, updates: int) -> LabelProfile | None:
        """The label profile of an entity after so many labels; None where the log does not give as many.

        Questions about one entity are cheapest with rising numbers.
        """
        known = self._deltas.get(entity, ())
        if updates > len(known) or (updates and not self.is_whole):
            return None
        none = no_labels(len(self._spec.half_lives))
        at, profile = self._at.get(entity, (0, none))
        if at > updates:
            at, profile = 0, none
        for _, transaction, time, is_fraud, corrects in known[at:updates]:
            delta = label_delta_of(transaction, time, is_fraud, self._spec)._replace(corrects=corrects)
            profile = apply_label(profile, delta)
        if known:
            self._at[entity] = updates, profile
        return profile
