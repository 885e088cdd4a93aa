"""The second judge: what the topics and Redis hold, against what is published of them, and nothing shared.

It is written from docs/messages.md, docs/guarantees.md, docs/arithmetic.md and docs/adr/0004, for the default
feature specification, and uses the standard library, a Kafka client, a Redis client and numpy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from tests.second_judge import findings, topics
from tests.second_judge.account import Account, Place
from tests.second_judge.admission import Rules
from tests.second_judge.findings import Finding, Findings
from tests.second_judge.labels import Decided, LabelLog
from tests.second_judge.profiles import Activity, Turns
from tests.second_judge.store import Store
from tests.second_judge.topics import Record


class Names(NamedTuple):
    """The topics and groups of an installation, by their full names."""

    transactions: str = "transactions"
    scores: str = "scores"
    alerts: str = "alerts"
    labels: str = "labels"
    dead_letters: str = "dead-letters"
    score_group: str = "riverwatch-score"
    learn_group: str = "riverwatch-learn"


class Figures(NamedTuple):
    """What was judged: `events = decided + duplicates + dead letters + lag` where all is well."""

    events: int
    decided: int
    duplicates: int
    dead_letters: int
    lag: int
    features: int
    labels: int

    def __str__(self) -> str:
        return (
            f"{self.events:,} events = {self.decided:,} decisions + {self.duplicates:,} duplicates + "
            f"{self.dead_letters:,} dead letters + {self.lag:,} lag; {self.features:,} features, "
            f"{self.labels:,} labels"
        )


class Opinion(NamedTuple):
    """The second judge's word; without findings it is content."""

    findings: list[Finding]
    figures: Figures


def judge(
    bootstrap: str,
    names: Names,
    redis_url: str,
    *,
    redis_prefix: str = "rw",
    cluster: bool = False,
    rules: Rules | None = None,
) -> list[str]:
    """Findings in plain sentences; none: the judge is content.

    Args:
        bootstrap: of Kafka, `HOST:PORT`.
        names: of topics and groups.
        redis_url: `redis://HOST:PORT/DB`.
        redis_prefix: of every key.
        cluster: the URL leads to a Redis Cluster.
        rules: as the settings of the installation say.

    Raises:
        TopicError: a topic cannot be read.
    """
    opinion = examine(bootstrap, names, redis_url, redis_prefix=redis_prefix, cluster=cluster, rules=rules)
    return [str(finding) for finding in opinion.findings]


def examine(
    bootstrap: str,
    names: Names,
    redis_url: str,
    *,
    redis_prefix: str = "rw",
    cluster: bool = False,
    rules: Rules | None = None,
) -> Opinion:
    """As `judge`, with the figures of what was judged."""
    # What is acknowledged, and what Redis holds, come first: the topics can only say more by then.
    done = topics.committed(bootstrap, names.score_group, names.transactions)
    learned = topics.committed(bootstrap, names.learn_group, names.labels)
    store = Store(redis_url, redis_prefix, cluster=cluster)
    try:
        held = Held(store.profiles(), store.label_profiles(), store.pending())
    finally:
        store.close()
    seen = Seen(
        lambda topic: topics.read(bootstrap, topic),
        done,
        max(learned.values(), default=0),
        held,
        lambda topic: topics.begins(bootstrap, topic),
    )
    return compare(seen, names, rules or Rules())


class Held(NamedTuple):
    """What Redis holds: the bytes of profiles by entity, and up to where the labels of transactions wait."""

    profiles: dict[str, bytes]
    label_profiles: dict[str, bytes]
    waiting: dict[str, int]


class Seen(NamedTuple):
    """An installation as it is seen from outside.

    Attributes:
        read: gives the records of a topic.
        acknowledged: of each partition of transactions.
        learned: up to which offset the labels are acknowledged.
        held: by Redis.
        begins: gives where the partitions of a topic begin; None: where their first record is.
    """

    read: Callable[[str], Iterable[Record]]
    acknowledged: Mapping[int, int]
    learned: int
    held: Held
    begins: Callable[[str], Mapping[int, int]] | None = None


