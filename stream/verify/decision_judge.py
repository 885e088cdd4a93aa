"""The judge of decisions: one for each transaction, the same in every duplicate and in the store. Pure."""

from __future__ import annotations

from array import array

import msgspec
import numpy as np

from models.metrics.decision_window import digest
from stream.decisions import split_recorded
from stream.history.join import FirstDecisions, pack_place, unpack_place
from stream.records import Record
from stream.verify.promises import Findings, event_at
from stream.verify.seen import Seen
from stream.views import NO_FEATURES, ServedDecision, read_served_decision, served_decision

_BITS = 2**64 - 1
_MARK = "redelivered"


class DecisionJudge:
    """Judges promise 1, but for events without a decision. Kept are 33 bytes a decision.

    Args:
        findings: take what is broken.
        seen: what is in the store and what is acknowledged.

    Attributes:
        decided: events with a decision.
        duplicates: further messages of a decision.
        versions: of the models that decided.
    """

    def __init__(self, findings: Findings, seen: Seen) -> None:
        self._findings = findings
        self._seen = seen
        self._contents: dict[int, array[int]] = {}
        self._unmarked = FirstDecisions(seen.starts)
        self._names, self._places = array("Q"), array("q")
        self._digests = array("Q")
        self._former: dict[int, int] = {}  # by name, their contents
        self._decided = self._decided_contents = np.zeros(0, dtype=np.uint64)
        self.versions: set[str] = set()
        self.decided = self.duplicates = 0

    def first(self, record: Record, recorded: bytes | None) -> ServedDecision | None:
        """The decision in a message of `scores`, with its features; None where it is no event's first.

        Args:
            record: the message.
            recorded: what the store has recorded of its transaction.
        """
        value = record.value or b""
        decision = read_served_decision(value)
        if decision is None:
            where = f"{record.topic}[{record.partition}] offset {record.offset}"
            self._findings.broken(1, "a message among the decisions is none", where)
            return None
        if not self._seen.epochs.holds(decision.epoch, decision.origin):
            # Its event was in a log that is gone.
            self._former[digest(decision.transaction_id)] = _short(decision.content_digest)
            return None
        marked = any(name == _MARK for name, _ in record.headers)
        if not self._is_first(decision, value, marked=marked):
            return None
        self.versions.add(decision.model_version)
        line = None if recorded is None else split_recorded(recorded)[0]
        return self._compared(decision, value, line)

    def _is_first(self, decision: ServedDecision, value: bytes, *, marked: bool) -> bool:
        """Whether no decision on this event came before; the further ones must be the same bytes."""
        partition, offset = decision.origin
        name = f"{decision.transaction_id} ({event_at(decision.origin)})"
        if partition < 0:
            self._findings.broken(1, "a decision does not say where its transaction stands", name)
            return False
        contents = self._contents.setdefault(partition, array("Q"))
        at = offset - self._seen.starts.get(partition, 0)
        if at < 0:  # an event that is older than what the log still holds
            return False
        if at >= len(contents):
            contents.frombytes(bytes(8 * (at + 1 - len(contents))))
        content = (hash(value) & _BITS) or 1  # of this process alone: compared, not kept
        before = contents[at]
        if not marked and not self._unmarked.add(decision.origin):
            self._findings.broken(1, "was emitted twice, and no duplicate is marked as one", name)
        if before:
            self.duplicates += 1
            if before != content:
                self._findings.broken(1, "was decided twice, differently", name)
            return False
        contents[at] = content
        self._names.append(digest(decision.transaction_id))
        self._places.append(pack_place(decision.origin))
        self._digests.append(_short(decision.content_digest))
        self.decided += 1
        return True

    def _compared(self, decision: ServedDecision, value: bytes, line: bytes | None) -> ServedDecision:
        """The decision with its features, after it was compared with the line that the store has recorded."""
        name = f"{decision.transaction_id} ({event_at(decision.origin)})"
        if line is None:
            if decision.decided_at.timestamp() > self._seen.remembered:
                self._findings.broken(
                    1,
                    "its decision is not in Redis any more: sent again, it would be decided anew "
                    "(`riverwatch rebuild` puts it back)",
                    name,
                )
            return decision
        if decision.features != NO_FEATURES:
            same = line == value
        else:  # the setting keeps them off the topic
            kept = served_decision(line)
            same = _claim(kept) == _claim(decision)
            decision = msgspec.structs.replace(decision, features=kept.features)
        if not same:
            self._findings.broken(1, "is recorded in Redis otherwise than it was emitted", name)
        return decision

    def finish(self) -> None:
        """All decisions were read: no transaction may have two, at different events."""
        names, places = np.array(self._names, dtype=np.uint64), np.array(self._places, dtype=np.int64)
        order = np.argsort(names, kind="stable")
        names, places = names[order], places[order]
        for at in np.flatnonzero(names[1:] == names[:-1]).tolist():
            pair = " and ".join(event_at(unpack_place(int(place))) for place in places[at : at + 2])
            self._findings.broken(1, "two events of one transaction were each decided", pair)
        self._decided, self._decided_contents = names, np.array(self._digests, dtype=np.uint64)[order]

    def has_decision(self, name: str) -> bool:
        """After `finish`: whether a transaction was decided."""
        return self._content_of(name) is not None

    def contradicts(self, name: str, content: str) -> bool:
        """After `finish`: whether a transaction was decided of other content than the digest says."""
        return self._content_of(name) not in (None, 0, _short(content))

    def _content_of(self, name: str) -> int | None:
        """Of what content a transaction was decided, in this epoch or before; None where it was not."""
        key = np.uint64(digest(name))
        at = int(np.searchsorted(self._decided, key))
        if at < self._decided.size and self._decided[at] == key:
            return int(self._decided_contents[at])
        return self._former.get(int(key))


def _short(content: str) -> int:
    """64 bits of a digest of content; 0 for none."""
    try:
        return int(content[:16] or "0", 16)
    except ValueError:
        return 0


def _claim(decision: ServedDecision) -> tuple[object, ...]:
    return decision.origin, decision.decided_at, decision.action
