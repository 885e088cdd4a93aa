"""The arithmetic of events, compiled: the same functions, the same bits, for a quarter of the time.

mypyc (the compiler of mypy, which checks these very types) makes extension modules of the sources below. They
lie in a folder named by a digest of those sources, this Python and its librt, so what is used is always what
stands here: after a change of one line, or without a C compiler, the sources themselves run.

    python -m infra.compiled_modules [LOCK]     compiles, unless that is done; LOCK is installed for that long

A wheel holds the compiled form beside the sources (`infra/build_backend.py`), where it is imported first.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

MODULES = (
    "models.scoring.split_search",
    "models.metrics.drift",
    "models.features.compute",
    "models.features.decay",
    "models.features.label_memory",
    "models.features.places",
    "models.scoring.sparse_linear",
    "models.features.recent_events",
    "models.features.profiles",
    "models.features.vector",
    "producers.files.dataset",
    "producers.files.rows",
    "producers.files.values",
    "stream.experiment.candidate",
    "stream.experiment.engine",
    "stream.experiment.entity_states",
    "stream.experiment.silent_engine",
)
"""No class of them may stand in a snapshot: a compiled one reads no pickle of a plain one."""
UNSEEN = ("numpy", "pyarrow", "river", "sklearn")
"""To read their types would take the compiler minutes, and a wheel is built where they are not installed."""
FLAGS = "-ffp-contract=off -fno-semantic-interposition -flto"
"""Of the C compiler: no product and sum in one rounding, as some machines would; calls may be inlined."""
ROOT = Path(__file__).parents[1]
STORE = Path(__file__).parent / "__compiled__"
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))


def source_of(module: str) -> Path:
    """The file of a module."""
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


def is_installed() -> bool:
    """Whether the compiled form lies beside the sources, as in a wheel."""
    return _beside(MODULES[0]).exists()


def _beside(module: str) -> Path:
    return source_of(module).with_suffix(SUFFIX)


def folder() -> Path:
    """Where the compiled form of the present sources lies, or would lie."""
    # Compiled, they call librt by its binary interface, which is that of one version.
    digest = hashlib.sha256((SUFFIX + FLAGS + importlib.metadata.version("librt")).encode())
    for module in MODULES:
        digest.update(b"\0" + source_of(module).read_bytes())
    return STORE / digest.hexdigest()[:16]


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the extension modules of a folder before anything else is looked for."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the import system's signature
        target: ModuleType | None = None,  # noqa: ARG002 - the same
    ) -> importlib.machinery.ModuleSpec | None:
        """The extension module of a name."""
        file = self._files.get(fullname)
        return None if file is None else importlib.util.spec_from_file_location(fullname, file)


def use() -> bool:
    """Let the compiled modules be imported from now on, where they are there; whether they are used.

    To be called before any of them is imported: a process uses all of them or none.
    """
    if not in_use() and not any(module in sys.modules for module in MODULES):
        files = {file.name.removesuffix(SUFFIX): file for file in folder().glob(f"*{SUFFIX}")}
        if files:
            sys.meta_path.insert(0, _Finder(files))
    return in_use()


def in_use() -> bool:
    """Whether this process runs the compiled arithmetic."""
    return is_installed() or any(isinstance(finder, _Finder) for finder in sys.meta_path)


def compiler_problem() -> str | None:
    """Why nothing can be compiled here, in a line; None when there is a C compiler."""
    compiler = str(sysconfig.get_config_var("CC") or "cc").split()[0]
    return None if shutil.which(compiler) else f"there is no C compiler (`{compiler}`)"


def wheel_files() -> dict[str, Path]:
    """The compiled form of the present sources, and the place of each of its files in a wheel."""
    modules = {f"{module}{SUFFIX}": f"{module.replace('.', '/')}{SUFFIX}" for module in MODULES}
    return {modules.get(file.name, file.name): file for file in folder().iterdir()}


def compile_modules(lock: Path | None = None) -> str | None:
    """Compile the present sources.

    Args:
        lock: names the packages that compile; installed, where mypyc is not here, until it is done.

    Returns:
        Why that cannot be done here, in a line; None when it is done.
    """
    wanted = folder()
    if is_installed() or wanted.exists():
        return None
    if (problem := compiler_problem()) is not None:
        return problem
    with tempfile.TemporaryDirectory() as there:
        tools, work = Path(there) / "tools", Path(there) / "work"
        work.mkdir()
        if (problem := _mypyc_problem(tools, lock)) is not None:
            return problem
        for package in {module.partition(".")[0] for module in MODULES}:
            shutil.copytree(ROOT / package, work / package, ignore=shutil.ignore_patterns("__*__"))
            (work / package / "__init__.py").touch()
        (work / "mypy.ini").write_text(
            "[mypy]\nignore_missing_imports = True\n"
            + "".join(
                f"[mypy-{name}.*]\nfollow_imports = skip\nfollow_imports_for_stubs = True\n"
                for name in UNSEEN
            )
        )
        names = [str(source_of(module).relative_to(ROOT)) for module in MODULES]
        path = os.pathsep.join(filter(None, (str(tools), os.environ.get("PYTHONPATH"))))
        cflags = f"{os.environ.get('CFLAGS', '')} {FLAGS}"
        done = _run(["-m", "mypyc", *names], work, {"CFLAGS": cflags, "PYTHONPATH": path})
        if done.returncode:
            return f"mypyc failed: {(done.stdout + done.stderr).strip()[-2000:]}"
        # Whole or not at all: another process may look for it at this moment, or make it too. Those of older
        # sources stay, for processes that run them; `make clean` removes them.
        try:
            STORE.mkdir(exist_ok=True)
        except OSError as error:
            return f"{STORE} cannot be made ({error.strerror})"
        part = Path(tempfile.mkdtemp(dir=STORE))
        part.chmod(0o755)
        for file in work.glob(f"*{SUFFIX}"):
            shutil.move(file, part / file.name)
        for name, module in zip(names, MODULES, strict=True):
            shutil.move(work / name.replace(".py", SUFFIX), part / f"{module}{SUFFIX}")
        try:
            part.rename(wanted)
        except OSError:  # another process was first
            shutil.rmtree(part)
    return None


def _mypyc_problem(tools: Path, lock: Path | None) -> str | None:
    """Install mypyc in a folder where it is not here; why that cannot be done."""
    if importlib.util.find_spec("mypyc") is not None:
        return None
    if lock is None:
        return "mypyc is not installed"
    quietly = ["--quiet", "--disable-pip-version-check", "--no-compile", "--require-hashes"]
    done = _run(["-m", "pip", "install", *quietly, "--target", str(tools), "-r", str(lock)], ROOT, {})
    if done.returncode:
        return f"mypyc cannot be installed: {(done.stdout + done.stderr).strip()[-2000:]}"
    return None


def _run(
    arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


if __name__ == "__main__":
    problem = compile_modules(*map(Path.absolute, map(Path, sys.argv[1:2])))
    if problem is not None:
        print(f"The arithmetic is not compiled: {problem}. It runs all the same, for four times the CPU.")  # noqa: T201 - a command
