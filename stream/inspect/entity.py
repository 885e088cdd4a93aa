"""What is known of one entity: as Redis holds it, or as it was, from the logs."""

from __future__ import annotations

from datetime import datetime

from stream.adapters.clients import make_store, redis_client
from stream.adapters.clock import now
from stream.adapters.kafka.scan import Progress
from stream.config.factories import feature_spec
from stream.config.settings import Settings
from stream.history.topics import TopicHistory
from stream.inspect.entity_view import View, entity_named, profile_at, view
from stream.messages import Transaction, transaction_decoder
from stream.records import Record
from stream.views import read_label, read_served_decision


def as_it_stands(settings: Settings, entity: str) -> View:
    """What Redis holds, as of this moment.

    Raises:
        DependencyDown: Redis does not answer.
    """
    spec = feature_spec(settings)
    kind, key = entity_named(entity, spec)
    store = make_store(settings, spec, redis_client(settings))
    return view(
        f"{kind}:{key}",
        store.profile(kind, key),
        store.label_profile(kind, key),
        spec,
        now().timestamp(),
    )


def as_it_was(settings: Settings, entity: str, at: datetime, *, progress: Progress | None = None) -> View:
    """What was known at an event time: from the decided events up to it, and the labels known by then.

    Raises:
        TopicUnreadableError: Kafka does not answer, or a topic is missing.
    """
    topics = TopicHistory(settings, progress)
    spec, labels, moment = topics.spec, topics.new_labels(), at.timestamp()
    kind, key = entity_named(entity, spec)
    max_recent = next((each.max_recent for each in spec.entities if each.kind == kind), 0)
    for record in topics.records("labels"):
        if _known_by(record, at):
            labels.add(record)
    turns: dict[tuple[int, int], int] = {}
    for record in topics.records("scores"):
        decision = read_served_decision(record.value)
        if decision is None or not topics.epochs.holds(decision.epoch, decision.origin):
            continue
        touched = decision.entities.get(kind)
        if touched is not None and touched[0] == key:
            turns.setdefault(decision.origin, touched[1])
            if labels.wants(decision.transaction_id):
                labels.add_decision(decision.transaction_id, record.value or b"")
    labels.play(lambda _: None)
    events: list[tuple[int, Transaction]] = [
        (turns[place], transaction_decoder.decode(record.value or b""))
        for record in topics.records("transactions")
        if (place := (record.partition, record.offset)) in turns
    ]
    name = f"{kind}:{key}"
    known = labels.profile(name, labels.updates(name))
    assert known is not None, "as many labels as it has"
    return view(name, profile_at(events, max_recent, spec, moment), known, spec, moment)


def _known_by(record: Record, at: datetime) -> bool:
    label = read_label(record.value)
    return label is not None and label.known_at <= at
