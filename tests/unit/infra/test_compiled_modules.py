"""The compiled arithmetic is the same arithmetic, and never that of yesterday's sources."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import compiled_modules as compiled

# A pass over simulated payments: events, labels, profiles, features, scores, to the last bit.
PASS = """
import hashlib, sys
from infra import compiled_modules as compiled
if sys.argv[1] == "compiled":
    assert compiled.use()
from datetime import timedelta
from itertools import islice
from models.features.spec import DEFAULT_SPEC
from models.features.compute import features_of
from models.scoring.registry import build_model
from producers.simulator.simulate import DEMO, simulate
from stream.experiment.candidate import Candidate
from stream.experiment.engine import Engine, EngineSettings
from stream.policy import Policy
print("compiled" if features_of.__class__.__name__ != "function" else "interpreted")
names = "default", "river-pipeline"
one, other = (Candidate(name, build_model(name, negative_sampling_rate=0.5), Policy()) for name in names)
freeze = (DEMO.start + timedelta(days=20)).timestamp()
engine = Engine([one, other], EngineSettings(spec=DEFAULT_SPEC, negative_sampling_rate=0.5, freeze_at=freeze))
engine.run(islice(simulate(DEMO, seed=3), 24_000))
digest = hashlib.sha256(repr(engine.alarms).encode())
for candidate in engine.candidates:
    digest.update(candidate.scores.tobytes() + repr(candidate.effects.sums).encode())
for entity, (profile, labels) in sorted(engine.entities.snapshots().items()):
    digest.update(repr((entity, tuple(profile), tuple(labels))).encode())
print(one.learned, digest.hexdigest())
"""


@pytest.fixture(scope="module")
def _compiled() -> None:
    problem = compiled.compile_modules()
    if problem is not None:
        pytest.skip(f"the arithmetic cannot be compiled here: {problem}")


def _pass(form: str) -> tuple[str, int, str]:
    done = subprocess.run([sys.executable, "-c", PASS, form], capture_output=True, text=True, check=True)
    kind, learned, digest = done.stdout.split()
    return kind, int(learned), digest


@pytest.mark.usefixtures("_compiled")
def test_the_compiled_arithmetic_gives_the_same_bits() -> None:
    kind, learned, digest = _pass("compiled")
    assert kind == "compiled"
    assert learned > 300  # so that the model, its bins and its crosses spoke
    assert _pass("interpreted") == ("interpreted", learned, digest)


@pytest.mark.usefixtures("_compiled")
def test_a_changed_source_runs_itself_and_not_its_compiled_form(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert compiled.folder().is_dir()
    for module in compiled.MODULES:
        copy = tmp_path / compiled.source_of(module).relative_to(compiled.ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(compiled.source_of(module), copy)
    same = compiled.folder()
    monkeypatch.setattr(compiled, "ROOT", tmp_path)
    assert compiled.folder() == same
    with compiled.source_of("models.features.profiles").open("a") as file:
        file.write("\nCLIP = 4.0\n")
    assert not compiled.folder().exists()
    assert not compiled.use()


INNER = "models.features.label_memory"


def _public(module: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions and methods that plain code may call, by name."""
    for node in ast.parse(compiled.source_of(module).read_text()).body:
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and (inner.name == "__init__" or inner.name[0] != "_"):
                    yield f"{module}.{node.name}.{inner.name}", inner
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield f"{module}.{node.name}", node


def test_nothing_public_takes_a_vec_that_would_never_be_freed() -> None:
    functions = [found for module in compiled.MODULES for found in _public(module)]
    assert len(functions) > 50
    taking = {
        name
        for name, function in functions
        if any(each.annotation and "vec[" in ast.unparse(each.annotation) for each in function.args.args)
    }
    assert {name for name in taking if not name.startswith(INNER)} == {"models.features.vector.Row.__init__"}


def test_plain_code_takes_constants_alone_of_what_is_for_compiled_modules() -> None:
    """Its functions take vecs: only a compiled caller frees them."""
    plain = [
        path
        for package in ("models", "stream", "producers", "infra")
        for path in (compiled.ROOT / package).rglob("*.py")
        if path not in {compiled.source_of(module) for module in compiled.MODULES}
    ]
    taken = {
        (path.name, name.name)
        for path in plain
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == INNER
        for name in node.names
    }
    assert taken
    assert [each for each in taken if not each[1].isupper()] == []


def test_a_process_that_imported_the_sources_goes_on_with_them() -> None:
    import models.features.profiles  # noqa: F401, PLC0415 - what the rule is about

    assert not compiled.use()
    assert not compiled.in_use()


def test_without_a_compiler_one_line_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiled, "STORE", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    problem = compiled.compile_modules()
    assert problem is not None
    assert problem.startswith("there is no C compiler (`")
    assert not list(tmp_path.iterdir())
