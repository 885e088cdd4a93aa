"""The detectors on whole worlds: quiet where nothing changes, and sure where something does."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from models.features.spec import DEFAULT_SPEC
from models.metrics.drift import DAY
from models.scoring.registry import build_model
from producers.simulator.simulate import DEMO, SimulationSpec, simulate_with_truth
from producers.sources.simulated import first_transactions, labelled
from stream.experiment.candidate import Candidate
from stream.experiment.engine import Alarm, Engine, EngineSettings
from stream.experiment.injections import Injector, parse_injection
from stream.messages import Label, Transaction
from stream.policy import Policy

STILL = msgspec.structs.replace(DEMO, changes=(), days=None)
LABELS = 7  # days until a label is known


def items_of(spec: SimulationSpec, seed: int, count: int) -> list[Transaction | Label]:
    truth = simulate_with_truth(spec, seed=seed)
    return list(first_transactions(labelled(truth, timedelta(days=LABELS)), count))


def alarms(items: list[Transaction | Label]) -> list[tuple[float, Alarm]]:
    """Each with the days from the first midnight to when it was found."""
    engine = Engine([Candidate("default", build_model(), Policy())], EngineSettings(spec=DEFAULT_SPEC))
    engine.run(items)
    start = engine.times[0] // DAY * DAY
    return [((alarm.found.event_time - start) / DAY, alarm) for alarm in engine.alarms]


@pytest.fixture(scope="module")
def still() -> list[Transaction | Label]:
    """Some 45 days in which nothing changes but what the model has learned."""
    return items_of(STILL, seed=2, count=45_000)


def test_world_without_a_change_raises_no_alarm(still: list[Transaction | Label]) -> None:
    assert alarms(still) == []


def test_shifted_amounts_are_found_within_two_days(still: list[Transaction | Label]) -> None:
    at = DEMO.start + timedelta(days=30)
    injector = Injector([parse_injection(f"amount*1.5 @ {at:%Y-%m-%d}")], frozenset())
    found = alarms(list(injector(still)))
    days, first = found[0]
    assert (first.model, first.found.signal) == ("", "input.amount_log")
    assert 30.0 < days < 32.0
    assert first.found.since == pytest.approx(at.timestamp(), abs=DAY / 2)


def test_frauds_of_a_new_kind_are_found_within_days_of_their_first_labels() -> None:
    """On its 28th day the world changes: cards are taken over online, and no more stolen at tills."""
    found = alarms(items_of(msgspec.structs.replace(DEMO, days=None), seed=2, count=45_000))
    days, first = next((days, alarm) for days, alarm in found if alarm.found.signal == "fraud_loss")
    assert first.model == "default"
    assert 28.0 + LABELS < days < 28.0 + LABELS + 5.0
    assert first.found.after > first.found.before + 1.0
    assert not [alarm for when, alarm in found if when < 28.0]
