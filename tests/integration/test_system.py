"""The whole way on a real Kafka and a real Redis, with workers as processes that are killed."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
import pytest

from producers.simulator.simulate import DEMO, simulate
from stream.adapters.clients import redis_client
from stream.messages import (
    Label,
    Transaction,
    alert_decoder,
    decision_decoder,
    encode,
    label_decoder,
    manifest_decoder,
)
from tests.support.builders import label, payment
from tests.support.card_data import NUMBERS, SHAPES, traces_of

if TYPE_CHECKING:
    from tests.support.installation import Installation

pytestmark = pytest.mark.guarantee


def paid(number: int, *, minute: float | None = None, card: str = "c1", merchant: str = "m1") -> Transaction:
    minutes = number if minute is None else minute
    return payment(number, minutes=minutes, card=card, merchant=merchant, amount=1000 + number % 700)


def simulated(count: int, seed: int) -> list[Transaction | Label]:
    return list(islice(simulate(DEMO, seed=seed), count))


def test_every_event_gets_exactly_one_decision(install: Callable[..., Installation]) -> None:
    system = install()
    system.start("score")
    items = simulated(3000, seed=1)
    system.send(items)
    system.drained("score", "transactions")
    account = system.account().completeness
    assert account.events == sum(isinstance(item, Transaction) for item in items)
    assert account.is_complete
    assert account.duplicates == account.dead_letters == 0
    decisions = [decision_decoder.decode(record.value or b"") for record in system.read("scores")]
    assert all(decision.features and decision.reasons is not None for decision in decisions)
    alerts = [alert_decoder.decode(record.value or b"") for record in system.read("alerts")]
    assert {alert.transaction_id for alert in alerts} == {
        decision.transaction_id for decision in decisions if decision.action != "approve"
    }


def test_killed_worker_under_live_traffic_loses_and_changes_nothing(
    install: Callable[..., Installation],
) -> None:
    """Two workers, traffic that does not stop, kill -9 of one: another takes over, twice."""
    system = install()
    first = system.start("score")
    system.start("score")
    system.until(lambda: len(system.workers()) == 2, 30, "the workers are not there")
    ended = threading.Event()
    sent = [0]

    def traffic() -> None:
        while not ended.is_set():
            number = sent[0]
            item = paid(number, card=f"c{number % 97}", merchant=f"m{number % 13}")
            system.send_raw("transactions", item.card_id.encode(), encode(item))
            sent[0] += 1
            ended.wait(0.001)

    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        scores = system.settings.topic("scores")
        system.until(
            lambda: system.behind("score", "transactions") < sent[0] - 1000, 30, f"nothing in {scores}"
        )
        first.kill()
        killed_at = sent[0]
        system.start("score")
        # The session of the dead worker has to run out; until then its partitions wait.
        system.until(
            lambda: sent[0] > killed_at + 3000 and system.behind("score", "transactions") < 1500,
            45,
            "nobody took over",
        )
    finally:
        ended.set()
        thread.join()
    system.flush()
    system.drained("score", "transactions")
    account = system.account().completeness
    assert account.events == sent[0]
    assert account.is_complete, account
    assert account.decided == sent[0]


def test_bad_input_becomes_dead_letters_and_the_partition_goes_on(
    install: Callable[..., Installation],
) -> None:
    system = install(partitions=1)
    system.start("score")
    good = [paid(number) for number in range(20)]
    far = paid(50)
    bad: list[tuple[bytes | None, bytes | None, str]] = [
        (b"c1", b"{not json", "not_json"),
        (b"c1", b'{"transaction_id":"x"}', "invalid"),
        (b"c1", None, "null_value"),
        (None, encode(good[0]), "null_key"),
        (b"c2", encode(paid(30)), "key_mismatch"),
        (b"c1", encode(paid(31)).replace(b"EUR", b"EUX"), "unknown_currency"),
        (b"c1", encode(paid(32)).replace(b"2026-", b"9999-"), "implausible_time"),
        (b"c1", encode(paid(33)).replace(b'"amount_minor":10', b'"amount_minor":-10'), "invalid"),
        (b"c1", encode(paid(34)).replace(b'"amount_minor":', b'"amount_minor":NaN,"x":'), "not_json"),
        (b"c1", encode(far).replace(b"2026-", b"2080-"), "future_time"),
        (b"c1", b'{"transaction_id":"' + b"x" * 200_000 + b'"}', "too_large"),
        (b"4111111111111111", encode(paid(35, card="4111111111111111")), "card_number_in_clear"),
    ]
    for place, item in enumerate(good):
        system.send([item])
        if place < len(bad):
            system.send_raw("transactions", bad[place][0], bad[place][1])
    system.flush()
    system.drained("score", "transactions")
    letters = {int(dict(record.headers)["offset"]): record for record in system.read("dead-letters")}
    assert [dict(letters[offset].headers)["reason"].decode() for offset in sorted(letters)] == [
        reason for _, _, reason in bad
    ]
    for place, (key, value, reason) in enumerate(bad):
        letter = letters[2 * place + 1]
        if reason == "card_number_in_clear":
            assert b"4111111111111111" not in (letter.key or b"") + (letter.value or b"")
        else:
            assert (letter.key, letter.value) == (key, value)
    account = system.account().completeness
    assert account.is_complete
    assert (account.decided, account.dead_letters) == (20, len(bad))


def test_event_sent_twice_upstream_is_decided_once_and_sent_again_as_it_was(
    install: Callable[..., Installation],
) -> None:
    system = install(partitions=1)
    system.start("score")
    system.send(paid(number) for number in range(10))
    system.drained("score", "transactions")
    system.send(paid(number) for number in range(10))
    system.drained("score", "transactions")
    records = system.read("scores")
    first, again = records[:10], records[10:]
    assert [record.value for record in first] == [record.value for record in again]
    assert all(record.headers == () for record in first)
    assert all(dict(record.headers) == {"redelivered": b"1"} for record in again)


def test_learner_killed_again_and_again_learns_every_label_once(
    install: Callable[..., Installation],
) -> None:
    system = install(maturity="3650d")
    system.start("score")
    payments = [paid(number, card=f"c{number % 50}", merchant=f"m{number % 9}") for number in range(600)]
    labels = [
        label(number, fraud=number % 7 == 0, start=item.event_time, days=3, source="chargeback")
        for number, item in enumerate(payments)
    ]
    system.send(payments)
    system.drained("score", "transactions")
    rate = "0.999999"  # every genuine one is chosen: the count of examples tells of a label learned twice
    for part in range(4):
        learner = system.start("learn", negative_sampling_rate=rate)
        system.send(labels[part * 150 : (part + 1) * 150])
        system.until(lambda: system.behind("learn", "labels") < 150, 60, "nothing was learned")
        learner.signal(signal.SIGKILL)
        learner.kill()
    system.start("learn", negative_sampling_rate=rate)
    system.drained("learn", "labels")
    manifests = [manifest_decoder.decode(record.value or b"") for record in system.read("models")]
    assert manifests[-1].next_offset == 600
    assert manifests[-1].learned == 600


def test_label_that_comes_before_its_transaction_waits_for_it(install: Callable[..., Installation]) -> None:
    system = install(maturity="3650d")
    system.start("score")
    system.start("learn")
    early = label(7, days=1, source="customer")
    system.send([early])
    system.drained("learn", "labels")
    assert not system.read("dead-letters")
    system.send(paid(number) for number in range(10))
    system.drained("score", "transactions")
    system.drained("learn", "scores")
    system.until(lambda: len(system.read("labels")) == 2, 20, "the label was not requeued")
    system.drained("learn", "labels")
    learned = [manifest_decoder.decode(record.value or b"").learned for record in system.read("models")]
    assert learned[-1] == 1


def test_learner_finds_features_as_served_on_its_own_disk(install: Callable[..., Installation]) -> None:
    system = install(maturity="3650d", decision_log="disk", duplicate_window="1s")
    system.start("score")
    system.start("learn")
    labels = [label(number, days=3, source="customer") for number in range(40)]
    system.send(labels[:10])  # these come before their transactions
    system.drained("learn", "labels")
    system.send(paid(number) for number in range(40))
    system.drained("score", "transactions")
    store = redis_client(system.settings)
    system.until(lambda: not list(store.scan_iter("rw:*:d:*")), 20, "Redis remembers decisions")
    system.send(labels[10:])
    system.until(
        lambda: manifest_decoder.decode(system.read("models")[-1].value or b"").learned == 40,
        30,
        "not every label was learned",
    )


def test_assumed_label_matures_in_event_time_for_the_chosen_share(
    install: Callable[..., Installation],
) -> None:
    system = install(maturity="10d", partitions=1)
    system.start("score")
    system.start("learn")
    system.send(paid(number, card=f"c{number % 40}", minute=number) for number in range(500))
    system.send([paid(9000, minute=9 * 1440)])
    system.drained("score", "transactions")
    system.drained("learn", "scores")
    assert not system.read("labels")
    system.send([paid(9001, minute=10 * 1440 + 250)])
    system.drained("score", "transactions")
    system.drained("learn", "scores")
    labels = [label_decoder.decode(record.value or b"") for record in system.read("labels")]
    assert labels
    assert all(label.source == "maturity" and not label.is_fraud for label in labels)
    assert {int(label.transaction_id[1:]) for label in labels} <= set(range(251))
    assert 5 <= len(labels) <= 60, "about a tenth of 251"


def test_no_card_number_is_left_in_a_topic_a_log_or_redis(install: Callable[..., Installation]) -> None:
    """Whatever field or shape it came in; and other content under a decided id is a dead letter."""
    system = install(partitions=1)
    system.start("score")
    system.start("learn")
    sent = [(number, shape(number)) for number in NUMBERS[:4] for shape in SHAPES.values()]
    for at, (_, text) in enumerate(sent):
        event = json.loads(encode(paid(at)))
        fields = ({"transaction_id": text}, {"attributes": {"a": text}}, {"card_id": text}, {"ip": text})
        changed = fields[at % 4]
        value = json.dumps(event | changed).encode() if at % 7 else f"{text} no JSON".encode()
        system.send_raw("transactions", text.encode() if "card_id" in changed else b"c1", value)
        report = {
            "transaction_id": "t1",
            "is_fraud": True,
            "known_at": "2026-01-05T00:00:00Z",
            "source": text,
        }
        system.send_raw("labels", text.encode(), json.dumps(report).encode())
    system.send([paid(9000), paid(9000), msgspec.structs.replace(paid(9000), amount_minor=999_999)])
    system.flush()
    system.settled()
    reasons = Counter(dict(record.headers)["reason"] for record in system.read("dead-letters"))
    assert set(reasons) == {b"card_number_in_clear", b"invalid", b"not_json", b"id_conflict"}
    assert (reasons.total(), reasons[b"id_conflict"]) == (2 * len(sent) + 1, 1)
    store = redis_client(system.settings)
    held = [(key, store.dump(key)) for key in store.scan_iter(match=f"{system.settings.redis_prefix}*")]
    topics = [system.read(name) for name in ("scores", "alerts", "dead-letters", "drift", "models")]
    files = [path.read_bytes() for path in system.folder.rglob("*") if path.is_file()]
    left = repr((held, topics)).encode() + b" ".join(files)
    assert b"id_conflict" in b" ".join(files)
    assert [number for number in NUMBERS[:4] if traces_of(number, left)] == []
    assert system.account().completeness.is_complete
