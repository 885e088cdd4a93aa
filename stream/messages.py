"""Every message of riverwatch, as it stands on the wire (JSON, UTF-8, one object a message).

Unknown fields are ignored, optional ones may be missing, and a field that is added later carries a default:
old readers keep working. Times are RFC 3339 in UTC, money is in minor units with an ISO 4217 code.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Time = Annotated[datetime, Meta(tz=True)]
Text = Annotated[str, Meta(max_length=256)]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$")]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
Action = Literal["approve", "review", "decline"]

MAX_AMOUNT_MINOR = 10**15
EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)  # no payment stream is older; 1970 is a missing value
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)


class Transaction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One payment event. Topic `transactions`, key `card_id`.

    Attributes:
        transaction_id: unique for a payment, the same in every delivery of it.
        event_time: when the payment was made, by the clock of its source.
        card_id: a token or keyed hash of the card, never its number.
        amount_minor: in minor units of `currency` (cents), > 0.
        attributes: any further facts; numbers and strings, flat.
    """

    transaction_id: Id
    event_time: Time
    card_id: Id
    merchant_id: Id
    amount_minor: Annotated[int, Meta(gt=0, le=MAX_AMOUNT_MINOR)]
    currency: Currency
    device_id: Id | None = None
    ip: Text | None = None
    country: Text | None = None
    category: Text | None = None
    channel: Text | None = None
    latitude: Annotated[float, Meta(ge=-90.0, le=90.0)] | None = None
    longitude: Annotated[float, Meta(ge=-180.0, le=180.0)] | None = None
    attributes: Annotated[dict[Text, float | Text], Meta(max_length=64)] = {}


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """What became known of a transaction. Topic `labels`, key `transaction_id`.

    Attributes:
        known_at: when it became known; the latest knowledge wins.
        source: who says so: chargeback, analyst, customer, maturity, ...
    """

    transaction_id: Id
    is_fraud: bool
    known_at: Time
    source: Text


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a score is what it is.

    Attributes:
        code: stable, for machines (the feature's name).
        text: a sentence for an analyst.
        contribution: in log-odds for a linear model; > 0 speaks for fraud.
    """

    code: str
    text: str
    contribution: float


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided of one transaction, and all that it rests on. Topic `scores`, key `card_id`.

    Attributes:
        score: calibrated probability of fraud.
        reasons: strongest first.
        model_version: the model that made the score; `unsupervised-...` before the first learned one.
        decided_at: by the clock of the worker.
        features: the model's input as served; absent where the setting turns them off.
        origin: where the transaction stands: `[partition, offset]` of its topic.
        epoch: of that topic, which a person may have begun anew under its name (`riverwatch adopt`): the same
            offset of another epoch is another event. Absent in the first, 0.
        entities: every entity the transaction updates: kind, then its key, how many events its profile held
            when it was read, and how many labels. For an entity that partitions share, the counts are the
            order in which they updated it.
        content_digest: of the transaction as it was admitted (`stream.decisions.content_digest`); empty in
            decisions that are older than the field.
    """

    transaction_id: str
    event_time: Time
    card_id: str
    merchant_id: str
    amount_minor: int
    currency: str
    score: Probability
    action: Action
    reasons: list[Reason]
    model_version: str
    decided_at: Time
    country: str | None = None
    category: str | None = None
    channel: str | None = None
    features: dict[str, float] | None = None
    origin: tuple[int, int] = (-1, -1)
    entities: dict[str, tuple[str, int, int]] = {}
    content_digest: str = ""
    epoch: int | msgspec.UnsetType = msgspec.UNSET


class Activity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One earlier event of a card, as an analyst sees it beside an alert."""

    event_time: Time
    amount_minor: int
    merchant_id: str
    country: str | None = None


class Alert(Decision, frozen=True, kw_only=True):
    """A decision that needs action. Topic `alerts`, key `card_id`.

    Attributes:
        alert_id: the same for every duplicate of the alert (`a-` and the transaction's id).
        recent_activity: the card's last events before this one, the latest first.
    """

    alert_id: str
    recent_activity: list[Activity]


class DriftSignal(msgspec.Struct, frozen=True, kw_only=True):
    """A change (`drift`), a measurement (`metric`), a log begun anew (`epoch`). Topic `drift`, key `signal`.

    Of an epoch, the signal is `epoch.TOPIC`, the segment `partition=P`, the value the epoch's first offset
    there and the reference its number.

    Attributes:
        signal: what is watched: `input.amount_log`, `score`, `fraud_loss`, `average_precision`, ...
        event_time: the event time up to which it holds.
        since: when the change began, as far as can be told; only of a drift.
        value: now (after the change).
        reference: before the change, or the figure to compare with.
        detector: `adwin` or `student`, or `window` for a metric.
        segment: `all`, or the part of the stream it is about (`country=FR`).
    """

    signal: str
    kind: Literal["drift", "metric", "epoch"]
    event_time: Time
    value: float
    reference: float | None = None
    detector: str = "window"
    segment: str = "all"
    since: Time | None = None


class ModelManifest(msgspec.Struct, frozen=True, kw_only=True):
    """One published model. Topic `models` (compacted), key the model's name.

    Attributes:
        name: the model's name.
        version: `NAME@NEXT_OFFSET`: the version says which labels the model has learned.
        next_offset: of the topic `labels`: the first label this model has not seen.
        learned: examples learned so far.
        created_at: by the learner's clock.
        event_time: the latest knowledge in it (`known_at`); absent before the first label.
        sha256: of the snapshot, hexadecimal.
        size: of the snapshot, bytes.
        blob: the signed snapshot (Base64 on the wire), where it is small enough for a message; else it is the
            file SHA256.model of `model_blob_dir`.
    """

    name: str
    version: str
    next_offset: int
    learned: int
    created_at: Time
    event_time: Time | None
    sha256: str
    size: int
    blob: bytes | None = None


transaction_decoder = msgspec.json.Decoder(Transaction)
label_decoder = msgspec.json.Decoder(Label)
decision_decoder = msgspec.json.Decoder(Decision)
alert_decoder = msgspec.json.Decoder(Alert)
signal_decoder = msgspec.json.Decoder(DriftSignal)
manifest_decoder = msgspec.json.Decoder(ModelManifest)
encode = msgspec.json.Encoder().encode

WIRE = {
    "transactions": Transaction,
    "labels": Label,
    "scores": Decision,
    "alerts": Alert,
    "drift": DriftSignal,
    "models": ModelManifest,
}
