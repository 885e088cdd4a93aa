from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from producers.simulator.simulate import DEMO, simulate_with_truth
from producers.sources.simulated import labelled
from stream.experiment.injections import InjectionError, Injector, frauds_of, needs_frauds, parse_injection
from stream.messages import Label, Transaction

CHANGE = datetime(2025, 1, 10, tzinfo=UTC)


def items() -> list[Transaction | Label]:
    found = labelled(simulate_with_truth(DEMO, seed=3), timedelta(days=1))
    return list(islice(found, 9000))


def injected(*texts: str) -> tuple[list[Transaction], list[Transaction], Injector]:
    before = items()
    injector = Injector([parse_injection(text) for text in texts], frauds_of(before))
    after = list(injector(before))
    assert [type(each) for each in after] == [type(each) for each in before]
    assert [each for each in after if isinstance(each, Label)] == [
        each for each in before if isinstance(each, Label)
    ]
    return (
        [each for each in before if isinstance(each, Transaction)],
        [each for each in after if isinstance(each, Transaction)],
        injector,
    )


@pytest.mark.parametrize(
    ("text", "kind", "value", "frauds_only"),
    [
        ("amount*1.5 @ 2025-01-10", "multiply", 1.5, False),
        ("  amount * 1.5@2025-01-10 ", "multiply", 1.5, False),
        ("amount+20 @ 2025-01-10", "add", 20.0, False),
        ("frauds.amount*0.3 @ 2025-01-10", "multiply", 0.3, True),
        ("swap-frauds @ 2025-01-10", "swap", 0.0, True),
    ],
)
def test_injection_is_read(text: str, kind: str, value: float, frauds_only: bool) -> None:
    found = parse_injection(text)
    assert (found.kind, found.value, found.frauds_only) == (kind, value, frauds_only)
    assert (found.start, found.end) == (CHANGE, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "amount*1.5",
        "amount/2 @ 2025-01-10",
        "amount*0 @ 2025-01-10",
        "amount*-1 @ 2025-01-10",
        "amount*1.5 @ 2025-13-10",
        "amount*1.5 @ 10.01.2025",
        "amount*1.5 @ 2025-01-10..2025-01-10",
        "swap @ 2025-01-10",
        "swap-frauds*2 @ 2025-01-10",
    ],
)
def test_what_is_no_injection_is_told_in_one_line(text: str) -> None:
    with pytest.raises(InjectionError) as told:
        parse_injection(text)
    assert "\n" not in str(told.value)
    assert repr(text) in str(told.value)


def test_amounts_change_from_the_day_on_until_the_other() -> None:
    before, after, injector = injected("amount*1.5 @ 2025-01-10..2025-01-12")
    end = CHANGE + timedelta(days=2)
    for old, new in zip(before, after, strict=True):
        within = CHANGE <= old.event_time < end
        assert new.amount_minor == (round(old.amount_minor * 1.5) if within else old.amount_minor)
    assert injector.changed == sum(CHANGE <= each.event_time < end for each in before) > 100


def test_amounts_are_raised_in_major_units() -> None:
    before, after, _ = injected("amount+20 @ 2025-01-10")
    assert after[-1].amount_minor - before[-1].amount_minor == 2000
    assert after[0] == before[0]


def test_frauds_alone_change_and_genuine_stay() -> None:
    before, after, injector = injected("frauds.amount*0.3 @ 2025-01-06")
    frauds = frauds_of(items())
    changed = {old.transaction_id for old, new in zip(before, after, strict=True) if old != new}
    assert changed <= frauds
    assert len(changed) == injector.changed > 5


def test_swapped_frauds_are_made_in_ordinary_places_for_small_amounts() -> None:
    before, after, injector = injected("swap-frauds @ 2025-01-06")
    frauds = frauds_of(items())
    ordinary: Transaction | None = None
    seen = 0
    for old, new in zip(before, after, strict=True):
        if old.transaction_id in frauds and ordinary is not None:
            assert new.merchant_id == ordinary.merchant_id
            assert new.category == ordinary.category
            assert new.amount_minor == max(ordinary.amount_minor // 10, 1)
            assert (new.card_id, new.event_time) == (old.card_id, old.event_time)
            seen += 1
        elif old.transaction_id not in frauds:
            assert new == old
            ordinary = old
    assert seen == injector.changed > 5


def test_several_injections_apply_in_their_order() -> None:
    before, after, _ = injected("amount*2 @ 2025-01-10", "amount+1 @ 2025-01-10")
    assert after[-1].amount_minor == before[-1].amount_minor * 2 + 100


def test_only_injections_on_frauds_need_to_know_them() -> None:
    assert not needs_frauds([parse_injection("amount*2 @ 2025-01-10")])
    assert needs_frauds([parse_injection("swap-frauds @ 2025-01-10")])
