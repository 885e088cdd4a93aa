"""A Redis that loses its last moments, as after a failover: workers notice, go back, and nothing differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stream.adapters.clients import make_store, redis_client
from stream.config.factories import feature_spec
from stream.messages import Transaction
from tests.support.builders import payment

if TYPE_CHECKING:
    from tests.support.installation import Install, Installation

pytestmark = pytest.mark.guarantee


def payments(first: int, last: int) -> list[Transaction]:
    return [
        payment(
            number,
            minutes=number,
            card=f"c{number % 17}",
            merchant=f"m{number % 5}",
            # One in ten is far above the norm of its card: some are alerts.
            amount=900_000 if number % 10 == 9 else 1000 + number % 300,
        )
        for number in range(first, last)
    ]


def kept(client: Any) -> dict[bytes, bytes]:
    return {key: client.dump(key) for key in client.keys("rw:*") if b":worker:" not in key}


def lose(client: Any, older: dict[bytes, bytes]) -> None:
    client.flushdb()
    for key, value in older.items():
        client.restore(key, 0, value)


def profiles(system: Installation) -> dict[tuple[str, str], object]:
    store = make_store(system.settings, feature_spec(system.settings), redis_client(system.settings))
    names = [("card", f"c{number}") for number in range(17)] + [("merchant", f"m{n}") for n in range(5)]
    return {name: store.profile(*name) for name in names}


@pytest.mark.parametrize("working", [False, True], ids=["between two workers", "under a worker"])
def test_what_was_emitted_stays_and_profiles_are_made_right(install: Install, working: bool) -> None:
    system = install(partitions=2, review_share="0.2", decline_share="0.05")
    worker = system.start("score")
    system.send(payments(0, 400))
    system.drained("score", "transactions")
    client = redis_client(system.settings)
    older = kept(client)
    system.send(payments(400, 700))
    system.drained("score", "transactions")
    right = profiles(system)
    if not working:
        assert worker.stop(20) == 0
    lose(client, older)
    assert profiles(system) != right, "nothing was lost: the test proves nothing"
    if not working:
        system.start("score")
    system.send(payments(700, 800))
    system.until(lambda: len(system.read("scores")) >= 800 + 300, 60, "the worker did not go back")
    system.drained("score", "transactions")
    account = system.account().completeness
    assert account.is_complete, account
    assert account.decided == 800
    assert account.duplicates >= 300
    assert account.differing == 0
    alerts = [(record.key, record.value) for record in system.read("alerts")]
    assert len(set(alerts)) == len({value.split(b'"alert_id":')[1][:12] for _, value in alerts if value})
    undisturbed = install(partitions=2, redis_prefix="undisturbed")
    undisturbed.start("score")
    undisturbed.send(payments(0, 800))
    undisturbed.drained("score", "transactions")
    cards = {name: profile for name, profile in profiles(undisturbed).items() if name[0] == "card"}
    assert cards == {name: profile for name, profile in profiles(system).items() if name[0] == "card"}
