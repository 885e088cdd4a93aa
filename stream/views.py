"""The parts of a message that a reader needs: a view decodes a few fields and skips the rest.

A view is a subset of `stream.messages`, decoded from the same bytes, for readers that go through millions of
messages. Each stands here once; a field that a view requires is one that the whole message requires.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import msgspec

from stream.messages import Label, Time

NO_FEATURES = msgspec.Raw(b"null")
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what decoding bytes of others raises

View = TypeVar("View")


class Identified(msgspec.Struct, frozen=True):
    """Whose message it is: of a transaction, a decision, an alert or a label."""

    transaction_id: str


class TimedDecision(msgspec.Struct, frozen=True):
    """When the transaction of a decision happened."""

    transaction_id: str
    event_time: Time
    content_digest: str = ""


class DecisionHead(msgspec.Struct, frozen=True):
    """What sending a recorded decision needs, and recording one that was sent."""

    transaction_id: str
    card_id: str
    action: str
    origin: tuple[int, int]
    content_digest: str = ""
    epoch: int = 0


class ServedDecision(msgspec.Struct, frozen=True):
    """What recomputing a decision from the logs needs.

    Attributes:
        origin: partition and offset of the transaction; `epoch`: of its log.
        entities: by kind: key, how many events and how many labels its profile held when it was read.
        features: JSON, as served; `NO_FEATURES` where the setting keeps them off the topic.
        content_digest: of the transaction as it was admitted.
    """

    transaction_id: str
    decided_at: Time
    action: str
    model_version: str
    origin: tuple[int, int] = (-1, -1)
    epoch: int = 0
    entities: dict[str, tuple[str, int, int]] = {}
    features: msgspec.Raw = NO_FEATURES
    content_digest: str = ""


class LabelledDecision(msgspec.Struct, frozen=True):
    """What playing the log of labels again needs of a labelled transaction's decision."""

    event_time: Time
    decided_at: Time
    entities: dict[str, tuple[str, int, int]]
    features: msgspec.Raw = NO_FEATURES


class LearnedDecision(msgspec.Struct, frozen=True):
    """What the learner needs of a labelled transaction's decision."""

    event_time: Time
    entities: dict[str, tuple[str, int, int]]
    features: dict[str, float] | None = None  # a decision that came back from `scores` may lack them


class ScoredDecision(msgspec.Struct, frozen=True):
    """What measuring the quality of a decision needs."""

    transaction_id: str
    event_time: datetime
    card_id: str
    score: float
    action: str
    origin: tuple[int, int] = (-1, -1)


class AlertActivity(msgspec.Struct, frozen=True):
    """What an alert holds beyond its decision."""

    transaction_id: str
    origin: tuple[int, int]
    recent_activity: msgspec.Raw
    epoch: int = 0


def _optional(view: type[View]) -> Callable[[bytes | None], View | None]:
    decode = msgspec.json.Decoder(view).decode

    def read(value: bytes | None) -> View | None:
        try:
            return decode(value or b"")
        except UNREADABLE:
            return None

    return read


_identified = _optional(Identified)
read_timed_decision = _optional(TimedDecision)
read_served_decision = _optional(ServedDecision)
read_scored_decision = _optional(ScoredDecision)
read_label = _optional(Label)
decision_head = msgspec.json.Decoder(DecisionHead).decode
timed_decision = msgspec.json.Decoder(TimedDecision).decode
served_decision = msgspec.json.Decoder(ServedDecision).decode
labelled_decision = msgspec.json.Decoder(LabelledDecision).decode
learned_decision = msgspec.json.Decoder(LearnedDecision).decode
alert_activity = msgspec.json.Decoder(AlertActivity).decode
features_of_json = msgspec.json.Decoder(dict[str, float]).decode


def transaction_id_of(value: bytes | None) -> str | None:
    """The transaction that a message is about; None where the bytes do not say.

    >>> transaction_id_of(b'{"transaction_id":"t1","score":0.5}'), transaction_id_of(b"junk")
    ('t1', None)
    """
    found = _identified(value)
    return None if found is None else found.transaction_id
