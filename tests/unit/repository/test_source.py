"""Rules of the source that neither ruff nor mypy knows."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from stream.workers.run import set_up_logging

ROOT = Path(__file__).parents[3]
PRODUCT = [
    path for folder in ("models", "stream", "producers", "infra") for path in (ROOT / folder).rglob("*.py")
]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def calls(path: Path) -> Iterator[tuple[str, str]]:
    """Each call in a file: what is called, and with what, as it is written."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), ", ".join(map(ast.unparse, node.args))


def test_no_function_is_called_with_what_its_types_refuse() -> None:
    ignored = re.compile(r"type: ignore\[[^\]]*\b(?:arg-type|call-arg|call-overload)\b")
    assert [name_of(path) for path in PRODUCT if ignored.search(path.read_text())] == []


def test_redis_is_imported_by_its_adapters_and_by_what_starts_it_alone() -> None:
    imports = re.compile(r"^\s*(?:import|from) redis\b", re.MULTILINE)
    having = {
        path.relative_to(ROOT).parent.as_posix() for path in PRODUCT if imports.search(path.read_text())
    }
    assert having == {"stream/adapters/redis", "infra"}


def test_only_a_fault_test_has_a_process_send_itself_a_signal() -> None:
    having = [name_of(path) for path in PRODUCT if ("os.getpid", "") in calls(path) and _kills(path)]
    assert having == ["stream/runtime/crash_points.py"]


def _kills(path: Path) -> bool:
    return any(called in {"os.kill", "os.killpg"} and "getpid" in what for called, what in calls(path))


def test_each_logger_of_a_module_has_its_name() -> None:
    """So a person sets the level of one module, or of a package, by the name that its path has."""
    others = ("", "'mode.timers'", "library", "name")  # the root, and the loggers of libraries
    made = [
        (name_of(path), what)
        for path in PRODUCT
        for called, what in calls(path)
        if called == "logging.getLogger" and what not in others
    ]
    assert made
    assert [each for each in made if each[1] != "__name__"] == []


@pytest.fixture
def levels() -> Iterator[None]:
    """Levels of loggers are those of before again."""
    root, known = logging.getLogger(), list(logging.Logger.manager.loggerDict)
    before = {name: logging.getLogger(name).level for name in known}
    handlers, level = root.handlers[:], root.level
    yield
    for name in list(logging.Logger.manager.loggerDict):
        logging.getLogger(name).setLevel(before.get(name, logging.NOTSET))
    root.handlers[:] = handlers
    root.setLevel(level)


WORKERS = ("stream.workers.score", "stream.workers.learn", "stream.workers.monitor")
TELL = (*WORKERS, "stream.adapters.kafka.models", "stream.runtime.shutdown_log", "stream.runtime.retry_log")


@pytest.mark.usefixtures("levels")
@pytest.mark.parametrize(("level", "libraries"), [("DEBUG", True), ("INFO", False)])
def test_at_info_riverwatch_tells_and_its_libraries_are_quiet(level: str, libraries: bool) -> None:
    set_up_logging(level)
    logging.getLogger().setLevel(level)  # as `run_app` does
    for name in TELL:
        assert import_module(name), "a logger's name is that of a module"
        assert logging.getLogger(name).isEnabledFor(logging.INFO)
    for name in ("faust.app", "mode.worker", "aiokafka.consumer"):
        assert logging.getLogger(name).isEnabledFor(logging.INFO) == libraries


@pytest.mark.usefixtures("levels")
def test_at_warning_nothing_is_told_in_good_order() -> None:
    set_up_logging("WARNING")
    logging.getLogger().setLevel("WARNING")
    assert not any(logging.getLogger(name).isEnabledFor(logging.INFO) for name in TELL)
