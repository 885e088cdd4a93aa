"""Every model that can be named can be served: its snapshot, its change-over, its thresholds and reasons."""

from __future__ import annotations

import functools
import hashlib
import math
import pickle
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from models.features.spec import DEFAULT_SPEC, FeatureSpec
from models.scoring.factories import FACTORIES
from models.scoring.registry import MODELS, UnknownModelError, build_model, why_not
from models.scoring.river_adapter import RiverAdapter
from models.scoring.snapshot import SnapshotHeader, SnapshotRefused, dump, load
from models.snapshots import pickles
from producers.sources.open_source import open_source
from stream.adapters.kafka.models import opened
from stream.config.factories import classes_of, new_model
from stream.config.settings import Secret, Settings, SettingsError
from stream.config.settings import load as load_settings
from stream.experiment.candidate import Candidate
from stream.experiment.choose import choose_models
from stream.experiment.engine import Engine, EngineSettings
from stream.history.logs import parse_version
from stream.messages import ModelManifest, encode
from stream.policy import Policy
from stream.serving import served
from stream.workers.learn import LearnWorker
from tests.support.model_keys import INSTALLATION, KEY, SIGNING, trust

RIPE = 2400  # examples after which the default model is ready in this small world
SERVED = [name for name, known in MODELS.items() if known.is_served]
Example = tuple[dict[str, float], bool]


@pytest.fixture(autouse=True)
def _unprobed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests pickled themselves needs no process that tries it first: each costs seconds."""
    monkeypatch.setattr(pickles, "probe", lambda *_: None)


class Listener:
    """Learns nothing and remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Example] = []

    def learn_one(self, x: dict[str, float], y: bool) -> None:
        self.told.append((x, y))

    def score_one(self, _: dict[str, float]) -> float:
        return 0.0

    def explain_one(self, _: dict[str, float]) -> list[tuple[str, float]]:
        return []

    def threshold(self, _: float) -> float:
        return 1.0


@functools.cache
def examples() -> list[Example]:
    """Features as served and labels of a simulated world, in the order in which they became known."""
    listener = Listener()
    source = open_source("simulated:6000", schema=None, label_delay=86400.0, seed=3)
    engine = Engine(
        [Candidate("listener", listener, Policy())],
        EngineSettings(spec=DEFAULT_SPEC, negative_sampling_rate=0.5),
    )
    engine.run(list(source.items))
    return listener.told


def header(name: str, learned: int = 0) -> SnapshotHeader:
    return SnapshotHeader(
        name=name,
        version=f"{name}@{learned}",
        next_offset=learned,
        learned=learned,
        installation=INSTALLATION,
    )


@functools.cache
def _pickled(name: str, count: int) -> bytes:
    model = build_model(name, negative_sampling_rate=0.5)
    for x, y in examples()[:count]:
        model.learn_one(x, y)
    return pickle.dumps(model)


def trained(name: str, count: int = 700) -> Any:
    return pickle.loads(_pickled(name, count))  # noqa: S301 - made by this test


def test_there_is_a_recipe_for_each_name_and_no_other() -> None:
    assert list(FACTORIES) == list(MODELS)


# ---- snapshots


@pytest.mark.parametrize("count", [0, 1, 40, 700])
@pytest.mark.parametrize("name", SERVED)
def test_model_from_its_snapshot_scores_and_learns_on_to_the_same_bits(name: str, count: int) -> None:
    """What draws has the state of its generator in the snapshot, and goes on drawing the same."""
    model = trained(name, count)
    _, copy = load(
        dump(model, key=SIGNING, header=header(name), classes=()), keys=SIGNING.trusted, classes=()
    )
    for x, y in examples()[count : count + 400]:
        assert copy.score_one(x).hex() == model.score_one(x).hex()
        model.learn_one(x, y)
        copy.learn_one(x, y)
    assert copy.threshold(0.01).hex() == model.threshold(0.01).hex()
    x = examples()[-1][0]
    assert copy.explain_one(x) == model.explain_one(x)


def test_snapshot_without_the_state_of_the_generator_is_seen() -> None:
    """The judge above, judged: a forest that draws otherwise parts from the one that goes on."""
    model = trained("adaptive-forest")
    copy = trained("adaptive-forest")
    copy.inner._rng.seed(99)
    differs = False
    for x, y in examples()[700:1100]:
        differs |= copy.score_one(x) != model.score_one(x)
        model.learn_one(x, y)
        copy.learn_one(x, y)
    assert differs


def digest_of(name: str) -> str:
    """Of all scores of a model on its way."""
    model = build_model(name, negative_sampling_rate=0.5)
    found = hashlib.sha256()
    for x, y in examples()[:600]:
        found.update(model.score_one(x).hex().encode())
        model.learn_one(x, y)
    return found.hexdigest()


