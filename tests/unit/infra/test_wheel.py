"""A wheel holds the compiled arithmetic and runs in an environment that knows no checkout."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from infra import compiled_modules as compiled

BUILD = "import sys; from infra import build_backend; print(build_backend.build_wheel(sys.argv[1]))"
ANSWER = """
import sys
from infra import compiled_modules as compiled
from stream.cli import main
from models.features import compute as features, profiles
print([compiled.use(), compiled.in_use(), features.__file__, profiles.__file__, compiled.is_installed()])
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The checkout's sources, with what is compiled of them here."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(compiled.ROOT / name, folder)
    for package in ("infra", "models", "producers", "stream"):
        shutil.copytree(
            compiled.ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    yield folder
    shutil.rmtree(folder)


def build(source: Path, folder: Path, **environment: str) -> tuple[Path, str]:
    """The hook that `pip wheel` calls; the wheel and what was said."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)],
        cwd=source,
        env={**environment} or None,
        capture_output=True,
        text=True,
        check=True,
    )
    return folder / done.stdout.splitlines()[-1], done.stdout


def install(wheel: Path, folder: Path) -> Path:
    """Into an empty environment, beside the locked packages of this one; the folder of its commands."""
    venv.create(folder, with_pip=True, symlinks=True)
    python = folder / "bin" / "python"
    quietly = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([python, *quietly, str(wheel)], check=True, cwd=folder)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    # Its packages alone: the file that leads to this checkout is read only in that folder itself.
    (Path(site) / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


def answer(commands: Path, cwd: Path) -> list[object]:
    done = subprocess.run(
        [commands / "python", "-c", ANSWER], cwd=cwd, capture_output=True, text=True, check=True
    )
    found: list[object] = ast.literal_eval(done.stdout)
    return found


def test_a_wheel_runs_compiled_in_an_empty_environment(source: Path, tmp_path: Path) -> None:
    if (problem := compiled.compile_modules()) is not None:
        pytest.skip(f"the arithmetic cannot be compiled here: {problem}")
    shutil.copytree(compiled.STORE, source / "infra" / "__compiled__", dirs_exist_ok=True)
    wheel, _ = build(source, tmp_path / "wheels")
    assert "none-any" not in wheel.name
    assert not wheel.name.endswith("any.whl")
    names = set(ZipFile(wheel).namelist())
    for module in compiled.MODULES:
        place = module.replace(".", "/")
        assert {f"{place}.py", place + compiled.SUFFIX} <= names
    assert not any("__compiled__" in name or name.startswith("tests") for name in names)
    commands = install(wheel, tmp_path / "empty")
    used, in_use, features, profiles, beside = answer(commands, tmp_path)
    assert (used, in_use, beside) == (True, True, True)
    for file in (features, profiles):
        assert str(file).startswith(str(tmp_path / "empty"))
        assert str(file).endswith(compiled.SUFFIX)
    said = subprocess.run([commands / "riverwatch", "--help"], capture_output=True, text=True, check=True)
    assert "demo" in said.stdout


def test_without_a_compiler_a_wheel_is_pure_and_a_line_says_so(source: Path, tmp_path: Path) -> None:
    shutil.rmtree(source / "infra" / "__compiled__", ignore_errors=True)
    wheel, said = build(source, tmp_path / "wheels", PATH=str(tmp_path))
    assert wheel.name.endswith("-py3-none-any.whl")
    (line,) = [line for line in said.splitlines() if line.startswith("A wheel without compiled")]
    assert "there is no C compiler" in line
    assert not any(name.endswith(".so") for name in ZipFile(wheel).namelist())
    commands = install(wheel, tmp_path / "empty")
    used, in_use, features, _, beside = answer(commands, tmp_path)
    assert (used, in_use, beside) == (False, False, False)
    assert str(features).endswith("compute.py")
