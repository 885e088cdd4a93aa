"""What the model knew when it decided one transaction: computed again from the logs."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from models.features.compute import event_of, features_of
from models.features.profiles import ProfileSnapshot
from models.scoring.anomaly import UnsupervisedModel
from stream.adapters.kafka.scan import Progress
from stream.config.factories import policy_of
from stream.config.settings import Settings
from stream.history.logs import Logs, RebuiltModels, parse_version
from stream.inspect.entity_view import View, profile_at, view
from stream.messages import Action, Decision, Transaction, decision_decoder, encode, transaction_decoder
from stream.pipeline import reason_text
from stream.serving import first_model, rescored, served
from stream.views import read_served_decision


class NotDecided(Exception):  # noqa: N818 - an answer
    """No decision on the transaction is on the topic, or it cannot be explained; says why."""


class Feature(msgspec.Struct, frozen=True):
    """One input of the model.

    Attributes:
        contribution: in log-odds; of the default model all of them and the `bias` add up to `log_odds`.
    """

    name: str
    value: float | None
    contribution: float
    text: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What was known, and what came of it.

    Attributes:
        decision: as it was recorded.
        entities: each as it was read, before the transaction; by kind.
        learned: examples that the model had seen.
        log_odds: of the score.
        bias: the log-odds where no feature speaks.
        features: the strongest first; those that say nothing come last.
        follows: whether the features are, to the bit, those of the profiles.
        is_same: whether the score is, to the bit, the one that was recorded.
    """

    decision: Decision
    entities: dict[str, View]
    model_version: str
    learned: int
    score: float
    log_odds: float
    bias: float
    features: list[Feature]
    review_from: float
    decline_from: float
    action: Action
    follows: bool
    is_same: bool
    remarks: list[str]


def explain(settings: Settings, transaction_id: str, *, progress: Progress | None = None) -> Explanation:
    """Explain one decision.

    Args:
        settings: those that the workers run with.
        transaction_id: of the transaction.
        progress: called now and then with a topic, the messages read of it and how many it seemed to hold.

    Raises:
        NotDecided: it has no decision here, or its model or features cannot be had.
        TopicUnreadableError, TopicMismatch, DependencyDown: Kafka does not answer, or has other topics.
    """
    logs = Logs(settings, progress=progress)
    logs.read_labels()
    raw = None
    for head, value in logs.decisions():
        if head.transaction_id == transaction_id and raw is None:
            raw = value
    if raw is None:
        raise NotDecided(
            f"{transaction_id}: no decision on it is on {settings.topic('scores')}: is the ID right, and was "
            "it decided yet?"
        )
    decision = decision_decoder.decode(raw)
    if decision.features is None:
        raise NotDecided(f"{transaction_id}: its features are neither on the topic nor in Redis")
    name, offset = parse_version(decision.model_version, settings.model) or ("", logs.labels.end + 1)
    if offset > logs.labels.end:
        raise NotDecided(
            f"{transaction_id}: was decided by {decision.model_version}, and the log of {logs.labels.end:,} "
            "labels gives no such model"
        )
    learner = RebuiltModels(settings, logs.spec, [name] if name else [])
    logs.labels.play(lambda resolved: learner(resolved) if resolved.offset < offset else None)
    payment, snapshots = _snapshots(logs, decision)
    event = event_of(payment, logs.spec)
    features = features_of(payment, event, tuple(snapshots), tuple(snapshots.values()), logs.spec)
    follows = encode(features) == encode(decision.features)
    policy = policy_of(settings)
    model: Any = learner.models[name] if name else UnsupervisedModel()
    in_use = served(decision.model_version, model, policy) if name else first_model(policy)
    again = rescored(decision, in_use, policy)
    told = _features(decision, model)
    log_odds = log_odds_of(model, decision.features, again.score)
    at = decision.event_time.timestamp()
    return Explanation(
        decision=decision,
        entities={
            kind: view(f"{kind}:{decision.entities[kind][0]}", *snapshot, logs.spec, at)
            for kind, snapshot in snapshots.items()
        },
        model_version=in_use.version,
        learned=learner.learned,
        score=again.score,
        log_odds=log_odds,
        bias=getattr(model, "bias", log_odds - sum(feature.contribution for feature in told)),
        features=told,
        review_from=in_use.thresholds.review,
        decline_from=in_use.thresholds.decline,
        action=again.action,
        follows=follows,
        is_same=again.score == decision.score,
        remarks=logs.remarks,
    )


def log_odds_of(model: Any, x: dict[str, float], score: float) -> float:
    """What the model says, or, where it is one of the user's own and has no such method, what its score is.

    >>> log_odds_of(object(), {}, 0.5)
    0.0
    """
    if hasattr(model, "log_odds"):
        return float(model.log_odds(x))
    bounded = min(max(score, 1e-12), 1.0 - 1e-12)
    return math.log(bounded / (1.0 - bounded))


def _features(decision: Decision, model: Any) -> list[Feature]:
    features = decision.features or {}
    contributions = dict(model.explain_one(features))
    names = [*contributions, *(name for name in features if name not in contributions)]
    return [
        Feature(name, features.get(name), contributions.get(name, 0.0), _meaning(name, features, decision))
        for name in names
    ]


def _meaning(name: str, features: dict[str, float], decision: Decision) -> str:
    """What a feature says; that others have it and this transaction does not contributes, too."""
    if name in features:
        return reason_text(name, features, decision)
    return "is another here" if "=" in name else "is not known here"


def _snapshots(logs: Logs, decision: Decision) -> tuple[Transaction, dict[str, ProfileSnapshot]]:
    """The transaction, and of each of its entities what was read: the events before it, in their order.

    The order of an entity's events is what decisions say: how many its profile held when each was read.
    """
    turns = _turns(logs, decision)
    payment: Transaction | None = None
    events: dict[str, list[tuple[int, Transaction]]] = {}
    for record in logs.topics.records("transactions"):
        place = (record.partition, record.offset)
        if place not in turns:
            continue
        found = transaction_decoder.decode(record.value or b"")
        if place == decision.origin:
            payment = found
        for kind, count in turns[place]:
            events.setdefault(kind, []).append((count, found))
    if payment is None:
        raise NotDecided(f"{decision.transaction_id}: its transaction is no longer on its topic")
    max_recents = {entity.kind: entity.max_recent for entity in logs.spec.entities}
    snapshots = {}
    for kind, (key, before, known) in decision.entities.items():
        own = events.get(kind, [])
        if len(own) < before:
            logs.remarks.append(f"{kind}:{key}: {before - len(own):,} of its {before:,} events are gone")
        labels = logs.labels.profile(f"{kind}:{key}", known)
        if labels is None:
            raise NotDecided(f"{decision.transaction_id}: was decided with labels that the log does not hold")
        profile = profile_at(own, max_recents.get(kind, 0), logs.spec, math.inf)
        snapshots[kind] = ProfileSnapshot(profile, labels)
    return payment, snapshots


def _turns(logs: Logs, decision: Decision) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """The events that came before it at one of its entities: at which, and how many came before each."""
    wanted = {(kind, key): before for kind, (key, before, _) in decision.entities.items()}
    turns: dict[tuple[int, int], list[tuple[str, int]]] = {decision.origin: []}
    for record in logs.topics.records("scores"):
        other = read_served_decision(record.value)
        if other is None or not logs.topics.epochs.holds(other.epoch, other.origin):
            continue
        shared = [
            (kind, count)
            for kind, (key, count, _) in other.entities.items()
            if count < wanted.get((kind, key), 0)
        ]
        if shared and other.origin not in turns:
            turns[other.origin] = shared
    return turns
