"""What this machine lacks, said before anything is installed.

    python -m infra.prerequisites

It imports the standard library alone. A line for each thing that is missing; exit code 1 when there is any.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from infra.redis_servers import unavailable
from infra.running import running_file

INSTALLED_MB = 550  # 370 in the end
UNPACKED_MB = 250
"""What pip and the compiler keep for some seconds in the folder of temporary files."""
CACHED_MB = 150


def problems(checkout: Path) -> Iterator[str]:
    """What is missing to install riverwatch into a folder and to run it there, a line each."""
    if platform.system() not in {"Linux", "Darwin"}:
        yield f"riverwatch runs on Linux and macOS, not on {platform.system()}: on Windows, use WSL"
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        yield f"Python's venv module is incomplete here (Debian and Ubuntu: apt install python{version}-venv)"
    if (why := _not_writable(checkout)) is not None:
        yield f"the folder {checkout} cannot be written ({why}), and riverwatch is installed in its .venv"
    try:
        state = running_file().parent
    except RuntimeError as error:
        state = None
        yield f"there is no home folder ({error}): set HOME"
    if state is not None and (why := _not_writable(state)) is not None:
        yield (
            f"{state} cannot be written ({why}), where riverwatch keeps its state: set HOME, or "
            "RIVERWATCH_STATE_DIR, to a folder that can"
        )
    yield from _full_disks(checkout, state)
    if (problem := unavailable()) is not None:
        yield problem


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def _not_writable(folder: Path) -> str | None:
    # by trying: root may write where modes forbid it, and nobody may where a disk is mounted read-only
    there = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=there):
            return None
    except OSError as error:
        return f"{error.strerror}" if there == folder else f"{there}: {error.strerror}"


def _full_disks(checkout: Path, state: Path | None) -> Iterator[str]:
    wanted = [(checkout, INSTALLED_MB), (Path(tempfile.gettempdir()), UNPACKED_MB)]
    if state is not None and "PIP_NO_CACHE_DIR" not in os.environ:
        wanted.append((Path(os.environ.get("XDG_CACHE_HOME") or state), CACHED_MB))
    disks: dict[int, tuple[Path, int]] = {}
    for folder, needed in wanted:
        there = _existing(folder)
        first, sum_so_far = disks.get(there.stat().st_dev, (there, 0))
        disks[there.stat().st_dev] = first, sum_so_far + needed
    for folder, needed in disks.values():
        free = shutil.disk_usage(folder).free // 2**20
        if free < needed:
            yield f"the disk of {folder} is too full: {free} MB are free, and installing takes {needed} MB"


if __name__ == "__main__":
    found = list(problems(Path.cwd()))
    for line in found:
        print(f"riverwatch: {line}", file=sys.stderr)  # noqa: T201 - a command
    sys.exit(bool(found))