def test_models_are_the_same_in_a_process_that_hashes_otherwise(tmp_path: Path) -> None:
    """The log of labels alone gives a model: no order of a set, no hash of a text, may be in it."""
    names = ["river-pipeline", "adaptive-forest", "hoeffding-tree", "half-space-trees"]
    rows = tmp_path / "rows"
    rows.write_bytes(pickle.dumps(examples()[:600]))
    program = (
        "import hashlib, pickle, sys\n"
        "from models.scoring.registry import build_model\n"
        "rows = pickle.load(open(sys.argv[1], 'rb'))\n"
        "for name in sys.argv[2:]:\n"
        "    model, found = build_model(name, negative_sampling_rate=0.5), hashlib.sha256()\n"
        "    for x, y in rows:\n"
        "        found.update(model.score_one(x).hex().encode())\n"
        "        model.learn_one(x, y)\n"
        "    print(found.hexdigest())\n"
    )
    there = subprocess.run(
        [sys.executable, "-c", program, str(rows), *names],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONHASHSEED": "4242"},
        cwd=Path(__file__).parents[4],
    )
    assert there.stdout.split() == [digest_of(name) for name in names]


def message(name: str, model: Any) -> bytes:
    blob = dump(model, key=SIGNING, header=header(name, 5))
    manifest = ModelManifest(
        name=name,
        version=f"{name}@5",
        next_offset=5,
        learned=5,
        event_time=None,
        created_at=datetime(2026, 1, 5, tzinfo=UTC),
        sha256=hashlib.sha256(blob).hexdigest(),
        size=len(blob),
        blob=blob,
    )
    return encode(manifest)


def test_snapshot_of_another_model_than_the_workers_run_is_refused() -> None:
    value = message("default", build_model())
    assert opened(value, trust()).manifest.version == "default@5"
    with pytest.raises(
        SnapshotRefused, match=r"default@5: the snapshot holds default, and .* hoeffding-tree"
    ):
        opened(value, trust("hoeffding-tree"))


# ---- change-over, policy, reasons


@pytest.mark.parametrize("name", SERVED)
def test_unsupervised_model_goes_on_until_a_model_knows_its_thresholds(name: str) -> None:
    learns = name != "anomaly"  # which is what it goes over from
    young = served(f"{name}@40", trained(name, 40), Policy())
    assert young.version == ("unsupervised-1" if learns else "anomaly@40")
    ripe = served(f"{name}@{RIPE}", trained(name, RIPE), Policy())
    assert ripe.version == f"{name}@{RIPE}"
    assert 0.0 < ripe.thresholds.review <= ripe.thresholds.decline < 1.0


@pytest.mark.parametrize("name", SERVED)
def test_model_keeps_the_alert_budget_and_says_why_it_alerts(name: str) -> None:
    model = served(f"{name}@{RIPE}", trained(name, RIPE), Policy(review_share=0.05, decline_share=0.01))
    rows = [x for x, _ in examples()[RIPE:]]
    alerts = [x for x in rows if model.score(x)[0] >= model.thresholds.review]
    # Half of the genuine were left out of these, and all frauds are in.
    assert len(alerts) < 0.25 * len(rows)
    assert alerts or name == "hoeffding-tree", "which says nearly the same of all while it has one leaf"
    for x in alerts[:20]:
        reasons = model.score(x)[1]
        assert reasons, "an analyst is told why"
        assert all(math.isfinite(value) for _, value in reasons)


@pytest.mark.parametrize("name", ["river-pipeline", "adaptive-forest"])
def test_what_makes_a_wrapped_model_suspicious_is_named_first(name: str) -> None:
    model = trained(name, RIPE)
    frauds = [x for x, y in examples()[:RIPE] if y and model.score_one(x) > 0.3]
    assert frauds
    for x in frauds:
        feature, contribution = model.explain_one(x)[0]
        calmer = {key: value for key, value in x.items() if key != feature}
        if feature in model._usual:
            calmer = {key: model._usual[key] if key == feature else value for key, value in x.items()}
        assert contribution > 0.0
        assert model.log_odds(x) - model.log_odds(calmer) == contribution


def test_reasons_that_cost_much_are_asked_for_only_where_there_may_be_an_alert() -> None:
    class Counting(RiverAdapter):
        asked = 0

        def explain_one(self, x: Any) -> list[tuple[str, float]]:
            Counting.asked += 1
            return super().explain_one(x)

    model = trained("river-pipeline", RIPE)
    model.__class__ = Counting
    rows = [x for x, _ in examples()[RIPE:]]
    by_budget = served(f"river-pipeline@{RIPE}", model, Policy())
    alerts = sum(by_budget.score(x)[0] >= by_budget.thresholds.review for x in rows)
    assert 0 < Counting.asked == alerts < len(rows) / 4
    by_cost = served(f"river-pipeline@{RIPE}", model, Policy(kind="cost"))
    assert all(by_cost.score(x)[1] for x in rows if by_cost.score(x)[0] > 0.5)
    assert Counting.asked >= len(rows), "by cost an alert may have any score"


# ---- names


