from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stream.cli.main import riverwatch
from stream.experiment.measures.results import Experiment, as_json, without_time
from stream.experiment.report.page import as_html
from stream.experiment.run import Plan, run_experiment

KEYS = {
    "average_precision",
    "roc_auc",
    "card_precision_at_100",
    "expected_calibration_error",
    "microseconds_per_event",
}
PLAN = Plan(data="simulated:12000", models=("default", "anomaly"), rounds=20, seed=3)


@pytest.fixture(scope="module")
def found() -> Experiment:
    return run_experiment(PLAN)


@pytest.fixture(scope="module")
def disturbed() -> Experiment:
    return run_experiment(Plan(data="simulated:16000", inject=("amount*1.5 @ 2025-01-16",), rounds=0, seed=3))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(riverwatch, ["experiment", *arguments])


def test_json_has_the_promised_keys(found: Experiment) -> None:
    data = json.loads(as_json(found))
    for one in data["models"].values():
        assert {*one} >= KEYS
        assert one["weeks"]
        for week in one["weeks"]:
            assert {*week} >= {*KEYS, "from"}
    assert data["models"]["default"]["microseconds_per_event"] > 0
    assert data["models"]["default"]["average_precision"] > 0.05


def test_same_data_gives_the_same_bytes(found: Experiment) -> None:
    again = run_experiment(PLAN)
    first, second = (without_time(json.loads(as_json(each))) for each in (found, again))
    assert json.dumps(first) == json.dumps(second)
    one, other = (as_html(each, "riverwatch experiment") for each in (found, again))
    cut = '<section id="run">'
    assert one.split(cut)[0] == other.split(cut)[0]


def test_another_seed_gives_another_result(found: Experiment) -> None:
    again = run_experiment(Plan(data="simulated:12000", rounds=0, seed=4))
    assert again.models["default"].average_precision != found.models["default"].average_precision


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")
        ]
        self.open.append(tag)
        if tag in ("meta", "br"):  # these have no end
            self.handle_endtag(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_loads_nothing_and_is_well_formed(found: Experiment, disturbed: Experiment) -> None:
    for each in (found, disturbed):
        page = as_html(each, "riverwatch experiment simulated:12000")
        tags = _Tags()
        tags.feed(page)
        assert tags.open == []
        assert tags.links == []
        assert not tags.tags & {"script", "link", "img", "iframe", "object"}
        assert not re.search(r"(https?:)?//[a-z]|url\(|@import", page)
        assert "viewport" in page
        assert "prefers-color-scheme: dark" in page


def test_page_says_what_a_reader_asks(found: Experiment, disturbed: Experiment) -> None:
    page = as_html(found, "riverwatch experiment DATA")
    for asked in (
        "Average precision", "Card precision at 100", "Money saved", "Money lost", "recall", "F1", "accuracy",
        "Week by week", "By segment", "Precision and recall", "Calibration", "Quality over time",
        "What each feature contributes", "used, cleaned, discarded", "To run it again", "What it cost",
    ):  # fmt: skip
        assert asked in page, asked
    assert f"{found.models['default'].average_precision:.3f}" in page
    assert "A change was injected" in as_html(disturbed, "")


def test_what_comes_from_the_data_is_escaped(found: Experiment) -> None:
    page = as_html(found, "riverwatch experiment '<script>alert(1)</script>'")
    assert "<script>" not in page


def test_injected_change_is_measured_against_undisturbed_and_frozen(disturbed: Experiment) -> None:
    assert disturbed.injected is not None
    assert disturbed.injected.changed > 1000
    one = disturbed.injected.models["default"]
    assert len(one.days) == len(one.undisturbed) == len(one.disturbed) == len(one.frozen) > 0
    assert 0.0 < one.detection_hours["input.amount_log"] < 72.0
    assert one.false_alarms == 0
    assert one.quality_lost_frozen != one.quality_lost


def test_weeks_and_card_memory_follow_the_dates_asked_for() -> None:
    result = run(
        "simulated:9000", "--evaluate-from", "2025-01-14", "--evaluate-to", "2025-01-18", "--bootstrap", "0",
        "--drop-known-cards", "--label-delay", "2d",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "2025-01-14 to 2025-01-18" in result.output


# ---- bad input


MAPPING = """
[columns]
transaction_id = "id"
event_time = "time"
card_id = "card"
merchant_id = "shop"
amount = "amount"
is_fraud = "fraud"
[defaults]
currency = "EUR"
[labels]
delay = "1d"
"""
ROWS = ["id,time,card,shop,amount,fraud"] + [
    f"{i},2026-01-{1 + i // 60:02d}T{i % 24:02d}:00:00,c{i % 5},s{i % 3},{10 + i % 7},{int(i % 9 == 0)}"
    for i in range(900)
]


def files(tmp_path: Path, lines: list[str], mapping: str = MAPPING) -> tuple[str, ...]:
    data, schema = tmp_path / "data.csv", tmp_path / "MAP.toml"
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    schema.write_text(mapping, encoding="utf-8")
    return str(data), "--schema", str(schema), "--bootstrap", "0"


def told(result: Result) -> str:
    """The one line of a failure."""
    assert result.exit_code == 1, result.output
    lines = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, result.output
    return lines[0]


def test_csv_is_read_and_what_was_discarded_is_shown(tmp_path: Path) -> None:
    rows = [*ROWS, "900,not a time,c1,s1,10,0", "901,2026-01-15T00:00:00,c1,s1,ten,0", ROWS[10], "x,y"]
    out = tmp_path / "out.json"
    result = run(*files(tmp_path, rows), "--json", str(out))
    assert result.exit_code == 0, result.output
    lines = json.loads(out.read_text())["account"]["lines"]
    text = "\n".join(lines)
    for reason in (
        "event_time is not a time",
        "amount is not a number",
        "has 2 columns",
        "their id had come before",
    ):
        assert reason in text, text
        assert reason in result.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (
            lambda rows, _: ([rows[0].replace("shop", "store"), *rows[1:]], MAPPING),
            ("data.csv", "`shop`", "store"),
        ),
        (lambda rows, _: (rows[:1], MAPPING), ("data.csv", "not one transaction")),
        (lambda _, __: (["a"], MAPPING), ("data.csv", "no column")),
        (lambda rows, _: (rows, MAPPING.replace('is_fraud = "fraud"', "")), ("MAP.toml", "is_fraud")),
        (lambda rows, _: (rows, MAPPING.replace("card_id", "card_idd")), ("MAP.toml", "card_id")),
    ],
)  # fmt: skip
def test_bad_file_is_one_line_that_names_it(tmp_path: Path, change: Any, names: tuple[str, ...]) -> None:
    rows, mapping = change(ROWS, None)
    line = told(run(*files(tmp_path, rows, mapping)))
    for name in names:
        assert name in line


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("nowhere.csv",), ("nowhere.csv", "no such file")),
        (("simulated:many",), ("simulated:many", "simulated:20000")),
        (("simulated:100", "--model", "defualt"), ("defualt", "did you mean default?")),
        (("simulated:100", "--model", "nowhere:model"), ("nowhere", "ModuleNotFoundError")),
        (("simulated:100", "--model", "json:nothing"), ("json", "nothing")),
        (("simulated:100", "--model", "json:JSONEncoder"), ("JSONEncoder", "neither a River classifier")),
        (("simulated:100", "--model", "default", "--model", "default"), ("default", "twice")),
        (("simulated:100", "--inject", "amount^2 @ 2025-01-07"), ("amount^2", "amount*1.5 @ 2018-07-01")),
        (
            ("simulated:100", "--inject", "amount*2 @ 2035-01-07"),
            ("amount*2", "changes nothing", "2025-01-06"),
        ),
    ],
)  # fmt: skip
def test_wrong_word_is_one_line_that_says_what_would_do(
    arguments: tuple[str, ...], names: tuple[str, ...]
) -> None:
    line = told(run(*arguments))
    for name in names:
        assert name in line


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("crosess = []", ("spec.toml", "crosess")),
        ('crosses = [["card.zz.30d", "amount"]]', ("spec.toml", "card.zz.30d", "did you mean card.z.30d?")),
        ("half_lives = [", ("spec.toml",)),
    ],
)
def test_typo_in_a_feature_spec_is_one_line_that_names_the_key(
    tmp_path: Path, spec: str, names: tuple[str, ...]
) -> None:
    file = tmp_path / "spec.toml"
    file.write_text(spec, encoding="utf-8")
    line = told(run("simulated:100", "--features", str(file)))
    for name in names:
        assert name in line


