"""A change that only moves things leaves every bit where it was: digests of what runs are stored here.

`same_bits.json` holds SHA-256 digests of decisions, of an experiment's scores, of a replay's output and of
what the Lua scripts answer and leave behind. The payments come from a generator of these tests alone, they
enter as bytes of the wire and as a CSV file, and digests are taken of wire bytes, plain numbers and Redis
keys: no name of a class or a module is in them. Whoever changes the arithmetic on purpose stores the digests
that the failing test shows, and says why.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal
from zlib import crc32

import msgspec
import pytest
import redis

from models.features.spec import DEFAULT_SPEC
from models.scoring.registry import build_model
from producers.sources.open_source import open_source
from stream.adapters.memory.store import MemoryStore
from stream.admission import Limits
from stream.config.settings import Duration, Settings
from stream.experiment.choose import choose_models
from stream.experiment.engine import Engine, EngineSettings
from stream.experiment.silent_engine import SilentEngine
from stream.learning import Learner
from stream.messages import label_decoder, transaction_decoder
from stream.pipeline import DecisionTopics, Pipeline
from stream.policy import Policy
from stream.records import Record
from stream.replay.file import FilePlan, replay_file
from stream.serving import served
from tests.support.model_keys import KEY
from tests.unit.same_bits.digest import Digest, digest_of, plain
from tests.unit.same_bits.payments import START, arrivals, write_csv
from tests.unit.same_bits.redis_scripts import Shards, stored_in

ROOT: Final = Path(__file__).parents[3]
STORED: Final[dict[str, dict[str, str]]] = json.loads(
    Path(__file__).with_name("same_bits.json").read_text(encoding="utf-8")
)
NOON: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)  # when everything is decided: it only stamps
PARTITIONS: Final = 4
BATCH: Final = 500
COMPILED: Final = """
from infra import compiled_modules as compiled
compiled.use()
import json
from tests.unit.same_bits.test_same_bits import decide
from tests.unit.same_bits.test_same_bits import decide
from tests.support.model_keys import KEY
print(json.dumps(decide(100_000)))
"""


def libm() -> str:
    """How this machine rounds what IEEE 754 leaves to the library of mathematics."""
    spread = [0.37 * 1.0173**n for n in range(1500)]
    functions: list[Callable[[float], float]] = [
        math.log, math.log1p, math.log2, math.sin, math.cos,
        lambda x: math.exp(x % 40 - 20), lambda x: 2.0 ** (x % 1.0), lambda x: math.asin(x % 1.0),
        lambda x: math.pow(x, 0.4),
    ]  # fmt: skip
    return digest_of([[function(x) for x in spread] for function in functions])


@pytest.fixture
def same(request: pytest.FixtureRequest) -> Callable[[dict[str, str]], None]:
    """Compares digests with those stored under the test's name."""
    if libm() != STORED["libm"]["functions"]:
        pytest.skip("NO DIGESTS COMPARED: exp, log and their like round otherwise on this machine")

    def compare(found: dict[str, str]) -> None:
        name = request.node.name.removeprefix("test_")
        assert found == STORED[name], f"where that is meant, store {json.dumps({name: found})}"

    return compare


# ---- decisions


class Sent:
    """An outbox: what left, as digests by topic."""

    def __init__(self) -> None:
        self.digests: dict[str, Digest] = {
            name: Digest() for name in ("scores", "alerts", "dead-letters", "labels")
        }
        self.counts = dict.fromkeys(self.digests, 0)

    def send(self, messages: Iterable[Any]) -> None:
        for topic, key, value, headers in messages:
            self.counts[topic] += 1
            if topic == "dead-letters":  # what is said to people may change
                headers = [each for each in headers if each[0] not in {"detail", "failed_at"}]  # noqa: PLW2901
            parts = [part for name, text in headers for part in (name.encode(), text)]
            self.digests[topic].add(key or b"-", value or b"-", *parts)


