from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from models.features.spec import DEFAULT_SPEC
from models.metrics.delayed_quality import DelayedQualitySettings
from models.metrics.quantiles import Durations
from models.scoring.registry import build_model
from stream.experiment.candidate import Candidate
from stream.experiment.engine import Engine, EngineSettings
from stream.messages import Decision, DriftSignal, Label
from stream.monitoring import Monitor, MonitorSettings
from stream.policy import Policy
from tests.support.builders import decision, label, payment

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = 86400.0
PER_DAY = 400


def decided(
    number: int, *, amount: int = 1000, country: str | None = "FR", late: float = 0.02, **more: Any
) -> Decision:
    time = START + timedelta(seconds=number * DAY / PER_DAY)
    paid = payment(number, start=time, card=f"c{number % 97}", merchant="m", amount=amount, country=country)
    made = {"score": 0.01, "model_version": "default@1", "decided_at": time + timedelta(seconds=late)}
    return decision(paid, **(made | more))


def reported(number: int, *, fraud: bool, days: float = 1.0) -> Label:
    time = START + timedelta(seconds=number * DAY / PER_DAY)
    return label(number, fraud=fraud, start=time, days=days, source="chargeback")


def settings(**changes: object) -> MonitorSettings:
    quality = DelayedQualitySettings(
        horizon=2 * DAY, window=5 * DAY, k=5, segment_names=("channel", "category", "country"), least_frauds=5
    )
    return MonitorSettings(**{"quality": quality, **changes})  # type: ignore[arg-type] # checked by name


Step = Decision | Label


def stream(days: int, *, seed: int = 1, blind_from: int = 10**9, rich_from: int = 10**9) -> list[Step]:
    """Payments and, a day late, labels of frauds: 5 % fraud, caught with 90 % until the model goes blind."""
    chance = random.Random(seed)
    steps: list[Step] = []
    due: list[Label] = []
    for number in range(days * PER_DAY):
        fraud = chance.random() < 0.05
        seen = (chance.random() < 0.9) == (number < blind_from)
        alerted = fraud and seen
        amount = round(100 * math.exp(chance.gauss(3.0 + (number >= rich_from), 1.0))) + 1
        made = decided(
            number,
            score=0.9 if alerted else 0.01 * chance.random(),
            amount=amount,
            action="review" if alerted else "approve",
            country=("FR", "DE", None)[number % 3],
        )
        steps.append(made)
        if fraud:
            due.append(reported(number, fraud=True))
        while due and due[0].known_at <= made.event_time:
            steps.append(due.pop(0))
    return steps


def runs(steps: Sequence[Step], size: int) -> Iterator[list[Step]]:
    """Batches of one kind of message each, at most `size` long."""
    batch: list[Step] = []
    for step in steps:
        if batch and (type(step) is not type(batch[0]) or len(batch) == size):
            yield batch
            batch = []
        batch.append(step)
    if batch:
        yield batch


def watch(steps: Sequence[Step], *, size: int = 100, monitor: Monitor | None = None) -> list[DriftSignal]:
    monitor = monitor or Monitor(settings())
    signals: list[DriftSignal] = []
    for batch in runs(steps, size):
        made = [step for step in batch if isinstance(step, Decision)]
        known = [step for step in batch if isinstance(step, Label)]
        if made:
            signals += monitor.on_decisions(made, now=START)
        if known:
            signals += monitor.on_labels(known)
    return signals


def drifts(signals: list[DriftSignal]) -> list[str]:
    return [signal.signal for signal in signals if signal.kind == "drift"]


def metrics(signals: list[DriftSignal], name: str, segment: str = "all") -> list[float]:
    return [
        signal.value
        for signal in signals
        if (signal.kind, signal.signal, signal.segment) == ("metric", name, segment)
    ]


def test_steady_stream_raises_no_drift() -> None:
    for seed in range(3):
        assert drifts(watch(stream(30, seed=seed))) == []


def test_shifted_amounts_are_told_with_both_levels_and_their_time() -> None:
    signals = watch(stream(15, rich_from=10 * PER_DAY))
    (found,) = [signal for signal in signals if signal.kind == "drift"]
    assert (found.signal, found.detector, found.segment) == ("input.amount_log", "adwin", "all")
    assert found.reference == pytest.approx(3.05, abs=0.15)
    assert found.value == pytest.approx(4.0, abs=0.5)
    assert START + timedelta(days=10) < found.event_time < START + timedelta(days=11.5)


