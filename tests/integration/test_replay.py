"""What a real installation decided is made again, from its topics and from the file that was streamed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner

from producers.sources.open_source import open_source
from stream.adapters.kafka.models import opened, trust_of
from stream.adapters.kafka.outbox import KafkaOutbox
from stream.cli.main import riverwatch
from stream.demo.show import variables
from stream.inspect.explain import NotDecided, explain
from stream.messages import Decision, Label, Transaction, decision_decoder, encode
from stream.ports import Message
from stream.replay.file import FilePlan, replay_file
from stream.replay.topics import rebuild_scores

if TYPE_CHECKING:
    from tests.support.installation import Installation

from tests.support.model_keys import KEY
from tests.support.payment_files import write_payments

pytestmark = pytest.mark.guarantee

Install = Callable[..., "Installation"]
START = datetime(2026, 1, 5, tzinfo=UTC)
DAYS, A_DAY = 8, 220
RATE = {"negative_sampling_rate": 0.6, "maturity": "60d"}


def payments_file(folder: Path, *, labelled: bool = True, shops: int = 30) -> tuple[Path, Path]:
    """Payments whose labels all come at midnight."""
    chance = Random(5)
    rows = []
    for number in range(DAYS * A_DAY):
        day, place = divmod(number, A_DAY)
        time = START + timedelta(days=day, seconds=place * 390 + chance.randrange(300))
        fraud = chance.random() < 0.05
        amount = chance.lognormvariate(5.5 if fraud else 3.5, 0.6)
        known = START + timedelta(days=day + 1 + chance.randrange(2))
        rows.append(
            [
                f"p{number}",
                time.isoformat(),
                f"c{chance.randrange(80)}",
                f"m{chance.randrange(shops)}",
                f"{amount:.2f}",
                chance.choice(["DE", "FR", "NL"]),
                int(fraud) if labelled else "",
                known.isoformat(),
            ]
        )
    return write_payments(folder, rows)


def items_of(data: Path, schema: Path) -> list[Transaction | Label]:
    return list(open_source(str(data), schema=schema, label_delay=None, seed=1).items)


def decisions_of(system: Installation) -> dict[str, Decision]:
    """The first decision of each transaction."""
    found: dict[str, Decision] = {}
    for record in system.read("scores"):
        decision = decision_decoder.decode(record.value or b"")
        found.setdefault(decision.transaction_id, decision)
    return found


def lines_of(path: Path) -> dict[str, Decision]:
    decisions = map(decision_decoder.decode, path.read_bytes().splitlines())
    return {decision.transaction_id: decision for decision in decisions}


def published(system: Installation) -> Any:
    records = system.read("models")
    return opened(records[-1].value or b"", trust_of(system.settings)) if records else None


def in_use(system: Installation, version: str) -> None:
    """Wait until the score worker decides by a model: it says so with a batch, so it gets one of junk."""

    def says_so() -> bool:
        system.send_raw("transactions", b"junk", b"junk")
        system.flush()
        system.drained("score", "transactions")
        return any(worker.model_version == version for worker in system.workers() if worker.role == "score")

    system.until(says_so, 20, f"{version} does not come into use")


def streamed_step_by_step(system: Installation, items: Sequence[Transaction | Label]) -> None:
    """Stream the items so that each label is learned before the transactions after it are sent."""
    for is_payment, group in groupby(items, lambda item: isinstance(item, Transaction)):
        system.send(group)
        if is_payment:
            system.drained("score", "transactions")
            continue
        system.drained("learn", "labels")
        newest = published(system)
        if newest.model.ready:
            in_use(system, newest.manifest.version)


def test_file_through_kafka_redis_and_workers_is_decided_as_its_replay_says(
    install: Install, tmp_path: Path
) -> None:
    system = install(partitions=1, **RATE)
    for role in ("score", "learn"):
        system.start(role, **RATE)
    data, schema = payments_file(tmp_path)
    items = items_of(data, schema)
    streamed_step_by_step(system, items)
    system.settled()
    plan = FilePlan(data=str(data), schema=schema, out=tmp_path / "file.jsonl")
    counts = replay_file(plan, system.settings).counts
    assert counts.decided == DAYS * A_DAY
    live, again = decisions_of(system), lines_of(plan.out)
    assert list(live) == list(again)
    # Events that are no payments stand between them: all but their places is the same, to the bit.
    masked = {"decided_at": START, "origin": (0, 0)}
    for name, decision in live.items():
        assert encode(msgspec.structs.replace(decision, **masked)) == encode(
            msgspec.structs.replace(again[name], **masked)
        )
    versions = {decision.model_version for decision in live.values()}
    assert {"unsupervised-1", counts.model} < versions, "the model was learned and changed on the way"
    everything_is_made_again(system, tmp_path, versions=len(versions))
    moments_are_explained(system, live, ["p700", f"p{DAYS * A_DAY - 1}"])


def everything_is_made_again(system: Installation, folder: Path, *, versions: int) -> None:
    out = folder / "topics.jsonl"
    found = rebuild_scores(system.settings, out)
    assert found.is_exact
    assert found.decisions == found.scores == found.whole == len(lines_of(out))
    assert found.versions == versions
    assert found.learned == published(system).manifest.learned


def moments_are_explained(system: Installation, live: Mapping[str, Decision], names: Sequence[str]) -> None:
    for name in names:
        found = explain(system.settings, name)
        assert found.decision == live[name]
        assert found.model_version == live[name].model_version
        assert found.is_same
        assert found.follows
        total = found.bias + sum(feature.contribution for feature in found.features)
        assert total == pytest.approx(found.log_odds, abs=1e-9)
        assert {feature.name for feature in found.features} >= set(live[name].features or {})
        for kind, (key, events, labels) in live[name].entities.items():
            view = found.entities[kind]
            assert (view.entity, view.events, view.labels) == (f"{kind}:{key}", events, labels)
    with pytest.raises(NotDecided, match="no decision on it"):
        explain(system.settings, "nobody")


def test_several_partitions_are_made_again_whatever_labels_and_workers_did(
    install: Install, tmp_path: Path
) -> None:
    """Labels come early, late, contradicting, and assumed genuine; the learner is killed and comes back."""
    rate = {"negative_sampling_rate": 0.6, "maturity": "1d"}
    system = install(partitions=3, **rate)
    learner = system.start("learn", **rate)
    for _ in range(2):
        system.start("score", **rate)
    payments = [item for item in items_of(*payments_file(tmp_path)) if isinstance(item, Transaction)]
    labels = [item for item in items_of(*payments_file(tmp_path)) if isinstance(item, Label)]
    frauds = [label for label in labels if label.is_fraud]
    opposite = [
        msgspec.structs.replace(label, is_fraud=False, known_at=label.known_at + timedelta(hours=hours))
        for label, hours in zip(frauds[::5], [3, -3] * len(frauds), strict=False)
    ]
    system.send(frauds[-20:])
    known, third = set[str](), len(payments) // 3
    for at in range(0, len(payments), third):
        part = payments[at : at + third]
        known |= {payment.transaction_id for payment in part}
        system.send(part)
        system.settled()
        system.send(label for label in [*frauds, *opposite] if label.transaction_id in known)
        system.settled()
        if at == 0:
            learner.kill()
            system.start("learn", **rate)
    live = decisions_of(system)
    found = rebuild_scores(system.settings, tmp_path / "first.jsonl")
    assert found.is_exact, found
    assert found.decisions == found.scores == found.whole == len(payments)
    assert found.versions > 2
    rebuild_scores(system.settings, tmp_path / "second.jsonl")
    assert (tmp_path / "second.jsonl").read_bytes() == (tmp_path / "first.jsonl").read_bytes()
    assert lines_of(tmp_path / "first.jsonl") == live
    a_changed_score_is_found(system, tmp_path, list(live.values())[-1])


def a_changed_score_is_found(system: Installation, folder: Path, decision: Decision) -> None:
    """By the command, which says so and ends with 1."""
    environment = {**variables(system.settings), "RIVERWATCH_MODEL_KEY": KEY}
    command = ["replay", "--topics", "--negative-sampling-rate", "0.6", "--out", str(folder / "again.jsonl")]
    right = CliRunner().invoke(riverwatch, command, env=environment)
    assert right.exit_code == 0, right.output
    assert f"{DAYS * A_DAY:,} scores are equal to the bit, 0 differ" in right.output
    changed = msgspec.structs.replace(
        decision, transaction_id="changed", origin=(0, 100_000), score=math.nextafter(decision.score, 1.0)
    )
    orphan = msgspec.structs.replace(
        changed, transaction_id="orphan", origin=(0, 100_001), model_version="default@99999"
    )
    scores = system.settings.topic("scores")
    KafkaOutbox(system.settings).send([Message(scores, b"c", encode(each)) for each in (changed, orphan)])
    wrong = CliRunner().invoke(riverwatch, command, env=environment)
    assert wrong.exit_code == 1
    assert "1 differ, 1 have no model" in wrong.output
    assert f"changed by {decision.model_version}: recorded {changed.score!r}" in wrong.output
    explained = [
        "replay",
        "--topics",
        "--negative-sampling-rate",
        "0.6",
        "--explain",
        decision.transaction_id,
    ]
    told = CliRunner().invoke(riverwatch, [*explained, "--json"], env=environment)
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["decision"] == json.loads(encode(decision))
    shown = CliRunner().invoke(riverwatch, explained, env=environment)
    assert shown.exit_code == 0, shown.output
    assert f"merchant:{decision.merchant_id}" in shown.output
    assert "the features follow from the profiles, to the bit" in shown.output
    unknown = CliRunner().invoke(riverwatch, [*explained[:-1], "nobody"], env=environment)
    assert unknown.exit_code == 1
    assert unknown.output.startswith("Error: nobody: no decision on it is on ")


def test_order_of_updates_explains_every_difference_of_several_partitions(
    install: Install, tmp_path: Path
) -> None:
    system = install(partitions=4, **RATE)
    for _ in range(2):
        system.start("score", **RATE)
    data, schema = payments_file(tmp_path, labelled=False, shops=300)
    items = items_of(data, schema)
    for at in range(0, len(items), A_DAY):  # within a day each partition goes at its own pace
        system.send(items[at : at + A_DAY])
        system.drained("score", "transactions")
    plan = FilePlan(data=str(data), schema=schema, out=tmp_path / "file.jsonl")
    replay_file(plan, system.settings)
    live, again = decisions_of(system), lines_of(plan.out)
    assert live.keys() == again.keys()
    past, past_again = pasts(live), pasts(again)
    same = {name for name in live if live[name].features == again[name].features}
    explained = {name for name in live if past[name] != past_again[name]}
    assert live.keys() - same <= explained, "a difference that no order of updates explains"
    assert all(scored(live[name]) == scored(again[name]) for name in same)
    differing = len(live) - len(same)
    assert len(live) // 20 < differing < len(live) // 2 + len(live) // 3, "some shops are shared, some not"


def scored(decision: Decision) -> tuple[float, str, str]:
    return decision.score, decision.action, decision.model_version


def pasts(decisions: Mapping[str, Decision]) -> dict[str, dict[str, tuple[str, ...]]]:
    """For each decision and each of its entities the events before it, in the order the counts record."""
    orders: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for name, decision in decisions.items():
        for kind, (key, before, _) in decision.entities.items():
            orders.setdefault((kind, key), []).append((before, name))
    names: dict[tuple[str, str], tuple[str, ...]] = {}
    for entity, turns in orders.items():
        assert sorted(before for before, _ in turns) == list(range(len(turns))), "each event at its own place"
        names[entity] = tuple(name for _, name in sorted(turns))
    return {
        name: {
            kind: names[kind, key][:before] for kind, (key, before, _) in decision.entities.items()
        }
        for name, decision in decisions.items()
    }  # fmt: skip
