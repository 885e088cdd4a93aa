"""Local state is kept in the folder that the settings name, whichever source the setting comes from."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import click
import pytest
from click.testing import CliRunner

from stream.cli.main import riverwatch
from stream.cli.run import up as up_command
from stream.workers import run as workers

SOURCES = ("flag", "environment", "file", "default")


class Place:
    """A machine with one source of `state_dir`: the folder it means, and the flags that name it."""

    def __init__(self, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("RIVERWATCH_STATE_DIR", raising=False)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
        self.folder = tmp_path / source
        self.flags: list[str] = []
        if source == "flag":
            self.flags = ["--state-dir", str(self.folder)]
        elif source == "environment":
            monkeypatch.setenv("RIVERWATCH_STATE_DIR", str(self.folder))
        elif source == "file":
            (tmp_path / "riverwatch.toml").write_text(f'state_dir = "{self.folder}"\n')
        else:
            self.folder = tmp_path / "home" / "riverwatch"


@pytest.fixture(params=SOURCES)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(request.param, tmp_path, monkeypatch)


def test_the_decision_log_lies_in_the_state_directory(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    files: list[Path] = []

    def run_learn(settings: object, **_: object) -> int:
        files.append(workers.decision_log_file(settings))  # type: ignore[arg-type] # the command's own
        return 0

    monkeypatch.setattr(workers, "run_learn", run_learn)
    ended = CliRunner().invoke(riverwatch, ["learn", *place.flags])
    assert ended.exit_code == 0, ended.output
    assert files == [place.folder / "riverwatch-learn-decisions.sqlite"]


def test_a_replays_key_lies_in_the_state_directory(place: Place, tmp_path: Path) -> None:
    arguments = ["simulated:300", "--out", str(tmp_path / "out"), "--checkpoint", str(tmp_path / "ck")]
    ended = CliRunner().invoke(riverwatch, ["replay", *arguments, *place.flags])
    assert ended.exit_code == 0, ended.output
    assert [*tmp_path.rglob("model.key")] == [place.folder / "model.key"]


def test_services_keep_their_data_in_the_state_directory(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []

    def local_redis(folder: Path, *_: object, **__: object) -> NoReturn:
        folders.append(folder)
        raise click.ClickException("as far as this test goes")

    monkeypatch.setattr(up_command, "LocalRedis", local_redis)
    ended = CliRunner().invoke(riverwatch, ["up", "--kafka", "embedded", *place.flags])
    assert "as far as this test goes" in ended.output
    assert folders == [place.folder]
