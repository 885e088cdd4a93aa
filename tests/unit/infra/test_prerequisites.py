"""What a machine lacks is said in a line, for what it is, before anything is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Root writes where modes forbid it; without this capability it is as everybody.
ORDINARY = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
SERVER = "#!/bin/sh\necho 'Redis server v=7.2.0 sha=0'\n"


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A checkout in which nothing is installed, where any user may look."""
    folder = Path(tempfile.mkdtemp(prefix="riverwatch-checkout-"))
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copytree(ROOT / "infra", folder / "infra", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tools").mkdir()
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


def tool(checkout: Path, name: str, script: str) -> None:
    path = checkout / "tools" / name
    path.write_text(script)
    path.chmod(0o755)


def make(
    checkout: Path, python: str = sys.executable, *, before: list[str] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    env: Mapping[str, str] = {
        **os.environ,
        "PATH": f"{checkout / 'tools'}:{os.environ['PATH']}",
        "HOME": str(checkout),
        "MAKEFLAGS": "",
        **environment,
    }
    for name in ("XDG_STATE_HOME", "RIVERWATCH_STATE_DIR"):
        env = {key: value for key, value in env.items() if key != name}
    command = [*(before or []), "make", "-s", f"PYTHON={python}", ".venv/bin/python"]
    return subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, check=False)


def refused(done: subprocess.CompletedProcess[str], checkout: Path) -> list[str]:
    """The lines of a refusal, which left nothing."""
    assert done.returncode != 0
    assert not (checkout / ".venv").exists()
    assert "Traceback" not in done.stderr
    return [line for line in (done.stdout + done.stderr).splitlines() if line and not line.startswith("make")]


def ordinary_user() -> list[str]:
    if ORDINARY and (
        shutil.which("setpriv") is None
        or subprocess.run([*ORDINARY, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("root may write everywhere, and cannot be made an ordinary user here")
    return ORDINARY


def test_a_machine_that_has_everything_gets_its_environment(checkout: Path) -> None:
    tool(checkout, "redis-server", SERVER)
    done = make(checkout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (checkout / ".venv" / "bin" / "python").exists()


def test_a_python_that_is_older_is_called_older(checkout: Path) -> None:
    tool(checkout, "python3.9", "#!/bin/sh\nexit 9\n")  # what the question is answered with
    (line,) = refused(make(checkout, "python3.9"), checkout)
    assert line.startswith("riverwatch needs Python 3.11 or newer, and 'python3.9' is older")


@pytest.mark.parametrize(
    "script", [None, "#!/bin/sh\necho 'pyenv: python3.13: command not found'; exit 127\n"]
)
def test_a_python_that_cannot_be_started_is_not_called_older(checkout: Path, script: str | None) -> None:
    if script is not None:
        tool(checkout, "python3.13", script)
    said = refused(make(checkout, "python3.13" if script else "no-such-python"), checkout)
    assert "cannot be started: name another Python (3.11 or newer)" in "".join(said)
    assert "older" not in "".join(said)
    assert sum("not found" in line for line in said) == 1, "what the shell or the shim says"


def test_a_folder_that_cannot_be_written_is_named_and_venv_is_not_blamed(checkout: Path) -> None:
    tool(checkout, "redis-server", SERVER)
    with tempfile.TemporaryDirectory() as home:
        checkout.chmod(0o555)
        (line,) = refused(make(checkout, before=ordinary_user(), HOME=home), checkout)
    assert f"the folder {checkout} cannot be written (Permission denied)" in line


def test_a_home_that_cannot_be_written_is_named_with_what_to_set(checkout: Path) -> None:
    tool(checkout, "redis-server", SERVER)
    home = checkout / "home"
    home.mkdir(mode=0o555)
    (line,) = refused(make(checkout, before=ordinary_user(), HOME=str(home)), checkout)
    assert f"({home}: Permission denied), where riverwatch keeps its state: set HOME" in line


def test_a_full_disk_is_named_with_what_is_free_and_what_is_needed(checkout: Path) -> None:
    tool(checkout, "redis-server", SERVER)
    small = checkout / "small"
    small.mkdir()
    alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    mount = f"mount -t tmpfs -o size=8m tmpfs {small}"
    if (
        shutil.which("unshare") is None
        or subprocess.run([*alone, "sh", "-c", mount], capture_output=True, check=False).returncode
    ):
        pytest.skip("no small disk can be mounted here")
    done = make(checkout, before=[*alone, "sh", "-c", f'{mount} && exec "$@"', "sh"], TMPDIR=str(small))
    (line,) = refused(done, checkout)
    assert f"the disk of {small} is too full: 8 MB are free, and installing takes" in line


def test_a_venv_module_without_pip_is_called_incomplete(checkout: Path) -> None:
    tool(checkout, "redis-server", SERVER)
    # as Debian has it without python3-venv
    hidden = (
        "import importlib.util as u, runpy, sys; f = u.find_spec;"
        "u.find_spec = lambda n, *a: None if n == 'ensurepip' else f(n, *a);"
        "sys.path.insert(0, ''); runpy.run_module('infra.prerequisites', run_name='__main__', alter_sys=True)"
    )
    tool(
        checkout,
        "python3",
        f'#!/bin/sh\ncase "$*" in *prerequisites*) exec {sys.executable} -B -c "{hidden}";; '
        f'*) exec {sys.executable} "$@";; esac\n',
    )
    (line,) = refused(make(checkout, "python3"), checkout)
    assert "Python's venv module is incomplete here (Debian and Ubuntu: apt install python3." in line
