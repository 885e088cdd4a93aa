"""What the second judge finds, gathered by kind: one sentence a kind, with how often and a few examples."""

from __future__ import annotations

from typing import NamedTuple

MOST_EXAMPLES = 5

UNMARKED = "join: a decision was emitted more than once without the header redelivered"
DIFFERENT = "join: a transaction was decided twice, differently"
NO_EVENT = "join: a decision's origin leads to no event"
OTHER_EVENT = "join: a decision's origin leads to another transaction's event"
OTHER_FACTS = "join: a decision tells other facts than its event"
OTHER_CONTENT = "join: a decision records another content than its event has"
OTHER_ENTITIES = "join: a decision names other entities than its event"
OTHER_KEY = "join: a message's key is not its card_id"
UNREADABLE = "join: a message on scores or alerts is none"
ORDER = "order: the update counts of an entity's decisions have a gap or name a place twice"
FEW_COPIES = "account: a transaction was delivered more often than its decision was emitted"
MISSING = "account: an acknowledged event has neither decision nor dead letter"
BOTH = "account: an event has a decision and a dead letter"
NO_ORIGIN = "account: a dead letter's headers lead to no event"
ALTERED = "account: a dead letter does not hold its original's bytes"
IN_CLEAR = "account: a dead letter shows a card number"
NOT_WHOLE = "account: a topic has lost its beginning, so it cannot be judged"
REFUSED = "admission: a valid record became a dead letter"
ADMITTED = "admission: a record that must be refused was decided"
OTHER_REASON = "admission: a dead letter names another reason than the record gives"
NO_LETTER = "admission: an acknowledged record that must be refused has no dead letter"
NO_CONFLICT = "admission: a dead letter says id_conflict, and no decision has other content under its id"
CONFLICT_TAKEN = "admission: an event brings other content under a decided id and has no dead letter"
ALERT_MISSING = "alerts: a decision that needs action has no alert"
ALERT_EXTRA = "alerts: a decision that needs no action has an alert"
ALERT_OTHER = "alerts: an alert says otherwise than its decision"
ACTIVITY = "alerts: the recent activity of an alert is not that of its card's events"
PROFILE = "profile: what Redis holds of an entity is not what its events give"
PROFILE_LOST = "profile: Redis holds fewer events of an entity than were decided"
PROFILE_AHEAD = "profile: Redis holds more events of an entity than were decided"
LABELS_AHEAD = "labels: a decision was made with more labels of an entity than the log gives"
LABEL_PROFILE = "labels: what Redis holds of an entity's labels is not what the log gives"


def feature(name: str) -> str:
    """The kind of finding of a feature that was served otherwise than its arithmetic gives."""
    return f"feature {name}: served otherwise than the published arithmetic gives"


def is_feature(kind: str) -> bool:
    """Whether a kind of finding is of a feature."""
    return kind.startswith("feature ")


class Finding(NamedTuple):
    """One way in which the topics contradict what is published, and how often."""

    kind: str
    times: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        more = ", ..." if self.times > len(self.examples) else ""
        often = "once" if self.times == 1 else f"{self.times:,} times"
        return f"{self.kind} ({often}: {', '.join(self.examples)}{more})."


class Findings:
    """Collects findings by kind."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}

    def add(self, kind: str, example: str) -> None:
        """One more of a kind."""
        examples = self._found.setdefault(kind, [])
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if len(examples) < MOST_EXAMPLES:
            examples.append(example)

    def all(self) -> list[Finding]:
        """Everything found, in the order in which its kinds were first met."""
        return [Finding(kind, self._counts[kind], tuple(each)) for kind, each in self._found.items()]
