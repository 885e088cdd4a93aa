"""A log that is not the one that was worked on is not read, loudly, until a person adopts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stream.adapters.clients import make_store, redis_client
from stream.adapters.kafka.admin import committed
from stream.adapters.redis.logs import LogIdentity, RedisLogs
from stream.config.factories import feature_spec
from stream.inspect.status import look
from stream.messages import Transaction, decision_decoder
from stream.recovery.adopt import NotAdopted, adopt
from stream.verify.audit import Audit
from tests.support.builders import payment
from tests.support.services import create_topics, delete_topics

if TYPE_CHECKING:
    from tests.support.installation import Install, Installation

pytestmark = pytest.mark.guarantee

CARDS = 17


def payments(first: int, last: int) -> list[Transaction]:
    return [payment(n, minutes=n, card=f"c{n % CARDS}", merchant=f"m{n % 5}") for n in range(first, last)]


def made_anew(system: Installation, name: str) -> None:
    """Delete a topic and make it again, as a person does who wants it empty."""
    topic, bootstrap = system.settings.topic(name), system.settings.kafka_bootstrap
    delete_topics(bootstrap, [topic])
    system.until(lambda: not exists(system, topic), 30, f"{topic} is not deleted")
    create_topics(bootstrap, {topic: 1 if name in {"labels", "dead-letters"} else system.settings.partitions})


def exists(system: Installation, topic: str) -> bool:
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415 - as the client of this test alone

    return (
        topic
        in AdminClient({"bootstrap.servers": system.settings.kafka_bootstrap}).list_topics(timeout=10).topics
    )


def waits(system: Installation, what: str) -> bool:
    return any(what in worker.waiting for worker in system.workers())


def broken(system: Installation) -> str:
    """What `verify` finds."""
    report = Audit(system.settings).run()
    return "; ".join(found.what for promise in report.promises for found in promise.breaks)


def updates(system: Installation) -> int:
    """Events in the profiles of all cards."""
    store = make_store(system.settings, feature_spec(system.settings), redis_client(system.settings))
    return sum(store.profile("card", f"c{n}").updates for n in range(CARDS))


def decided(system: Installation) -> list[str]:
    return sorted({decision_decoder.decode(r.value or b"").transaction_id for r in system.read("scores")})


def names(transactions: list[Transaction]) -> list[str]:
    return sorted({each.transaction_id for each in transactions})


def test_a_topic_made_anew_under_a_worker_is_not_read_until_it_is_adopted(install: Install) -> None:
    system = install(partitions=2)
    worker = system.start("score")
    old, new = payments(0, 150), payments(120, 400)  # 30 of the old come again
    system.send(old)
    system.drained("score", "transactions")
    made_anew(system, "transactions")
    system.send(new)
    system.until(lambda: waits(system, "is not the one that was worked on"), 60, "the worker says nothing")
    assert any("riverwatch adopt transactions" in line for line in look(system.settings).down)
    assert "a topic is not the one that was worked on" in broken(system)
    with pytest.raises(NotAdopted, match="still run"):
        adopt(system.settings, "transactions")
    assert worker.stop(20) == 0
    begun = adopt(system.settings, "transactions")
    assert begun == (1, {0: 0, 1: 0})
    with pytest.raises(NotAdopted, match="nothing to adopt"):
        adopt(system.settings, "transactions")
    system.start("score")
    system.drained("score", "transactions")
    assert decided(system) == names([*old, *new])
    assert updates(system) == 400, "each transaction is in its card's profile once"
    status = look(system.settings)
    assert status.account is not None
    assert status.account.difference == 0
    assert not [line for line in status.down if "adopt" in line or "neither" in line]
    report = Audit(system.settings).run()
    assert not report.is_broken, report
    # The epoch is known to whoever has nothing but the logs; and that Redis says another is seen.
    client = redis_client(system.settings)
    logs = RedisLogs(client, system.settings.redis_prefix)
    noted = logs.known(["transactions"])["transactions"]
    logs.replace("transactions", LogIdentity(noted.topic_id))
    assert "the epochs of transactions in Redis are not those on the topic" in broken(system)
    client.delete(f"{system.settings.redis_prefix}:logs")
    assert not broken(system)


def test_without_an_id_the_journal_and_the_decisions_tell_another_log(install: Install) -> None:
    system = install(partitions=1)
    worker = system.start("score")
    system.send(payments(0, 100))
    system.drained("score", "transactions")
    assert worker.stop(20) == 0
    made_anew(system, "transactions")
    client = redis_client(system.settings)
    logs = RedisLogs(client, system.settings.redis_prefix)
    system.send(payments(1000, 1120))
    logs.replace("transactions", LogIdentity(""))  # as a broker without ids leaves it
    system.start("score")
    system.until(lambda: waits(system, "riverwatch adopt transactions"), 60, "the worker says nothing")
    assert decided(system) == names(payments(0, 100)), "nothing of the other log is decided"
    topic = system.settings.topic("transactions")
    assert committed(system.settings, system.settings.group("score"), topic, [0]) == {0: 0}
