"""Payments and labels out of the topics, for one pass: read, admitted as workers admit them, put in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import msgspec

from models.features.spec import FeatureSpec
from producers.sources.open_source import SourceError
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.scan import read_spans
from stream.admission import Rejected, admit_label, admit_transaction
from stream.config.factories import feature_spec, limits_of
from stream.experiment.delayed_labels import DelayedLabels
from stream.experiment.topics.range import LABELS, TopicRange, fields_missing
from stream.history.event_order import Disorder, EventOrder, Placed, look_ahead_of
from stream.messages import Label, Transaction, decision_decoder
from stream.records import Record

T = TypeVar("T", Transaction, Label)
DAY = 86_400.0


@dataclass
class _Left:
    """Messages that were left out for one reason, and the first of them."""

    count: int
    first: str


@dataclass
class _Reading:
    """What was read of a topic.

    Attributes:
        handled: messages that came out again, as an item or as rejected.
    """

    topic: str
    handled: int = 0
    rejected: dict[str, _Left] = field(default_factory=dict)
    order: EventOrder[Any] | None = None

    def reject(self, record: Record, why: Rejected) -> None:
        """A worker would make a dead letter of it."""
        self.handled += 1
        place = f"{self.topic}/{record.partition}@{record.offset}: {why.detail}"
        self.rejected.setdefault(why.reason, _Left(0, place)).count += 1


class TopicSource:
    """What an experiment goes through, and what became of it. For one pass.

    Args:
        ranged: what is read.
        spec: what the features are made of.

    Raises:
        SourceError: the decisions do not tell what the features need.
    """

    def __init__(self, ranged: TopicRange, spec: FeatureSpec) -> None:
        settings = ranged.settings
        self._range = ranged
        self._limits = limits_of(settings)
        self._payments = _Reading(settings.topic(ranged.events))
        self._labels = _Reading(settings.topic(LABELS))
        self._delayed_labels = DelayedLabels(
            maturity=float(settings.maturity),
            label_wait=float(settings.label_wait),
            remembered=float(settings.decision_ttl),
            start=float("-inf") if ranged.start is None else ranged.start.timestamp(),
            end=float("inf") if ranged.end is None else ranged.end.timestamp(),
        )
        self.counts = self._delayed_labels.counts
        self.corrected = self._delayed_labels.corrected
        self._admit: Callable[[Record], Transaction | Rejected] = self._transaction
        if ranged.events == "scores":
            installed = feature_spec(settings)
            if missing := fields_missing(spec, installed):
                raise SourceError(
                    f"--events scores: a decision does not tell {', '.join(missing)}, which features need: "
                    "read the topic transactions, or leave them out of the --features"
                )
            self._keys = {each.kind: each.fields[0] for each in installed.entities if not each.fields[1:]}
            self._admit = self._decision

    @property
    def name(self) -> str:
        """What is gone through, for people."""
        return f"topic {self._payments.topic}"

    @property
    def done(self) -> int:
        """Messages of payments that are done."""
        return self._payments.handled

    def items(self) -> Iterator[Transaction | Label]:
        """Payments and labels in the order in which they are known; can be gone through once.

        Raises:
            TopicUnreadableError: Kafka does not answer.
        """
        payments = self._in_order(
            self._payments, self._range.events, self._admit, lambda found: found.event_time.timestamp()
        )
        labels = self._in_order(
            self._labels,
            LABELS,
            lambda record: admit_label(record, self._limits),
            lambda found: found.known_at.timestamp(),
        )
        return self._delayed_labels.items(payments, labels)

    def _in_order(
        self,
        reading: _Reading,
        name: str,
        admit: Callable[[Record], T | Rejected],
        time_of: Callable[[T], float],
    ) -> Iterator[Placed[T]]:
        spans = self._range.offsets[name]
        reading.order = order = EventOrder[T](spans, look_ahead=look_ahead_of(len(spans)))
        batches = read_spans(
            confluent(self._range.settings),
            reading.topic,
            spans,
            wanted=lambda: order.hungry,
            ended=order.end,
        )
        for batch in batches:
            for record in batch:
                found = admit(record)
                if isinstance(found, Rejected):
                    reading.reject(record, found)
                else:
                    order.add(Placed(time_of(found), record.partition, record.offset, found))
            for placed in order.ready():
                reading.handled += 1
                yield placed

    def _transaction(self, record: Record) -> Transaction | Rejected:
        return admit_transaction(record, self._limits)

    def _decision(self, record: Record) -> Transaction | Rejected:
        """The payment as its decision tells it."""
        try:
            lines = decision_decoder.decode(record.value or b"")
            keys = {
                self._keys[kind]: key for kind, (key, _, _) in lines.entities.items() if kind in self._keys
            }
            fields = {name: getattr(lines, name) for name in _FIELDS}
            return msgspec.convert(keys | fields, Transaction)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            return Rejected("invalid", str(error))

    def lines(self) -> list[str]:
        """What became of messages, payments and labels, for people."""
        counts, maturity = self.counts, float(self._range.settings.maturity) / DAY
        lines = [f"{self.done:,} messages of {self._payments.topic} read: {counts.payments:,} payments"]
        lines += _counted(
            (counts.outside, "payments outside the time limits"),
            (
                counts.duplicates,
                f"payments discarded: their id had come before (first {counts.first_duplicate})",
            ),
        )
        lines += _wrong(self._payments, "payments")
        lines.append(
            f"{counts.labels:,} labels read: {counts.told:,} told something new; {counts.silent:,} payments "
            f"that nobody reported count as genuine after {maturity:g} days"
        )
        lines += _counted(
            (counts.logged_assumed, "assumed-genuine labels in the log not used: they are counted anew"),
            (counts.duplicate_labels, "labels said what was known"),
            (counts.superseded, "labels were older than what was known"),
            (
                counts.corrections,
                "labels corrected an earlier one: measured by them, learned by the first "
                f"({counts.late_frauds:,} of them frauds reported after they were assumed genuine)",
            ),
            (counts.unknown, "labels left out: their payment is not in the range"),
        )
        return lines + _wrong(self._labels, "labels")


_FIELDS = (
    "transaction_id",
    "event_time",
    "card_id",
    "merchant_id",
    "amount_minor",
    "currency",
    "country",
    "category",
    "channel",
)


def _counted(*counts: tuple[int, str]) -> list[str]:
    return [f"{count:,} {what}" for count, what in counts if count]


def _wrong(reading: _Reading, what: str) -> list[str]:
    """What could not be used, and what was out of order."""
    lines = [
        f"{left.count:,} messages discarded: {reason} (first {left.first})"
        for reason, left in sorted(reading.rejected.items(), key=lambda each: -each[1].count)
    ]
    items, furthest, late = Disorder() if reading.order is None else reading.order.disorder
    if items:
        lines.append(
            f"{items:,} {what} out of order by up to {timedelta(seconds=round(furthest))}: "
            f"{items - late:,} sorted, {late:,} taken late"
        )
    return lines
