"""A real installation with a model of one's choice, and its change for another one, to the bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from models.features.spec import DEFAULT_SPEC
from stream.adapters.kafka.models import PublishedModel, opened, trust_of
from stream.config.factories import new_model
from stream.learning import is_sampled
from stream.messages import Decision, Label, Transaction, decision_decoder, label_decoder
from stream.replay.topics import rebuild_scores
from stream.verify.audit import Audit
from tests.support.builders import label, payment

if TYPE_CHECKING:
    from tests.support.installation import Installation

pytestmark = pytest.mark.guarantee

FIRST, THEN = "hoeffding-tree", "river-pipeline"
RATE = {"negative_sampling_rate": 0.6, "maturity": "60d", "model_pickle": True}


def payments(first: int, count: int) -> list[Transaction]:
    """Every tenth is a fraud, and pays more."""
    chance = Random(first)
    return [
        payment(
            f"p{number}",
            minutes=number,
            card=f"c{chance.randrange(60)}",
            merchant=f"m{chance.randrange(20)}",
            amount=int(chance.lognormvariate(10.0 if number % 10 == 0 else 8.0, 0.6)),
        )
        for number in range(first, first + count)
    ]


def labels_of(items: Sequence[Transaction]) -> list[Label]:
    return [
        label(item.transaction_id, 1, fraud=int(item.transaction_id[1:]) % 10 == 0, start=item.event_time)
        for item in items
    ]


def newest(system: Installation, name: str) -> PublishedModel | None:
    values = [record.value for record in system.read("models") if record.key == name.encode()]
    return opened(values[-1] or b"", trust_of(system.settings, name=name)) if values else None


def decisions_of(system: Installation) -> list[Decision]:
    return [decision_decoder.decode(record.value or b"") for record in system.read("scores")]


def serves(system: Installation, name: str, at: int) -> None:
    """Wait until the score worker decides by that model or a later one: each look is another payment."""
    number = at

    def looked() -> bool:
        nonlocal number
        system.send(payments(number, 1))
        number += 1
        system.drained("score", "transactions")
        return decisions_of(system)[-1].model_version.startswith(f"{name}@")

    system.until(looked, 30, f"{name} is not served")


def learned_by_hand(system: Installation, name: str, until: int) -> Any:
    """The model that the labels give, each with the features that were served."""
    settings = msgspec.structs.replace(system.settings, model=name)
    model = new_model(settings, DEFAULT_SPEC)
    served = {decision.transaction_id: decision.features for decision in decisions_of(system)}
    for record in system.read("labels"):
        label = label_decoder.decode(record.value or b"")
        chosen = label.is_fraud or is_sampled(label.transaction_id, settings.negative_sampling_rate)
        if record.offset < until and chosen:
            model.learn_one(served[label.transaction_id], label.is_fraud)
    return model


def test_model_of_choice_is_served_changed_for_another_and_all_of_it_made_again(
    install: Callable[..., Installation], tmp_path: Path
) -> None:
    system = install(partitions=1, model=FIRST, **RATE)
    score, learn = (system.start(role, model=FIRST, **RATE) for role in ("score", "learn"))
    items = payments(0, 900)
    system.send(items)
    system.drained("score", "transactions")
    system.send(labels_of(items))
    system.settled()
    serves(system, FIRST, 10_000)
    before = newest(system, FIRST)
    assert before is not None

    # The learner first: what it has to learn anew is in the logs. The scorer goes on with what it has.
    learn.stop(10.0)
    learn = system.start("learn", model=THEN, **RATE)
    system.until(lambda: newest(system, THEN) is not None, 60, "the other model is not published")
    late = newest(system, THEN)
    assert late is not None
    assert late.manifest.next_offset == before.manifest.next_offset == len(items)
    assert late.manifest.learned == before.manifest.learned
    assert "it learns them from the logs" in learn.log.read_text()
    wanted = learned_by_hand(system, THEN, len(items))
    for decision in decisions_of(system)[-200:]:
        assert late.model.score_one(decision.features).hex() == wanted.score_one(decision.features).hex()

    score.stop(10.0)
    system.start("score", model=THEN, **RATE)
    serves(system, THEN, 20_000)
    more = payments(1000, 100)
    system.send(more)
    system.drained("score", "transactions")
    system.send(labels_of(more))
    system.settled()
    serves(system, THEN, 30_000)

    settings = msgspec.structs.replace(system.settings, model=THEN)
    versions = {decision.model_version.partition("@")[0] for decision in decisions_of(system)}
    assert versions == {"unsupervised-1", FIRST, THEN}
    found = rebuild_scores(settings, tmp_path / "again.jsonl")
    assert found.is_exact, found
    assert found.decisions == found.scores == found.whole
    report = Audit(settings).run()
    assert not report.is_broken, report
