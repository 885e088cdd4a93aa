"""The tutorial runs as written: its files are made, its commands called, in order, in an empty folder."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from stream.cli.main import riverwatch

TUTORIAL = Path(__file__).parents[4] / "docs" / "experiments.md"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
NAMED = re.compile(r"# (\S+\.\w+)\n")


def blocks() -> list[tuple[str, str]]:
    return [(found[1], found[2]) for found in BLOCK.finditer(TUTORIAL.read_text(encoding="utf-8"))]


def test_tutorial_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = 0
    for kind, text in blocks():
        if kind != "sh":
            name = NAMED.match(text)
            assert name is not None, f"a block of {kind} does not say which file it is"
            Path(name[1]).write_text(text, encoding="utf-8")
            continue
        for line in text.splitlines():
            words = shlex.split(line)
            commands += 1
            if words[0] == "python":
                subprocess.run([sys.executable, *words[1:]], check=True)
                continue
            assert words[0] == "riverwatch"
            # Intervals take most of the time of runs as small as these, and are tested elsewhere.
            quick = ["--bootstrap", "0"] if words[1] == "experiment" else []
            result = CliRunner().invoke(riverwatch, [*words[1:], *quick])
            assert result.exit_code == 0, f"{line}\n{result.output}"
    assert commands > 8
    for page in ("first.html", "payments.html", "mine.html", "shift.html"):
        assert Path(page).read_text(encoding="utf-8").endswith("</html>\n")
    found = json.loads(Path("first.json").read_text(encoding="utf-8"))
    assert found["models"]["default"]["weeks"][0]["average_precision"] is not None


def test_every_model_of_the_tutorial_is_there() -> None:
    from models.scoring.registry import MODELS  # noqa: PLC0415 - of this test alone

    told = TUTORIAL.read_text(encoding="utf-8")
    assert all(f"`{name}`" in told for name in MODELS)