def test_blind_model_is_told_by_the_labels_at_once_and_by_the_error_behind_the_horizon() -> None:
    signals = watch(stream(30, blind_from=15 * PER_DAY))
    first: dict[str, datetime] = {}
    for signal in signals:
        if signal.kind == "drift":
            first.setdefault(signal.signal, signal.event_time)
    assert {"fraud_loss", "error"} <= set(first)
    assert START + timedelta(days=16) < first["fraud_loss"] < START + timedelta(days=18)
    assert START + timedelta(days=17) < first["error"] < START + timedelta(days=28)
    assert metrics(signals, "alert_recall")[-1] < 0.2


def test_what_the_unsupervised_score_got_wrong_is_no_drift_of_the_model() -> None:
    """From the twentieth day on a model serves that misses most; nothing better is known of it."""
    steps = stream(45, blind_from=20 * PER_DAY)
    changed = [
        msgspec.structs.replace(step, model_version="unsupervised-1")
        if isinstance(step, Decision) and step.event_time < START + timedelta(days=20)
        else step
        for step in steps
    ]
    assert {"fraud_loss", "error"} <= set(drifts(watch(steps)))
    assert drifts(watch(changed)) == []


def test_a_model_that_learns_is_no_drift() -> None:
    """Its losses fall: what it misses at first it catches later."""
    steps = stream(40, seed=3)
    poor = [
        msgspec.structs.replace(step, score=step.score / 50.0, action="approve")
        if isinstance(step, Decision) and step.event_time < START + timedelta(days=20)
        else step
        for step in steps
    ]
    assert drifts(watch(poor)) == []


def test_monitor_and_experiment_watch_alike() -> None:
    """Every signal that an experiment has, in the same manner, with the same confidence."""
    monitor = Monitor(settings())
    live = {
        watch.signal: (watch.manner, watch._delta, watch._quiet)
        for watch in (monitor._inputs[0][1], monitor._score, monitor._error, monitor._loss)
    }
    engine = Engine([Candidate("m", build_model(), Policy())], EngineSettings(spec=DEFAULT_SPEC))
    tried = {
        watch.signal: (watch.manner, watch._delta, watch._quiet)
        for watch in (engine._input, *engine._watches["m"])
    }
    assert live == tried


def test_assumed_label_overrules_no_report() -> None:
    told = [reported(1, fraud=True, days=1)]
    silent = [label(1, fraud=False, start=START, days=2, source="maturity")]
    for labels in (told + silent, silent + told):
        monitor = Monitor(settings())
        monitor.on_decisions([decided(number) for number in range(20)], now=START)
        monitor.on_labels(labels)
        monitor.on_decisions([decided(5 * PER_DAY)], now=START)
        assert metrics(monitor.report(now=START), "fraud_rate") == [1 / 20]


def test_quality_is_told_every_interval_on_what_has_matured() -> None:
    signals = watch(stream(10))
    precision = [
        signal for signal in signals if signal.signal == "average_precision" and signal.segment == "all"
    ]
    assert [signal.event_time for signal in precision] == [
        START + timedelta(days=day) for day in range(3, 10)
    ]
    assert [signal.reference for signal in precision] == [None, *(signal.value for signal in precision[:-1])]
    assert metrics(signals, "alert_recall")[-1] == pytest.approx(0.9, abs=0.1)
    assert metrics(signals, "alert_precision")[-1] == 1.0
    assert metrics(signals, "matured")[-1] == 5 * PER_DAY
    assert metrics(signals, "fraud_rate")[-1] == pytest.approx(0.05, abs=0.02)
    assert metrics(signals, "card_precision@5")
    assert metrics(signals, "alert_recall", "country=FR")
    assert {signal.segment for signal in signals} == {"all", "country=FR", "country=DE"}