def compare(seen: Seen, names: Names, rules: Rules) -> Opinion:
    """What was seen against what is published."""
    found = Findings()
    account, labels = Account(rules, seen.acknowledged, found), LabelLog(rules)
    try:
        _whole(seen, names.transactions, account.add_event, found)
        _whole(seen, names.labels, labels.add, found)
        labels.judge_letters(_letters(seen, names, account, labels), seen.learned, found)
        for name, offset in seen.held.waiting.items():
            labels.add_waited(name, offset)
        _whole(seen, names.scores, account.add_decision, found)
        account.close()
        labels.play(lambda name: _decided(account, name))
        alerts = _alerts(seen, names, found)
        _judge_alerts(account, alerts, seen.acknowledged, found)
        activity = {name: alert["recent_activity"] for name, alert in alerts.items()}
        turns = Turns(account, labels, activity, found)
        if account.epoch == 0:  # else profiles hold events of a log that is gone
            turns.add_all()
            turns.play(seen.held.profiles, is_settled=account.lag == 0)
        if account.epoch == 0 and seen.learned >= labels.end:
            turns.judge_labels(seen.held.label_profiles)
        figures = Figures(
            account.events,
            account.decided,
            account.duplicates,
            account.dead,
            account.lag,
            turns.features,
            labels.end,
        )
    finally:
        account.free()
    return Opinion(found.all(), figures)


def _whole(seen: Seen, topic: str, take: Callable[[Record], None], found: Findings) -> None:
    """Read a topic that must begin with its first record."""
    begins = dict(seen.begins(topic)) if seen.begins is not None else {}
    for record in seen.read(topic):
        begins.setdefault(record.partition, record.offset)
        take(record)
    for partition, offset in begins.items():
        if offset:
            found.add(findings.NOT_WHOLE, f"{topic}/{partition} begins at {offset}")


def _letters(seen: Seen, names: Names, account: Account, labels: LabelLog) -> dict[int, str]:
    """Give the dead letters of transactions to the account; those of labels, by offset."""
    of_labels: dict[int, str] = {}
    for record in seen.read(names.dead_letters):
        topic = (record.header("topic") or b"").decode(errors="replace")
        reason = (record.header("reason") or b"").decode(errors="replace")
        place = _place(record)
        if topic == names.labels:
            of_labels[place[1]] = reason
            if reason == "unknown_transaction" and record.key is not None:
                waited = record.header("waited") or b"%d" % place[1]
                labels.add_waited(record.key.decode(errors="replace"), int(waited))
        else:
            account.add_letter(record, place if topic == names.transactions else (-1, -1), reason)
    return of_labels


def _place(record: Record) -> Place:
    partition, offset = record.header("partition") or b"", record.header("offset") or b""
    return (int(partition), int(offset)) if partition.isdigit() and offset.isdigit() else (-1, -1)


def _decided(account: Account, name: str) -> Decided | None:
    case = account.of(name)
    if case is None:
        return None
    return Decided(case.payment.time, tuple(f"{kind}:{key}" for kind, key in case.payment.entities().items()))


def _alerts(seen: Seen, names: Names, found: Findings) -> dict[str, dict[str, Any]]:
    """By transaction its alert; duplicates must be the same."""
    alerts: dict[str, dict[str, Any]] = {}
    for record in seen.read(names.alerts):
        try:
            alert = json.loads(record.value or b"")
            name = alert["transaction_id"]
            activity: Activity = alert["recent_activity"]
        except (ValueError, KeyError, TypeError):
            found.add(findings.UNREADABLE, f"alerts {record.partition}/{record.offset}")
            continue
        if record.key != alert["card_id"].encode():
            found.add(findings.OTHER_KEY, f"{name} on alerts")
        if alerts.setdefault(name, alert) != alert or alert["alert_id"] != f"a-{name}" or activity is None:
            found.add(findings.ALERT_OTHER, name)
    return alerts


def _judge_alerts(
    account: Account, alerts: Mapping[str, dict[str, Any]], done: Mapping[int, int], found: Findings
) -> None:
    """Each decision that needs action has its alert, which says the same, and no other has one."""
    for number in range(len(account.joined)):
        case = account.case(number)
        alert = alerts.get(case.transaction)
        if case.action == "approve":
            if alert is not None:
                found.add(findings.ALERT_EXTRA, case.transaction)
        elif alert is None:
            if case.place[1] < done.get(case.place[0], 0):
                found.add(findings.ALERT_MISSING, case.transaction)
        else:
            told = (alert["action"], tuple(alert["origin"]), alert["score"])
            same_features = case.features is None or alert["features"] == case.features
            if told != (case.action, case.place, case.score) or not same_features:
                found.add(findings.ALERT_OTHER, case.transaction)
