from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import islice, pairwise

import msgspec
import pytest

from producers.simulator.frauds import SCENARIOS, Scenarios
from producers.simulator.labels import Reporting
from producers.simulator.simulate import (
    DEFAULT,
    DEMO,
    Change,
    ScenarioName,
    SimulationSpec,
    Truth,
    simulate,
    simulate_with_truth,
)
from producers.simulator.world import Population
from stream.card_numbers import looks_like_card_number
from stream.messages import Label, Transaction, encode, label_decoder, transaction_decoder

FRAUDS: tuple[ScenarioName, ...] = (
    "stolen_card",
    "compromised_merchant",
    "account_takeover",
    "card_testing",
)
SMALL = SimulationSpec(days=30, population=Population(cards=300, merchants=120))
BUSY = Scenarios(
    **{
        name: msgspec.structs.replace(getattr(Scenarios(), name), cases=getattr(Scenarios(), name).cases * 8)
        for name in FRAUDS
    }
)


def _scenarios_by_day(spec: SimulationSpec, seed: int) -> dict[int, Counter[str]]:
    found: dict[int, Counter[str]] = defaultdict(Counter)
    when = spec.start
    for item in simulate_with_truth(spec, seed=seed):
        if isinstance(item, Transaction):
            when = item.event_time
        elif isinstance(item, Truth):
            found[(when - spec.start).days][item.scenario] += 1
    return found


def _total(days: dict[int, Counter[str]]) -> Counter[str]:
    return sum(days.values(), Counter())


def _honest(spec: SimulationSpec, seed: int) -> list[tuple[datetime, str, int]]:
    items = list(simulate_with_truth(spec, seed=seed))
    return [
        (item.event_time, item.card_id, item.amount_minor)
        for item, after in pairwise(items)
        if isinstance(item, Transaction) and isinstance(after, Truth) and not after.is_fraud
    ]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first = [encode(item) for item in simulate(SMALL, seed=5)]
    assert first == [encode(item) for item in simulate(SMALL, seed=5)]
    other = [encode(item) for item in simulate(SMALL, seed=6)]
    assert not set(first) & set(other)


def test_items_are_in_order_of_when_they_happened_or_became_known() -> None:
    times = [
        item.event_time if isinstance(item, Transaction) else item.known_at for item in simulate(DEMO, seed=3)
    ]
    assert times == sorted(times)


def test_every_message_is_what_the_contract_asks_for() -> None:
    for item in simulate(SMALL, seed=1):
        decoder = transaction_decoder if isinstance(item, Transaction) else label_decoder
        assert decoder.decode(encode(item)) == item


def test_a_label_is_never_known_before_its_transaction_and_never_without_one() -> None:
    made: dict[str, datetime] = {}
    for item in simulate(DEMO, seed=2):
        if isinstance(item, Transaction):
            assert item.transaction_id not in made
            made[item.transaction_id] = item.event_time
        else:
            assert item.known_at > made[item.transaction_id]


@pytest.mark.parametrize("name", FRAUDS)
def test_a_scenario_switched_off_never_happens_and_changes_nothing_else(name: ScenarioName) -> None:
    busy = msgspec.structs.replace(SMALL, scenarios=BUSY)
    off = msgspec.structs.replace(getattr(BUSY, name), enabled=False)
    without = msgspec.structs.replace(busy, scenarios=msgspec.structs.replace(BUSY, **{name: off}))
    with_all, rest = _total(_scenarios_by_day(busy, 4)), _total(_scenarios_by_day(without, 4))
    assert with_all[name] > 0
    assert rest[name] == 0
    for other in set(SCENARIOS) - {name}:
        assert rest[other] == with_all[other]
    assert _honest(without, 4) == _honest(busy, 4)


def test_a_pattern_changes_at_its_day_and_not_before_or_after() -> None:
    spec = msgspec.structs.replace(
        SMALL,
        population=Population(cards=1500, merchants=120, payments_per_day=0.5),
        scenarios=msgspec.structs.replace(
            BUSY, account_takeover=msgspec.structs.replace(BUSY.account_takeover, enabled=False)
        ),
        changes=(
            Change(at_day=12, scenario="stolen_card", parameters={"enabled": False}),
            Change(at_day=12, scenario="account_takeover", parameters={"enabled": True}),
            Change(at_day=20, scenario="account_takeover", parameters={"enabled": False}),
        ),
    )
    days = _scenarios_by_day(spec, 9)
    stolen = {day for day, counts in days.items() if counts["stolen_card"]}
    taken = {day for day, counts in days.items() if counts["account_takeover"]}
    assert max(stolen) == 11
    assert (min(taken), max(taken)) == (12, 19)