def test_signals_do_not_depend_on_how_the_stream_is_cut() -> None:
    steps = stream(12, blind_from=6 * PER_DAY, rich_from=8 * PER_DAY)
    whole = watch(steps, size=10_000)
    assert watch(steps, size=1) == whole
    assert watch(steps, size=7) == whole
    assert whole


def test_redelivered_decisions_change_nothing_but_their_count() -> None:
    steps = stream(8)
    twice = [again for step in steps for again in (step, step)]
    once, again = watch(steps), watch(twice)
    plain = [signal for signal in again if signal.signal not in {"duplicates", "labels"}]
    assert plain == [signal for signal in once if signal.signal not in {"duplicates", "labels"}]
    assert metrics(once, "duplicates") == [0.0] * 7
    assert metrics(again, "duplicates")[1:] == [PER_DAY] * 6


def test_rates_and_latency_come_from_the_clock_and_the_times_of_decisions() -> None:
    monitor = Monitor(settings())
    monitor.on_decisions([decided(number) for number in range(PER_DAY)], now=START)
    monitor.on_dead_letters(3)
    later = decided(PER_DAY).decided_at + timedelta(seconds=2)
    signals = monitor.on_decisions([decided(PER_DAY)], now=later)
    elapsed = (later - START).total_seconds()
    assert metrics(signals, "decisions") == [PER_DAY]
    assert metrics(signals, "decisions_per_second") == [PER_DAY / elapsed]
    assert metrics(signals, "decisions_per_second.event_time") == [PER_DAY / DAY]
    assert metrics(signals, "dead_letters") == [3.0]
    assert metrics(signals, "latency.p50") == [pytest.approx(0.02, rel=0.06)]
    assert metrics(signals, "latency.p99") == [pytest.approx(0.02, rel=0.06)]
    (rest,) = metrics(monitor.report(now=later), "dead_letters")
    assert rest == 0.0


def test_replay_tells_no_latency() -> None:
    monitor = Monitor(settings())
    # a few that seem live are no worker's latency either
    late = [decided(number, late=90 * DAY if number % 9 else 1.0) for number in range(PER_DAY + 1)]
    signals = monitor.on_decisions(late, now=START + timedelta(days=90))
    assert metrics(signals, "decisions") == [PER_DAY]
    assert metrics(signals, "latency.p50") == []


def test_change_from_the_unsupervised_to_the_learned_score_is_no_drift() -> None:
    chance = random.Random(1)
    many = 40 * PER_DAY
    before = [
        decided(n, score=0.3 + 0.1 * chance.random(), model_version="unsupervised-1") for n in range(many)
    ]
    after = [decided(many + n, score=0.1 * chance.random()) for n in range(many)]
    assert drifts(Monitor(settings()).on_decisions(before + after, now=START)) == []
    same = [msgspec.structs.replace(each, model_version="unsupervised-1") for each in after]
    assert drifts(Monitor(settings()).on_decisions(before + same, now=START)) == ["score"]


def test_fields_and_features_can_be_watched() -> None:
    monitor = Monitor(settings(inputs=("country=FR", "card.count")))
    usual = [decided(n, country="FR" if n % 4 else None, features={"card.count": n % 3}) for n in range(2000)]
    other = [decided(n, country="US", features={"card.count": 9.0 + n % 3}) for n in range(2000, 3200)]
    mute = [decided(n, country="US") for n in range(3200, 3300)]
    signals = monitor.on_decisions(usual + other + mute, now=START)
    assert sorted(drifts(signals)) == ["input.card.count", "input.country=FR"]


def test_nothing_is_told_before_the_first_decision() -> None:
    monitor = Monitor(settings())
    assert monitor.on_labels([reported(1, fraud=True)]) == []
    assert monitor.on_dead_letters(1) == []
    assert monitor.report(now=START) == []


def test_quantiles_are_within_five_percent() -> None:
    chance = random.Random(2)
    values = sorted(chance.lognormvariate(-5, 2) for _ in range(10_001))
    durations = Durations()
    for value in values:
        durations.add(value)
    for share in (0.01, 0.5, 0.99):
        assert durations.quantile(share) == pytest.approx(values[int(share * 10_000)], rel=0.055)
    durations.add(-1.0)
    assert durations.quantile(0.0) < 2e-5
    assert math.isnan(Durations().quantile(0.5))
