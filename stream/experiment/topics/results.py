"""What an experiment over topics says beside its measures: its account, its span, how to run it again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import numpy as np

from producers.sources.open_source import DELAY, SourceError
from stream.experiment.engine import Engine
from stream.experiment.measures.measure import day_name
from stream.experiment.measures.results import Account
from stream.experiment.measures.summary import seasoned_from
from stream.experiment.silent_engine import SilentEngine
from stream.experiment.topics.range import TopicRange
from stream.experiment.topics.source import TopicSource

Span = tuple[float, float]


def span_until(engine: SilentEngine, span: Span, *, begins: datetime | None, data: str) -> Span:
    """What is evaluated, cut where not everything is known yet.

    Args:
        engine: after its pass.
        span: as it would be if all were known.
        begins: as asked for; None: as of data that end where everything is known.
        data: its name.

    Raises:
        SourceError: nothing is left of it.
    """
    start, end = span
    known = engine.known_until
    if known >= end:
        return span
    if begins is None:
        start = seasoned_from(engine, known, DELAY.total_seconds())
    if start >= known:
        raise SourceError(
            f"{data}: from {day_name(known)} on not all is known yet: the horizon has not passed; "
            f"measuring would begin on {day_name(start)}: take a longer range, an earlier --evaluate-from or "
            "a shorter --maturity"
        )
    return start, known


def account_with(account: Account, topics: TopicSource | None, engine: Engine) -> Account:
    """The account, with what became of messages."""
    if topics is None or not isinstance(engine, SilentEngine):
        return account
    lines = [*topics.lines(), *account.lines]
    known = engine.known_until
    if np.isfinite(known):
        lines.append(
            f"measured until {day_name(known)}, that day not included: of later payments only frauds "
            "are known"
        )
    return msgspec.structs.replace(
        account,
        duplicates=account.duplicates + topics.counts.duplicates,
        unmatched_labels=account.unmatched_labels + topics.counts.unknown,
        lines=tuple(lines),
    )


def told_of(ranged: TopicRange) -> dict[str, Any]:
    """Everything about the topics that decides the result, by name."""
    settings = ranged.settings
    return {
        "topics": {
            settings.topic(name): {str(number): list(span) for number, span in parts.items()}
            for name, parts in ranged.offsets.items()
        },
        "events": ranged.events,
        "from": None if ranged.start is None else ranged.start.isoformat(),
        "to": None if ranged.end is None else ranged.end.isoformat(),
        "maturity": float(settings.maturity),
        "label_wait": float(settings.label_wait),
        "decision_ttl": float(settings.decision_ttl),
        "max_event_bytes": settings.max_event_bytes,
        "future_tolerance": float(settings.future_tolerance),
        "card_numbers": settings.card_numbers,
        "card_number_exempt": settings.card_number_exempt,
        "again": list(ranged.options),
    }
