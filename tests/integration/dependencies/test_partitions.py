"""Partitions that are added while workers run: which topics, in what order, and what stays as it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from stream.adapters.clients import make_store, redis_client
from stream.adapters.kafka.admin import TopicMismatch, check_topics
from stream.adapters.kafka.partitions import GROWN_IN_THIS_ORDER, grow, mismatch
from stream.config.factories import feature_spec
from stream.config.settings import Settings, load
from stream.messages import decision_decoder
from stream.verify.audit import Audit
from tests.support.builders import payment
from tests.support.installation import Installation
from tests.support.services import KafkaUnderTest, MakeTopics, Unique

if TYPE_CHECKING:
    Install = Callable[..., Installation]

CARDS = 40


def counts(transactions: int, scores: int, alerts: int) -> dict[str, int]:
    return {"transactions": transactions, "scores": scores, "alerts": alerts}


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (counts(2, 2, 2), None),
        (counts(4, 4, 4), "the settings say 2: set RIVERWATCH_PARTITIONS=4"),
        (counts(1, 1, 1), "set RIVERWATCH_PARTITIONS=1, or have `riverwatch topics --grow 2` add them"),
        (counts(4, 2, 2), "`riverwatch topics --grow 4` makes them all 4"),
        (counts(2, 4, 2), "`riverwatch topics --grow 4` makes them all 4"),
    ],
)
def test_topics_are_compared_together_and_one_line_leads_out(there: dict[str, int], said: str | None) -> None:
    found = mismatch(Settings(partitions=2), there)
    assert found is None if said is None else found is not None and said in found


def test_what_the_line_says_ends_it(kafka: KafkaUnderTest, make_topics: MakeTopics, unique: Unique) -> None:
    """`--grow`, then the setting: not one setting and then the other."""
    if kafka.kind == "embedded":
        pytest.skip("the embedded Kafka adds no partitions")
    prefix = unique("uneven-")
    single = dict.fromkeys((f"{prefix}{name}" for name in ("labels", "drift", "models", "dead-letters")), 1)
    make_topics({f"{prefix}transactions": 3, f"{prefix}scores": 1, f"{prefix}alerts": 2, **single})
    values = {"kafka_bootstrap": kafka.bootstrap, "topic_prefix": prefix}
    with pytest.raises(TopicMismatch, match=r"topics --grow 3` makes them all 3"):
        check_topics(load({**values, "partitions": 1}, {}).settings)
    settings = load({**values, "partitions": 3}, {}).settings
    assert grow(settings, 3) == [f"{prefix}scores", f"{prefix}alerts"]
    check_topics(settings)
    with pytest.raises(TopicMismatch, match="no topic can be given fewer partitions"):
        grow(settings, 2)


def test_events_get_their_partitions_after_their_decisions() -> None:
    assert GROWN_IN_THIS_ORDER[-1] == "transactions"
    assert set(GROWN_IN_THIS_ORDER) == {"transactions", "scores", "alerts"}


@pytest.mark.guarantee
def test_cards_that_move_to_a_new_partition_keep_their_profiles_and_one_decision_each(
    install: Install,
) -> None:
    system = install(partitions=2)
    worker = system.start("score")
    system.send(payment(f"a{n}", minutes=n, card=f"c{n % CARDS}") for n in range(3 * CARDS))
    system.drained("score", "transactions")
    grow(system.settings, 4)
    changed = {name: getattr(system.settings, name) for name in ("kafka_bootstrap", "redis_url", "model_key")}
    changed |= {name: getattr(system.settings, name) for name in ("topic_prefix", "group_prefix")}
    grown = Installation(load({**changed, "partitions": 4}, {}).settings, system.folder)
    grown.send(payment(f"b{n}", minutes=200 + n, card=f"c{n % CARDS}") for n in range(3 * CARDS))
    # As it was started: it notices by itself, long before the five minutes of a client left alone.
    grown.drained("score", "transactions", timeout=120)
    assert worker.poll() is None
    assert "this worker was started with 2" in worker.log.read_text()

    decisions = [decision_decoder.decode(record.value or b"") for record in grown.read("scores")]
    assert set(Counter(each.transaction_id for each in decisions).values()) == {1}
    assert len(decisions) == 6 * CARDS
    places = {each.card_id: set[int]() for each in decisions}
    for record in grown.read("transactions"):
        places[(record.key or b"").decode()].add(record.partition)
    moved = [card for card, partitions in places.items() if len(partitions) > 1]
    assert moved, "no card moved: nothing was tried"
    store = make_store(grown.settings, feature_spec(grown.settings), redis_client(grown.settings))
    assert {store.profile("card", card).updates for card in places} == {6}
    report = Audit(grown.settings).run()
    assert not [promise for promise in report.promises if promise.breaks], report