def decide(payments_in_all: int) -> dict[str, str]:
    """Decide payments as a score worker would, while a learner learns; digests of all that leaves."""

    spec, policy, sent = DEFAULT_SPEC, Policy(), Sent()
    store = MemoryStore(spec.half_lives)
    model = build_model("default", negative_sampling_rate=0.5, seed=1, spec=spec)
    learner = Learner(
        model=model, next_offset=0, decisions=store, labels=store, outbox=sent, clock=lambda: NOON, spec=spec,
        negative_sampling_rate=0.5, labels_topic="labels", dead_letters="dead-letters", limits=Limits(),
    )  # fmt: skip
    in_use = [served("default@0", model, policy)]
    pipeline = Pipeline(
        store=store, outbox=sent, model=lambda: in_use[0], clock=lambda: NOON, spec=spec, policy=policy,
        topics=DecisionTopics("scores", "alerts", "dead-letters"), limits=Limits(),
    )  # fmt: skip
    pipeline.on_assigned(range(PARTITIONS))
    offsets = [0] * PARTITIONS
    payments: list[Any] = []
    labels: list[Any] = []
    counts: list[Any] = []
    thresholds: list[Any] = []
    label_offset = 0

    def work() -> None:
        counts.append(pipeline.process(payments))
        if len(counts) % 23 == 0:  # nobody acknowledged it
            counts.append(pipeline.process(payments[len(payments) // 2 :]))
        payments.clear()
        if len(counts) % 4 == 0 and labels:
            counts.append(learner.process(labels))
            labels.clear()
            learner.published()
            in_use[0] = served(f"default@{learner.next_offset}", model, policy)
            thresholds.append(in_use[0].thresholds)

    for at, key, value, is_label in arrivals(7, payments_in_all):
        ms = int(at.timestamp() * 1000.0)
        if is_label:
            labels.append(Record("labels", 0, label_offset, ms, key, value))
            label_offset += 1
            continue
        partition = crc32(key) % PARTITIONS
        payments.append(Record("transactions", partition, offsets[partition], ms, key, value))
        offsets[partition] += 1
        if len(payments) == BATCH:
            work()
    work()
    assert learner.learned > payments_in_all // 20
    assert sent.counts["alerts"] > payments_in_all // 1000
    entities = [(kind, f"{kind[0]}{n}") for kind in ("card", "merchant", "device") for n in range(500)]
    return {
        **{name: digest.told() for name, digest in sent.digests.items() if name != "labels"},
        "counts": digest_of(counts),
        "thresholds": digest_of(thresholds),
        "profiles": digest_of([store.profile(*each), store.label_profile(*each)] for each in entities),
    }


@pytest.mark.timeout(1800)  # minutes, interpreted, on a machine that does much else
def test_decisions(same: Callable[[dict[str, str]], None]) -> None:
    """In a process of its own, which runs the compiled arithmetic where that is there: it is the same."""
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    same(json.loads(done.stdout))


# ---- an experiment


def engine_digests(engine: Any) -> dict[str, str]:
    """What a pass leaves behind."""
    models = [
        [one.name, one.learned, one.scores.tobytes().hex(), bytes(one.alerted).hex(), one.effects.sums]
        for one in engine.candidates
    ]
    return {
        "scores": digest_of(models),
        "columns": digest_of([engine.times, engine.amounts, engine.cards, engine.fraud, engine.known_at]),
        "profiles": digest_of(sorted(plain(each) for each in engine.entities.snapshots().items())),
    }


def test_experiment(same: Callable[[dict[str, str]], None], tmp_path: Path) -> None:
    """Of a file with the models that are shipped for use, and of topics, where the unreported are labels."""

    path = tmp_path / "payments.csv"
    source = open_source(str(path), schema=write_csv(path, 3, 10_000), label_delay=None, seed=1)
    chosen = choose_models(
        ("default",), negative_sampling_rate=0.5, seed=1, spec=DEFAULT_SPEC, policy=Policy()
    )
    freeze = (START + timedelta(days=40)).timestamp()
    engine = Engine(chosen, EngineSettings(spec=DEFAULT_SPEC, negative_sampling_rate=0.5, freeze_at=freeze))
    engine.run(source.items)
    assert len(engine.times) == 10_000
    assert chosen[0].own_from is not None

    chosen = choose_models(
        ("default",), negative_sampling_rate=0.5, seed=1, spec=DEFAULT_SPEC, policy=Policy()
    )
    silent = SilentEngine(chosen, EngineSettings(spec=DEFAULT_SPEC, negative_sampling_rate=0.5))
    items = [
        (label_decoder if each.is_label else transaction_decoder).decode(each.value)
        for each in arrivals(4, 8_000)
        if each.value.endswith(b"}")
    ]
    silent.run(items)
    assert chosen[0].own_from is not None
    found = engine_digests(engine)
    same(found | {f"silent {name}": told for name, told in engine_digests(silent).items()})


# ---- a replay


def is_spent(left: Iterator[int]) -> bool:
    """Whether it has come down to 0."""
    return next(left) <= 0


def test_replay(same: Callable[[dict[str, str]], None], tmp_path: Path) -> None:
    """Of a file, once in one go, and once interrupted, with models of every sixth hour and another policy."""

    data = tmp_path / "payments.csv"
    schema = write_csv(data, 5, 6_000)
    found: dict[str, str] = {}
    runs: tuple[tuple[Literal["budget", "cost"], int, int | None], ...] = (
        ("budget", 0, None),
        ("cost", 6, 5_000),
    )
    for policy, hours, stop in runs:
        plan = FilePlan(
            data=str(data),
            schema=schema,
            out=tmp_path / policy,
            checkpoint=tmp_path / f"{policy}.checkpoint",
            publish_every=hours * 3600.0,
        )
        settings = Settings(
            negative_sampling_rate=0.5,
            maturity=Duration(2 * 86400.0),
            label_wait=Duration(86400.0),
            policy=policy,
            model_key=KEY,  # type: ignore[arg-type] # text is a secret's value
        )
        if stop is not None:
            left = count(stop, -1)
            half = replay_file(plan, settings, stop=partial(is_spent, left))
            assert not half.is_finished
        done = replay_file(plan, settings)
        counts = [each for each in msgspec.structs.astuple(done.counts) if isinstance(each, int)]
        assert done.counts.models > 3
        found[policy] = hashlib.sha256(plan.out.read_bytes()).hexdigest()
        found[f"{policy} counts"] = digest_of(counts)
    same(found)


# ---- the Lua scripts


@pytest.mark.parametrize("shards", [1, 4])
def test_lua(same: Callable[[dict[str, str]], None], redis_url: str, shards: int) -> None:
    installation = Shards(redis_url, shards)
    with redis.Redis.from_url(redis_url) as client:
        found = {}
        for turn in range(1, 121):
            installation.events()
            installation.inform()
            installation.pending()
            if turn % 40 == 0:
                found[f"keys after {turn}"] = stored_in(client)
        installation.end()
    assert installation.refused > 50
    same(found | {name: digest.told() for name, digest in installation.answers.items()})
