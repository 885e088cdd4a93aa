"""What a contributor finds: make targets in groups, the checks before a commit, and a page that is true."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGET = re.compile(r"^([a-z]+):", re.MULTILINE)
PAGE = ROOT / "CONTRIBUTING.md"


def helped() -> str:
    asked = ["make", "--silent", "--no-print-directory", "help"]
    return subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_make_help_shows_every_target_under_a_group() -> None:
    groups: dict[str, list[str]] = {}
    for line in helped().splitlines():
        if target := re.match(r"^  make ([a-z]+) +\S", line):
            groups[next(reversed(groups))].append(target[1])
        elif line:
            groups[line] = []
    assert len(groups) >= 3
    assert all(groups.values()), "no group is empty"
    shown = [target for targets in groups.values() for target in targets]
    assert sorted(shown) == sorted(set(TARGET.findall(MAKEFILE)))


def test_before_a_commit_the_checks_are_those_of_make_lint() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    assert re.findall(r"repo: *(\S+)", hooks) == ["local"], "nothing is fetched for a check"
    assert re.findall(r"entry: *(.+)", hooks) == ["make lint"]
    assert re.findall(r"language: *(.+)", hooks) == ["system"]


def test_each_path_that_the_page_names_is_there() -> None:
    named = re.findall(r"`([\w./-]+/[\w./-]*)(?:::\w+)?`", PAGE.read_text("utf-8"))
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_each_make_target_that_the_page_names_is_there() -> None:
    named = re.findall(r"(?:`|^)make ([a-z]+)\b", PAGE.read_text("utf-8"), re.MULTILINE)
    assert named
    assert set(named) <= set(TARGET.findall(MAKEFILE))
