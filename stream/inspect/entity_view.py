"""What is known of one entity, in words and numbers for people. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from models.features.compute import event_of
from models.features.decay import SPAN, at_moment, weights
from models.features.label_memory import FRAUDS, GENUINES, LABEL_WIDTH
from models.features.profiles import (
    MIN_COUNT,
    WIDTH,
    LabelProfile,
    LabelState,
    Profile,
    apply_event,
    empty,
    mean_and_deviation,
)
from models.features.recent_events import parse_recent_event
from models.features.spec import FeatureSpec, half_life_name
from stream.messages import Transaction


class Span(msgspec.Struct, frozen=True):
    """What is known over one half-life, as it stands at the moment of the view.

    Attributes:
        half_life: its name (`7d`).
        events, amount: decayed count and sum of amounts (major units).
        usual_amount: e to the mean of the log-amounts, less 1; None where there are too few for a norm.
        spread: the factor that makes one deviation of it.
        outliers: decayed count of amounts far above the norm.
        frauds, genuine: decayed counts by label.
    """

    half_life: str
    events: float
    amount: float
    usual_amount: float | None
    spread: float | None
    outliers: float
    frauds: float
    genuine: float


class Earlier(msgspec.Struct, frozen=True):
    """One of the last events."""

    event_time: datetime
    amount_minor: int
    merchant_id: str
    country: str | None


class View(msgspec.Struct, frozen=True):
    """All that is known of an entity at a moment.

    Attributes:
        entity: kind and key.
        at: the moment, event time.
        events: in its profile; 0 for one that was never seen.
        first, last: of its events.
        labels: applied; of them frauds and genuine as known now.
        latest_labels: of the latest labelled transactions, whether fraud, the latest first.
        first_fraud, last_fraud: event times of the earliest and latest fraud among those.
    """

    entity: str
    at: datetime
    events: int
    first: datetime | None
    last: datetime | None
    spans: list[Span]
    recent: list[Earlier]
    labels: int
    frauds: int
    genuine: int
    first_fraud: datetime | None
    last_fraud: datetime | None
    latest_labels: list[bool]


def view(entity: str, profile: Profile, labels: LabelProfile, spec: FeatureSpec, at: float) -> View:
    """What a profile says at a moment.

    Args:
        entity: named in it.
        profile: of its events.
        labels: of its confirmed labels.
        spec: whose half-lives they have.
        at: event time, seconds since 1970.
    """
    now = weights(at, spec.half_lives)
    state = LabelState(labels)
    # A moment before the latest labelled transaction is told what is known as of that, as features are.
    known_at = weights(max(at, *labels.times[:1]), spec.half_lives) if labels.times else now
    frauds_at = [time for time, is_fraud in zip(labels.times, labels.latest, strict=True) if is_fraud]
    spans = []
    for place, (half_life, weight) in enumerate(zip(spec.half_lives, now, strict=True)):
        scale, count, total, logs, squares, outliers = profile.sums[place * WIDTH : (place + 1) * WIDTH]
        begin = place * LABEL_WIDTH
        frauds, genuine = (
            at_moment(state.decayed(begin, which), labels.sums[begin] * SPAN, known_at[place])
            for which in (FRAUDS, GENUINES)
        )
        events = at_moment(count, scale, weight)
        mean, deviation = mean_and_deviation(count, logs, squares) if count > 0.0 else (0.0, 0.0)
        is_norm = events >= MIN_COUNT
        spans.append(
            Span(
                half_life=half_life_name(half_life),
                events=events,
                amount=at_moment(total, scale, weight),
                usual_amount=math.expm1(mean) if is_norm else None,
                spread=math.exp(deviation) if is_norm else None,
                outliers=at_moment(outliers, scale, weight),
                frauds=frauds,
                genuine=genuine,
            )
        )
    return View(
        entity=entity,
        at=_time(at),
        events=profile.updates,
        first=_time(profile.first) if profile.updates else None,
        last=_time(profile.last) if profile.updates else None,
        spans=spans,
        recent=[
            Earlier(
                _time(recent_event.time),
                recent_event.amount_minor,
                recent_event.merchant_id,
                recent_event.country or None,
            )
            for recent_event in map(parse_recent_event, profile.recent)
        ],
        labels=labels.updates,
        frauds=labels.frauds,
        genuine=labels.genuine,
        first_fraud=_time(frauds_at[-1]) if frauds_at else None,
        last_fraud=_time(frauds_at[0]) if frauds_at else None,
        latest_labels=list(labels.latest),
    )


def profile_at(
    events: Iterable[tuple[int, Transaction]], max_recent: int, spec: FeatureSpec, at: float
) -> Profile:
    """The profile of an entity from its own events up to a moment.

    Args:
        events: how many events the profile held when each was read, and the event.
        max_recent: recent events kept.
        spec: the features.
        at: event time, seconds since 1970; later events are left out.
    """
    profile = empty(len(spec.half_lives))
    for _, payment in sorted(events, key=lambda pair: pair[0]):
        if payment.event_time.timestamp() <= at:
            profile = apply_event(profile, event_of(payment, spec), max_recent)
    return profile


def entity_named(text: str, spec: FeatureSpec) -> tuple[str, str]:
    """The kind and the key that a text names: `KIND:KEY`, or a card.

    >>> entity_named("merchant:m1", FeatureSpec()), entity_named("a:b", FeatureSpec())
    (('merchant', 'm1'), ('card', 'a:b'))
    """
    kind, colon, key = text.partition(":")
    if colon and key and kind in {entity.kind for entity in spec.entities}:
        return kind, key
    return "card", text


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