def test_a_change_may_set_parameters_and_leaves_the_others() -> None:
    many = Change(at_day=15, scenario="card_testing", parameters={"cases": 5.0})
    days = _scenarios_by_day(msgspec.structs.replace(SMALL, changes=(many,)), 3)
    before = sum(days[day]["card_testing"] for day in range(15))
    after = sum(days[day]["card_testing"] for day in range(15, 30))
    assert after > 10 * max(before, 1)


def test_a_change_of_a_parameter_that_is_not_there_is_refused() -> None:
    wrong = Change(at_day=0, scenario="stolen_card", parameters={"amout_factor": 2.0})
    with pytest.raises(ValueError, match="amout_factor"):
        next(simulate(msgspec.structs.replace(SMALL, changes=(wrong,)), seed=1))


def test_labels_come_as_they_do_in_life() -> None:
    reporting = Reporting(missing=0.2, misjudged=0.2)
    spec = SimulationSpec(
        days=40, population=Population(cards=800, merchants=200), scenarios=BUSY, reporting=reporting
    )
    made: dict[str, datetime] = {}
    truths: dict[str, bool] = {}
    labels: dict[str, list[Label]] = defaultdict(list)
    for item in simulate_with_truth(spec, seed=11):
        if isinstance(item, Transaction):
            made[item.transaction_id] = item.event_time
        elif isinstance(item, Truth):
            truths[item.transaction_id] = item.is_fraud
        else:
            labels[item.transaction_id].append(item)

    frauds = [each for each, is_fraud in truths.items() if is_fraud]
    genuine = [each for each, is_fraud in truths.items() if not is_fraud]
    assert sum(each not in labels for each in frauds) / len(frauds) == pytest.approx(0.2, abs=0.03)
    assert sum(each in labels for each in genuine) < 0.01 * len(genuine)
    corrected = [each for each in frauds if len(labels[each]) > 1]
    assert len(corrected) / len(frauds) == pytest.approx(0.2 * 0.8, abs=0.03)
    assert all([label.is_fraud for label in labels[each]] == [False, True] for each in corrected)
    accused = [each for each in genuine if len(labels[each]) > 1]
    assert accused
    assert all([label.is_fraud for label in labels[each]] == [True, False] for each in accused)
    # The latest knowledge is the truth, of whatever is known at all.
    assert all(known[-1].is_fraud == truths[each] for each, known in labels.items() if known)

    delays = sorted(
        known[0].known_at - made[each]
        for each, known in labels.items()
        if len(known) == 1 and known[0].source == "chargeback"
    )
    assert timedelta(days=4) < delays[len(delays) // 2] < timedelta(days=6)
    assert delays[-1] > timedelta(days=12)
    assert {label.source for known in labels.values() for label in known} == {
        "chargeback",
        "analyst",
        "customer",
    }


def test_no_card_number_exists() -> None:
    cards = {item.card_id for item in simulate(SMALL, seed=8) if isinstance(item, Transaction)}
    assert len(cards) > 250
    assert not any(looks_like_card_number(card.encode()) for card in cards)


def test_the_demo_is_eight_weeks_of_some_fifty_thousand_payments_in_two_patterns() -> None:
    days = _scenarios_by_day(DEMO, 7)
    total = _total(days)
    assert 40_000 < total.total() < 60_000
    assert max(days) == 55
    assert 0.005 < 1 - total["genuine"] / total.total() < 0.03
    first, second = (_total({d: days[d] for d in part}) for part in (range(28), range(28, 56)))
    assert first["stolen_card"] > 100 > second["stolen_card"] == 0
    assert second["account_takeover"] > 100 > first["account_takeover"] == 0


def test_the_default_never_ends() -> None:
    items = islice(simulate(DEFAULT, seed=1), 20_000)
    assert sum(isinstance(item, Transaction) for item in items) > 19_000


def test_a_stolen_card_is_used_far_away_with_more_money_and_new_devices() -> None:
    spec = msgspec.structs.replace(SMALL, scenarios=BUSY)
    amounts: dict[bool, list[int]] = {False: [], True: []}
    seen: dict[str, set[str]] = defaultdict(set)
    strange: Counter[bool] = Counter()
    devices: Counter[bool] = Counter()
    payment: Transaction | None = None
    for item in simulate_with_truth(spec, seed=5):
        if isinstance(item, Transaction):
            payment = item
        elif isinstance(item, Truth) and payment is not None and item.scenario in {"genuine", "stolen_card"}:
            amounts[item.is_fraud].append(payment.amount_minor)
            if payment.device_id is not None:
                devices[item.is_fraud] += 1
                strange[item.is_fraud] += payment.device_id not in seen[payment.card_id]
                seen[payment.card_id].add(payment.device_id)
    middle = {which: sorted(each)[len(each) // 2] for which, each in amounts.items()}
    assert middle[True] > 2.5 * middle[False]
    assert strange[True] / devices[True] > 4 * strange[False] / devices[False]
