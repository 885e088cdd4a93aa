"""The house is kept: short files of one subject, folders that can be overlooked, imports in no circle.

Which layer may import which is kept by import-linter: `make lint`, [tool.importlinter] in pyproject.toml.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("models", "stream", "producers", "infra")
FILE_LINES, CLASS_LINES, MODULES = 400, 250, 15


@cache
def sources(*folders: str) -> dict[Path, str]:
    """The text of every Python file below some folders, by its path from the root."""
    found = [path for folder in folders for path in sorted(ROOT.joinpath(folder).rglob("*.py"))]
    return {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in found}


def module_of(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(tree: ast.Module) -> Iterator[str]:
    """What a file imports wherever it does: at the top, in a function, for the type checker alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name the whole path"
            yield from (f"{node.module}.{each.name}" for each in node.names)


def imports(files: dict[Path, str]) -> dict[str, set[str]]:
    """The modules that each module imports, of those there are."""
    texts = {module_of(path): text for path, text in files.items()}
    graph: dict[str, set[str]] = {}
    for module, text in texts.items():
        graph[module] = set()
        for imported in imported_names(ast.parse(text)):
            name = imported
            while name and name not in texts:
                name = name.rpartition(".")[0]
            if name and name != module:
                graph[module].add(name)
    return graph


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle of imports, empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_is_imported_by_what_it_imports() -> None:
    graph = imports(sources(*PACKAGES))
    assert len(graph) > 150
    assert circle(graph) == []


@pytest.mark.parametrize(
    "importing",
    [
        "from two import name",
        "def late() -> None:\n    import two",
        "if TYPE_CHECKING:\n    from two import name",
    ],
)
def test_a_circle_is_found_however_it_is_imported(importing: str) -> None:
    assert set(circle(imports({Path("one.py"): importing, Path("two.py"): "import one"}))) == {"one", "two"}


def test_no_file_is_longer_than_can_be_read_at_a_sitting() -> None:
    lines = {str(path): text.count("\n") for path, text in sources(*PACKAGES, "tests", "benchmarks").items()}
    assert {path: count for path, count in lines.items() if count > FILE_LINES} == {}


def test_no_class_is_longer_than_can_be_kept_in_mind() -> None:
    lengths = {
        f"{path}:{node.name}": node.end_lineno - node.lineno + 1
        for path, text in sources(*PACKAGES, "tests", "benchmarks").items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef) and node.end_lineno is not None
    }
    assert len(lengths) > 300
    assert {name: length for name, length in lengths.items() if length > CLASS_LINES} == {}


def test_no_folder_holds_more_modules_than_can_be_overlooked() -> None:
    held = Counter(
        path.parent for path in sources(*PACKAGES, "tests", "benchmarks") if path.name != "__init__.py"
    )
    assert {str(folder): count for folder, count in held.items() if count > MODULES} == {}