def test_model_that_raises_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_broken.py").write_text(
        "class Broken:\n"
        "    def learn_one(self, x, y): pass\n"
        "    def predict_proba_one(self, x): raise KeyError('weight')\n"
        "def model(): return Broken()\n"
    )
    monkeypatch.chdir(tmp_path)
    line = told(run("simulated:100", "--model", "my_broken:model"))
    assert "model my_broken:model: raised KeyError" in line
    assert "transaction s1-" in line


def test_interrupted_run_leaves_a_partial_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stream.experiment.engine import Engine  # noqa: PLC0415 - to interrupt it

    decide = Engine._decide

    def stopped(self: Engine, payment: Any) -> None:
        if len(self.times) == 8000:
            raise KeyboardInterrupt
        decide(self, payment)

    monkeypatch.setattr(Engine, "_decide", stopped)
    page, data = tmp_path / "r.html", tmp_path / "r.json"
    result = run(
        "simulated:20000",
        "--label-delay",
        "2d",
        "--bootstrap",
        "0",
        "--report",
        str(page),
        "--json",
        str(data),
    )
    assert result.exit_code == 130
    found = json.loads(data.read_text())
    assert found["is_partial"]
    assert found["account"]["transactions"] == 8000
    assert found["models"]["default"]["transactions"] > 1000
    assert "interrupted" in page.read_text()


def test_recovery_is_counted_from_the_change_and_from_the_labels_that_followed_it() -> None:
    found = run_experiment(
        Plan(
            data="simulated:24000",
            inject=("frauds.amount*0.3 @ 2025-01-16..2025-01-17",),
            label_delay=2 * 86_400.0,
            rounds=0,
            seed=3,
        )
    ).injected
    assert found is not None
    one = found.models["default"]
    assert one.recovered_days is not None
    assert one.recovered_label_days is not None
    # the first payment after midnight is a few minutes later, and so is its label
    assert one.recovered_label_days == pytest.approx(max(one.recovered_days - 2.0, 0.0), abs=0.02)
