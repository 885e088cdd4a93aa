"""The arithmetic of events, compiled: the same functions, the same bits, for a quarter of the time.

mypyc (the compiler of mypy, which checks these very types) makes extension modules of the sources below. They
lie in a folder named by a digest of those sources, this Python and its librt, so what is used is always what
stands here: after a change of one line, or without a C compiler, the sources themselves run.

    python -m infra.compiled_modules     compiles, unless that is done
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
UNSEEN = ("numpy", "pyarrow", "river", "sklearn")  # to read their types would take the compiler minutes
FLAGS = "-ffp-contract=off -fno-semantic-interposition -flto"
"""Of the C compiler: no product and sum in one rounding, as some machines would; calls may be inlined."""
ROOT = Path(__file__).parents[1]
STORE = Path(__file__).parent / "__compiled__"
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))


def source_of(module: str) -> Path:
    """The file of a module."""
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


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
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


def compile_modules() -> str | None:
    """Compile the present sources.

    Returns:
        Why that cannot be done here, in a line; None when it is done.
    """
    wanted = folder()
    if wanted.exists():
        return None
    if importlib.util.find_spec("mypyc") is None:
        return "mypyc is not installed"
    compiler = str(sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler (`{compiler}`)"
    with tempfile.TemporaryDirectory() as there:
        work = Path(there)
        for package in {module.partition(".")[0] for module in MODULES}:
            shutil.copytree(ROOT / package, work / package, ignore=shutil.ignore_patterns("__*__"))
            (work / package / "__init__.py").touch()
        (work / "mypy.ini").write_text(
            "[mypy]\nignore_missing_imports = True\n"
            + "".join(f"[mypy-{name}.*]\nfollow_imports = skip\n" for name in UNSEEN)
        )
        names = [str(source_of(module).relative_to(ROOT)) for module in MODULES]
        done = subprocess.run(
            [sys.executable, "-m", "mypyc", *names],
            cwd=work,
            env=os.environ | {"CFLAGS": f"{os.environ.get('CFLAGS', '')} {FLAGS}"},
            capture_output=True,
            text=True,
            check=False,
        )
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


if __name__ == "__main__":
    problem = compile_modules()
    if problem is not None:
        print(f"The arithmetic is not compiled: {problem}. It runs all the same, for four times the CPU.")  # noqa: T201 - a command
