"""What the second judge says of an installation, and what it means where the first one says otherwise."""

from __future__ import annotations

from stream.config.settings import Settings
from stream.verify.promises import Promise
from tests.second_judge.admission import Rules
from tests.second_judge.findings import ORDER, Finding, is_feature
from tests.second_judge.judging import Names, Opinion, examine

BOTH_JUDGE = {1, 2, 4}
"""Promises that both judge; what it says of labels, the first one judges as its third."""


def second_opinion(settings: Settings) -> Opinion:
    """Ask the second judge: it is told the settings of the installation and nothing else."""
    topics = ("transactions", "scores", "alerts", "labels", "dead-letters")
    names = Names(*map(settings.topic, topics), *map(settings.group, ("score", "learn")))
    return examine(
        settings.kafka_bootstrap,
        names,
        settings.redis_url,
        redis_prefix=settings.redis_prefix,
        cluster=settings.redis_cluster,
        rules=Rules(
            settings.max_event_bytes, float(settings.future_tolerance), settings.card_numbers == "refuse"
        ),
    )


def is_in_flight(finding: Finding) -> bool:
    """Whether an emptied Redis can leave it: who read an event that had not left, read what no log holds."""
    return finding.kind == ORDER or is_feature(finding.kind)


def disagreement(promises: list[Promise], opinion: Opinion, tolerated: set[str]) -> list[str]:
    """What one judge found where the other is content."""
    first = [
        found.what
        for promise in promises
        if promise.number in BOTH_JUDGE
        for found in promise.breaks
        if found.what not in tolerated
    ]
    second = [each.kind for each in opinion.findings if not (tolerated and is_in_flight(each))]
    if first and not second:
        return [f"the judges disagree: the second one is content, and the first one says: {'; '.join(first)}"]
    broken = any(
        found.what not in tolerated
        for promise in promises
        if promise.number in BOTH_JUDGE | {3}
        for found in promise.breaks
    )
    if second and not broken:
        return [
            f"the judges disagree: the first one is content, and the second one says: {'; '.join(second)}"
        ]
    return []
