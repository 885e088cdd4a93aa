"""Producers that write in transactions: what they abort or leave open is an event for nobody."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from confluent_kafka import Producer

from producers.publish.followers import KafkaFollowers
from producers.publish.pace import Follower
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.models import ModelTopic
from stream.adapters.kafka.reader import TopicReader
from stream.adapters.kafka.scan import bounds_of, read_spans
from stream.adapters.kafka.unread import progress_of
from stream.inspect.status import look
from stream.messages import Label, Transaction, encode
from stream.verify.audit import Audit
from tests.faults.second_opinion import second_opinion
from tests.support.builders import label, payment
from tests.support.installation import Install, Installation

pytestmark = pytest.mark.guarantee

PARTITIONS = 2
OPEN_FOR = 6_000  # ms after which Kafka aborts a transaction that nobody ends
FOLLOWED = (
    ("score", "transactions"),
    ("learn", "scores"),
    ("learn", "labels"),
    ("monitor", "scores"),
    ("monitor", "labels"),
)


class Transactions:
    """A producer that writes in transactions, to every partition of the topics of an installation."""

    def __init__(self, system: Installation, name: str) -> None:
        self._system = system
        self._producer = Producer(
            {
                **confluent(system.settings),
                "transactional.id": f"{system.settings.topic_prefix}{name}",
                "transaction.timeout.ms": OPEN_FOR,
            }
        )
        self._producer.init_transactions(30)

    def begin(self, items: Sequence[Transaction | Label]) -> None:
        """Begin one, and write all of it durably."""
        self._producer.begin_transaction()
        for item in items:
            name = "transactions" if isinstance(item, Transaction) else "labels"
            key = item.card_id if isinstance(item, Transaction) else item.transaction_id
            self._producer.produce(self._system.settings.topic(name), key=key.encode(), value=encode(item))
        assert self._producer.flush(30) == 0

    def commit(self, items: Sequence[Transaction | Label]) -> None:
        """Write a transaction that counts."""
        self.begin(items)
        self._producer.commit_transaction(30)

    def abort(self, items: Sequence[Transaction | Label]) -> None:
        """Write a transaction that does not."""
        self.begin(items)
        self._producer.abort_transaction(30)


def payments(start: int, end: int, *, amount: int = 1500) -> list[Transaction]:
    return [
        payment(number, card=f"c{number % 7}", merchant=f"m{number % 3}", amount=amount)
        for number in range(start, end)
    ]


def labels(start: int, end: int) -> list[Label]:
    return [label(number, fraud=number % 3 == 0) for number in range(start, end, 2)]


@pytest.fixture
def system(install: Install) -> Installation:
    return install(partitions=PARTITIONS, maturity="3650d")


def sent(system: Installation) -> tuple[int, int]:
    """Payments and labels that count, with a mixture of all that may happen around them."""
    one, other = Transactions(system, "one"), Transactions(system, "other")
    other.abort(
        [*payments(1000, 1030, amount=99_000), *labels(1, 30)]
    )  # and so the logs begin without a record
    one.commit([*payments(0, 40), *labels(0, 20)])
    system.send(payments(40, 60))
    one.begin([*payments(60, 80), *labels(20, 40)])
    other.abort(payments(2000, 2010))
    system.send(payments(80, 100))  # behind an open transaction that is committed later
    one._producer.commit_transaction(30)
    one.abort([*payments(3000, 3010), *labels(0, 10)])  # and so a marker ends every partition
    return 100, 20


def ends_with_markers(system: Installation, name: str) -> bool:
    """Whether the last offset of every partition holds no record."""
    topic = system.settings.topic(name)
    last = {record.partition: record.offset for record in system.read(name)}
    return all(
        high > last[number] + 1 for number, (_, high) in bounds_of(confluent(system.settings), topic).items()
    )


def all_done(system: Installation) -> None:
    system.until(
        lambda: not any(system.behind(role, name) for role, name in FOLLOWED), 60, "the workers are behind"
    )


def judged(system: Installation, events: int) -> None:
    """The account balances, nobody is behind, and neither judge finds anything."""
    found = look(system.settings)
    assert found.down == []
    assert set(found.lag.values()) == {0}
    account = found.account
    assert account is not None
    assert (account.events, account.decided, account.duplicates, account.rejected, account.lag) == (
        events,
        events,
        0,
        0,
        0,
    )
    report = Audit(system.settings).run()
    assert [(each.number, each.breaks) for each in report.promises if each.breaks] == []
    opinion = second_opinion(system.settings)
    assert [str(finding) for finding in opinion.findings] == []
    assert (opinion.figures.events, opinion.figures.lag) == (events, 0)
    assert system.account().completeness.events == events


def test_what_was_aborted_is_neither_decided_nor_counted(system: Installation) -> None:
    workers = [system.start(role) for role in ("score", "learn", "monitor")]
    events, told = sent(system)
    system.until(lambda: len(system.read("scores")) > 10, 60, "nothing is decided")
    workers[0].kill()  # in the middle of it, and what it had not acknowledged is read again
    workers[0] = system.start("score")
    all_done(system)
    assert ends_with_markers(system, "transactions")
    assert ends_with_markers(system, "labels")
    names = {record.value for record in system.read("transactions")}
    assert len(names) == events
    assert len(system.read("labels")) == told
    judged(system, events)
    # A producer in step with the workers does not wait for the markers.
    for role, name in FOLLOWED[:3]:
        follower = Follower(system.settings.group(role), system.settings.topic(name))
        with KafkaFollowers(confluent(system.settings)) as followers:
            ends = followers.ends(follower.topic)
            system.until(
                lambda who=follower, to=ends, asked=followers: asked.behind(who, to) == 0,  # type: ignore[misc]  # a default binds it
                10,
                f"a producer waits for {follower}",
            )


def test_an_open_transaction_holds_back_what_follows_it_until_kafka_aborts_it(system: Installation) -> None:
    for role in ("score", "learn", "monitor"):
        system.start(role)
    system.send([*payments(0, 30), *labels(0, 30)])
    all_done(system)
    abandoned = Transactions(system, "abandoned")
    abandoned.begin([*payments(1000, 1030), *labels(1, 30)])
    system.send([*payments(30, 60), *labels(30, 60)])
    assert [system.behind(role, name) for role, name in FOLLOWED] == [0] * len(FOLLOWED)
    with TopicReader(system.settings, system.settings.topic("transactions")) as reader:
        assert sum(high for _, high in reader.bounds().values()) == 30
    assert len(system.read("scores")) == 30
    system.until(lambda: len(system.read("transactions")) == 60, 60, "Kafka does not abort the transaction")
    all_done(system)
    judged(system, 60)


def test_ranges_of_a_topic_of_transactions_hold_each_committed_record_once(system: Installation) -> None:
    """An experiment reads them; it looks twice at gaps, and not at each one by itself."""
    producer = Transactions(system, "ranges")
    for start in range(0, 200, 5):
        producer.commit(payments(start, start + 5))
        producer.abort(payments(1000 + start, 1000 + start + 2))
    client, topic = confluent(system.settings), system.settings.topic("transactions")
    spans = bounds_of(client, topic)
    found = [record.value or b"" for batch in read_spans(client, topic, spans) for record in batch]
    assert sorted(found) == sorted(encode(each) for each in payments(0, 200))
    progress = progress_of(system.settings, system.settings.group("score"), topic)
    assert sum(each.lag for each in progress.values()) == 200


def test_a_model_is_found_before_the_marker_that_ends_its_topic(system: Installation) -> None:
    producer = Producer(
        {**confluent(system.settings), "transactional.id": f"{system.settings.topic_prefix}m"}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(system.settings.topic("models"), key=system.settings.model.encode(), value=b"no model")
    assert producer.flush(30) == 0
    producer.abort_transaction(30)
    topic = ModelTopic(system.settings, name=system.settings.model)
    assert topic.latest() == (None, [])  # and not: no answer for 30 s, or: refused
    topic.close()