@pytest.mark.parametrize("name", SERVED)
def test_experiment_and_worker_build_the_same_model(name: str) -> None:
    spec = FeatureSpec(bins=7, coarse_bins=3, crosses=(("amount", "card.z.30d"),))
    settings = Settings(model=name, model_seed=5, negative_sampling_rate=0.3)
    served_one = new_model(settings, spec)
    [tried] = choose_models((name,), negative_sampling_rate=0.3, seed=5, spec=spec, policy=Policy())
    for x, y in examples()[:300]:
        assert served_one.score_one(x) == tried.model.score_one(x)
        served_one.learn_one(x, y)
        tried.model.learn_one(x, y)
    if name == "default":
        assert (served_one.bins, served_one.coarse, served_one.crosses) == (7, 3, spec.crosses)


def test_seed_of_the_settings_is_that_of_the_model() -> None:
    scores = []
    for seed in (1, 2):
        model = new_model(
            Settings(model="half-space-trees", model_seed=seed, negative_sampling_rate=0.5), DEFAULT_SPEC
        )
        for x, y in examples()[:600]:
            model.learn_one(x, y)
        scores.append([model.score_one(x) for x, _ in examples()[600:650]])
    assert scores[0] != scores[1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hoefding-tree", "there is no such model; did you mean hoeffding-tree?"),
        ("xgboost9000", "there is no such model; there are default, logistic, "),
        ("batch-boosting", "it is for experiments only; there are default, logistic, "),
        ("mine:", "there is no such model; "),
    ],
)
def test_model_that_cannot_be_served_is_told_in_one_line_with_where_it_was_set(
    name: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "riverwatch.toml"
    file.write_text(f'model = "{name}"\n')
    for flags, environ, config, source in (
        ({"model": name}, {}, None, "flag"),
        ({}, {"RIVERWATCH_MODEL": name}, None, "environment RIVERWATCH_MODEL"),
        ({}, {}, file, str(file)),
    ):
        with pytest.raises(SettingsError) as caught:
            load_settings(flags, environ, config=config)
        assert str(caught.value).startswith(f"model = {name!r} ({source}): {said}")
        assert "\n" not in str(caught.value)
    with pytest.raises(UnknownModelError):
        new_model(Settings(model=name), DEFAULT_SPEC)


def test_experiment_tells_an_unknown_model_with_its_option() -> None:
    with pytest.raises(UnknownModelError, match=r"^--model defalt: there is no such .* mean default\?"):
        choose_models(("defalt",), negative_sampling_rate=0.1, seed=1, spec=DEFAULT_SPEC, policy=Policy())
    assert not why_not("batch-boosting")


# ---- models of one's own


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module in the working folder, as a user would write it; its name."""
    name = f"mine_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(
        "from river import compose, linear_model, naive_bayes, optim, preprocessing\n"
        "from models.scoring.river_adapter import Filled\n"
        "class Halved(preprocessing.StandardScaler):\n"
        "    def transform_one(self, x):\n"
        "        return {k: v / 2 for k, v in super().transform_one(x).items()}\n"
        "def known():\n"
        "    return compose.Pipeline(Filled(), preprocessing.StandardScaler(),\n"
        "                            linear_model.LogisticRegression(optim.Adam(0.01)))\n"
        "def own():\n"
        "    return compose.Pipeline(Filled(), Halved(), linear_model.LogisticRegression())\n"
        "def open_ended():\n"
        "    model = known()\n"
        "    model.hook = lambda x: x\n"
        "    return model\n"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield name
    sys.path[:] = before
    sys.modules.pop(name, None)


def test_function_of_ones_own_is_served_with_the_classes_that_are_named(mine: str) -> None:
    for function, named in (("known", ""), ("own", f"{mine}.Halved")):
        settings = load_settings(
            {
                "model": f"{mine}:{function}",
                "model_classes": named,
                "negative_sampling_rate": 0.5,
                "model_pickle": True,
            },
            {},
        ).settings
        model = new_model(settings, DEFAULT_SPEC)
        for x, y in examples()[:300]:
            model.learn_one(x, y)
        classes = classes_of(settings)
        blob = dump(model, key=SIGNING, header=header(settings.model), classes=classes)
        sys.modules.pop(mine)  # a score worker has not imported it
        copy = load(blob, keys=SIGNING.trusted, classes=classes)[1]
        for x, y in examples()[300:500]:
            assert copy.score_one(x).hex() == model.score_one(x).hex()
            model.learn_one(x, y)
            copy.learn_one(x, y)


def test_learner_refuses_at_its_start_what_it_could_not_publish(mine: str) -> None:
    for function, said in (("own", rf"{mine}\.Halved, .* setting model_classes"), ("open_ended", "lambda")):
        settings = Settings(model=f"{mine}:{function}", model_pickle=True, model_key=Secret(KEY))
        ports: Any = None
        with pytest.raises(SnapshotRefused, match=said):
            LearnWorker(settings, ports, DEFAULT_SPEC, lambda _: None)


def test_no_function_is_imported_because_a_topic_names_it() -> None:
    assert parse_version("os:abort@3", "default") is None
    assert parse_version("os:abort@3", "mine:model") is None
    assert parse_version("mine:model@3", "mine:model") == ("mine:model", 3)
