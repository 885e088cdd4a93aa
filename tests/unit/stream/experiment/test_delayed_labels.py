"""Labels, reported and assumed, reach an experiment as they reach a learner."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.features.spec import DEFAULT_SPEC
from producers.sources.open_source import open_source
from stream.config.settings import Duration, Settings
from stream.experiment import delayed_labels as past
from stream.experiment.choose import choose_models
from stream.experiment.delayed_labels import Correction, DelayedLabels
from stream.experiment.engine import EngineSettings
from stream.experiment.silent_engine import SilentEngine
from stream.history.event_order import Placed
from stream.messages import Label, Transaction, decision_decoder
from stream.policy import Policy
from stream.replay.replay import Replay
from stream.replay.store import DecisionFile
from tests.support.builders import START, label, payment

HOUR, DAY = 3600.0, 86400.0


def past_of(**changed: float) -> DelayedLabels:
    return DelayedLabels(**{"maturity": 30 * DAY, "label_wait": 7 * DAY, "remembered": 90 * DAY, **changed})


def placed(items: Iterable[Any]) -> Iterator[Placed[Any]]:
    timed = [(getattr(each, "event_time", None) or each.known_at, each) for each in items]
    timed.sort(key=lambda each: each[0])
    for offset, (time, item) in enumerate(timed):
        yield Placed(time.timestamp(), 0, offset, item)


def order_of(source: DelayedLabels, items: Sequence[msgspec.Struct]) -> list[str]:
    """What comes, in its order: a payment's name, or a label's with its verdict."""
    payments = [each for each in items if isinstance(each, Transaction)]
    labels = [each for each in items if isinstance(each, Label)]
    return [
        each.transaction_id
        if isinstance(each, Transaction)
        else f"{each.transaction_id} {'fraud' if each.is_fraud else 'genuine'}"
        for each in source.items(placed(payments), placed(labels))
    ]


def test_a_label_comes_before_no_payment_that_was_made_before_it_was_known() -> None:
    items = [payment("a", 0), payment("b", 1), payment("c", 2), label("a", 1.5)]
    assert order_of(past_of(), items) == ["a", "b", "a fraud", "c"]


def test_a_label_that_comes_before_its_payment_waits_for_it() -> None:
    items = [payment("a", 0), payment("b", 5), label("b", 1), payment("c", 6)]
    assert order_of(past_of(), items) == ["a", "b", "b fraud", "c"]


def test_of_labels_that_wait_the_latest_knowledge_counts() -> None:
    found = past_of()
    items = [payment("a", 0), label("b", 1), label("b", 2, fraud=False), payment("b", 5)]
    assert order_of(found, items) == ["a", "b", "b genuine"]
    assert found.counts.superseded == 1


@pytest.mark.parametrize("hours", [1.0, 24.0 * 20])
def test_a_label_of_a_payment_that_never_came_is_counted(hours: float) -> None:
    found = past_of()
    items = [payment("a", 0), label("x", 1), payment("b", hours + 24 * 8)]
    assert order_of(found, items) == ["a", "b"]
    assert found.counts.unknown == 1


def test_assumed_label_counts_with_the_payment_that_is_as_late_as_the_horizon() -> None:
    found = past_of(maturity=DAY)
    items = [payment("a", 0), payment("b", 23), label("b", 23.5), payment("c", 24), payment("d", 25)]
    assert order_of(found, items) == ["a", "b", "b fraud", "c", "a genuine", "d"]
    assert (found.counts.silent, found.counts.told) == (1, 1)


def test_assumed_label_overrules_nobody_and_nobody_is_overruled_twice() -> None:
    found = past_of(maturity=DAY)
    items = [
        payment("a", 0),
        payment("b", 0.5),
        payment("c", 30),
        label("a", 31),
        label("a", 32),
        label("b", 33, fraud=False),
        payment("d", 40),
        label("a", 35, fraud=False),
    ]
    assert order_of(found, items) == ["a", "b", "c", "a genuine", "b genuine", "d"]
    last = (START + timedelta(hours=35)).timestamp()
    assert found.corrected == {0: Correction(is_fraud=False, known_at=last)}
    counts = found.counts
    assert (counts.corrections, counts.late_frauds, counts.duplicate_labels) == (2, 1, 2)


def test_older_knowledge_that_comes_late_changes_nothing() -> None:
    found = past_of()
    payments = list(placed([payment("a", 0), payment("b", 10)]))
    newer, older = label("a", 3), label("a", 2, fraud=False)
    labels = [Placed(each.known_at.timestamp(), 0, at, each) for at, each in enumerate((newer, older))]
    items = list(found.items(payments, labels))
    assert [each.transaction_id for each in items if isinstance(each, Label)] == ["a"]
    assert (found.counts.superseded, found.corrected) == (1, {})


def test_assumed_label_in_the_log_is_not_used_but_counted_anew() -> None:
    found = past_of(maturity=2 * DAY)
    items = [
        payment("a", 0),
        label("a", 24, fraud=False, source="maturity"),
        payment("b", 30),
        payment("c", 48),
    ]
    assert order_of(found, items) == ["a", "b", "c", "a genuine"]
    assert found.counts.logged_assumed == 1


def test_a_payment_that_comes_again_is_given_once() -> None:
    found = past_of()
    items = [payment("a", 0), payment("a", 0), payment("b", 1), payment("a", 2)]
    assert order_of(found, items) == ["a", "b"]
    assert (found.counts.duplicates, found.counts.first_duplicate) == (2, "a")


def test_what_is_so_old_that_labels_come_no_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "LEAST_REMEMBERED", 2)
    found = past_of(remembered=2 * HOUR)
    items = [*(payment(name, hours) for hours, name in enumerate("abcde")), label("a", 4.5), payment("f", 5)]
    assert order_of(found, items) == [*"abcdef"]
    assert found.counts.unknown == 1


def test_no_copy_is_forgotten_that_the_engine_may_still_know() -> None:
    """Else rows would not be those of the engine, and a correction would meet another payment."""
    found = past_of(remembered=HOUR)
    assert order_of(found, [payment("a", 0), payment("b", 9), payment("a", 10)]) == ["a", "b"]


def test_payments_outside_of_the_limits_are_left_out_and_tell_how_late_it_is() -> None:
    start = START.timestamp()
    found = past_of(start=start + HOUR, end=start + 3 * HOUR, maturity=DAY)
    never_read = payment("z", 999)
    items = [payment(str(h), h) for h in range(6)] + [label("4", 8), payment("y", 50), never_read]
    assert order_of(found, items) == ["1", "2", "1 genuine", "2 genuine"]
    assert (found.counts.outside, found.counts.unknown) == (5, 1)


def test_assumed_label_teaches_as_it_teaches_the_learner(tmp_path: Path) -> None:
    """A replay of the learner and an experiment learn the same and score to the bit, but on the day of the
    change-over: an experiment asks less often whether the model is ready.
    """
    source = open_source("simulated:9000", schema=None, label_delay=2 * DAY, seed=4)
    items = [each for each in source.items if isinstance(each, Transaction) or each.is_fraud]
    settings = Settings(maturity=Duration(5 * DAY), negative_sampling_rate=0.2)
    out = DecisionFile(tmp_path / "out.jsonl")
    replay = Replay(settings, DEFAULT_SPEC, out)
    assert replay.run(items)
    out.close()
    told = [decision_decoder.decode(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]

    candidates = choose_models(
        ("default",), negative_sampling_rate=0.2, seed=1, spec=DEFAULT_SPEC, policy=Policy()
    )
    engine = SilentEngine(candidates, EngineSettings(spec=DEFAULT_SPEC, negative_sampling_rate=0.2))
    found = past_of(maturity=5 * DAY)
    payments = placed(each for each in items if isinstance(each, Transaction))
    engine.run(found.items(payments, placed(each for each in items if isinstance(each, Label))))

    assert candidates[0].learned == replay.counts.learned > 500
    assert found.counts.silent > replay.counts.silent, "of the others it is known for measuring"
    ready = next(each.event_time for each in told if each.model_version != "unsupervised-1")
    pairs = zip(candidates[0].scores, told, strict=True)
    differing = [decision.event_time for score, decision in pairs if score != decision.score]
    assert all(ready <= time < ready + timedelta(days=1) for time in differing)


def test_days_of_which_only_frauds_are_known_are_not_measured() -> None:
    candidates = choose_models(
        ("anomaly",), negative_sampling_rate=0.5, seed=1, spec=DEFAULT_SPEC, policy=Policy()
    )
    engine = SilentEngine(candidates, EngineSettings(spec=DEFAULT_SPEC, negative_sampling_rate=0.5))
    found = past_of(maturity=2 * DAY)
    payments = placed(payment(f"p{hours}", hours) for hours in range(24 * 5))
    engine.run(found.items(payments, placed([label("p3", 30), label("p100", 119), label("p5", 200)])))
    engine.correct(found.corrected)
    assert engine.known_until == (START + timedelta(days=3)).timestamp()
    assert list(engine.fraud[:6]) == [0, 0, 0, 1, 0, 1], "`p5` was reported after it was assumed genuine"
    assert set(engine.fraud[72:]) == {-1}, "`p100` too: its day is not known whole"
