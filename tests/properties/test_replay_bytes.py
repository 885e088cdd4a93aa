"""The output of a replay is a function of its items: no cut of batches and no interruption changes a byte."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.features.spec import FeatureSpec
from stream.config.settings import Duration, Settings
from stream.messages import Label, Transaction, decision_decoder
from stream.replay.checkpoint import Checkpoints
from stream.replay.parts import ReplayCounts
from stream.replay.replay import Replay
from stream.replay.store import DecisionFile
from tests.support.model_keys import SIGNING

START = datetime(2026, 1, 5, tzinfo=UTC)
SPEC = FeatureSpec()
SETTINGS = Settings(
    negative_sampling_rate=0.9,
    maturity=Duration(6 * 3600.0),
    label_wait=Duration(12 * 3600.0),
    decision_ttl=Duration(86400.0),
)


@cache
def world(seed: int) -> tuple[Transaction | Label, ...]:
    """Payments (some late, some sent twice) and labels: early, repeated, contradicting, of nobody."""
    chance = Random(seed)
    timed: list[tuple[datetime, int, Transaction | Label]] = []
    for number in range(1600):
        time = START + timedelta(minutes=5 * number)
        fraud = chance.random() < 0.25
        payment = Transaction(
            transaction_id=f"t{number}",
            event_time=time - timedelta(hours=chance.choice([0] * 9 + [8])),
            card_id=f"c{chance.randrange(25)}",
            merchant_id=f"m{chance.randrange(10)}",
            amount_minor=max(int(chance.lognormvariate(8.5 if fraud else 7.0, 0.7)), 1),
            currency="EUR",
            country=chance.choice(["DE", "FR", None]),
        )
        timed.append((time, number, payment))
        if chance.random() < 0.03:
            timed.append((time + timedelta(hours=chance.choice([0, 1, 60])), number, payment))
        for told in range(chance.choice([0, 1, 1, 2]) if fraud else chance.choice([0, 0, 1])):
            known = time + timedelta(minutes=chance.randrange(-120, 900))
            name = f"t{number}" if chance.random() < 0.98 else f"nobody{number}"
            label = Label(transaction_id=name, is_fraud=fraud ^ (told == 1), known_at=known, source="bank")
            timed.append((known, number, label))
    return tuple(item for _, _, item in sorted(timed, key=lambda each: each[:2]))


def replayed(
    items: Sequence[Transaction | Label],
    *,
    batch_size: int = 500,
    publish_every: float = 0.0,
    stops: Sequence[int] = (),
) -> tuple[bytes, ReplayCounts]:
    """The output, where the replay crashes after each stop and another goes on from the checkpoint."""
    current = msgspec.structs.replace(SETTINGS, batch_size=batch_size)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "out.jsonl"
        checkpoints = Checkpoints(Path(folder), SIGNING, {"data": "world"})
        for stop in [*sorted(stops), None]:
            state = checkpoints.read()
            length, crc = (state.out_length, state.out_crc) if state else (0, 0)
            out = DecisionFile(path, length=length, crc=crc)
            replay = Replay(current, SPEC, out, publish_every=publish_every, state=state, key=SIGNING)
            for item in items[replay.items : stop]:
                replay.take(item)
            if stop is None:
                replay.finish()
                out.close()
                return path.read_bytes(), replay.counts
            checkpoints.write(replay.state(SIGNING))
            for item in items[stop : stop + 70]:  # what a crash loses
                replay.take(item)
            out.close()
    raise AssertionError


@cache
def undisturbed(seed: int, publish_every: float) -> tuple[bytes, ReplayCounts]:
    return replayed(world(seed), publish_every=publish_every)


LENGTH = min(len(world(seed)) for seed in (1, 2))


@settings(max_examples=10)
@example(seed=1, publish_every=0.0, batch_size=1, stops=[1, 2, LENGTH // 2, LENGTH - 1])
@example(seed=2, publish_every=43200.0, batch_size=3, stops=[LENGTH // 2, LENGTH // 2 + 1])
@example(seed=2, publish_every=0.0, batch_size=500, stops=[70])
@given(
    seed=st.sampled_from([1, 2]),
    publish_every=st.sampled_from([0.0, 43200.0]),
    batch_size=st.one_of(st.just(1), st.integers(2, 500)),
    stops=st.lists(st.integers(1, LENGTH), max_size=3),
)
def test_no_batch_and_no_interruption_changes_a_byte(
    seed: int, publish_every: float, batch_size: int, stops: list[int]
) -> None:
    expected, counts = undisturbed(seed, publish_every)
    found, found_counts = replayed(
        world(seed), batch_size=batch_size, publish_every=publish_every, stops=stops
    )
    assert found == expected
    assert found_counts == counts


def test_the_world_has_what_could_go_wrong() -> None:
    """Else the rule above would say little."""
    for publish_every in (0.0, 43200.0):
        raw, counts = undisturbed(1, publish_every)
        versions = [decision_decoder.decode(line).model_version for line in raw.splitlines()]
        assert versions[0] == "unsupervised-1"
        assert versions[-1] == counts.model != versions[0]
        assert counts.models == len(set(versions)) > 3
        assert counts.duplicates > 0
        assert counts.silent > 100
        assert counts.rejected > 0
        assert counts.transactions == counts.decided + counts.duplicates
        names = [decision_decoder.decode(line).transaction_id for line in raw.splitlines()]
        assert len(set(names)) < len(names), "some were forgotten, and decided anew"
