"""What the documentation says is what the code does: schemas, settings, examples, names, links and words."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from stream import admission
from stream.admission import Limits, Rejected, admit_transaction
from stream.cli.look.config import as_markdown
from stream.cli.look.schema import schemas
from stream.cli.main import COMMANDS, riverwatch
from stream.config.settings import PREFIX, Settings, load
from stream.dead_letters import dead_letter
from stream.messages import WIRE, encode
from stream.records import Record

ROOT = Path(__file__).parents[3]
FRONT = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*FRONT, *sorted((ROOT / "docs").rglob("*.md"))]
PAGE_NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
MESSAGES = (ROOT / "docs/messages.md").read_text("utf-8")
OPERATIONS = (ROOT / "docs/operations.md").read_text("utf-8")
CLUSTER = (ROOT / "docs/cluster.md").read_text("utf-8")

FENCE = re.compile(r"^([ ]*)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!\w+://|mailto:)([^)\s]*)")
TEST = re.compile(r"(tests/[\w/]+\.py)::(\w+)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
SPOKEN = 4  # letters that a line of the program has beside what differs; fewer would match anything


# Links, tests and commands that are named


def anchors(text: str) -> set[str]:
    """What a heading can be linked by, as GitHub makes it."""
    titles = HEADING.findall(FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(text: str, page: Path) -> list[str]:
    broken = []
    for target in LINK.findall(FENCE.sub("", text)):
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists():
            broken.append(target)
        elif anchor and path.suffix == ".md":
            there = text if path == page else path.read_text("utf-8")
            if anchor not in anchors(there):
                broken.append(target)
    return broken


@cache
def functions_in(file: str) -> frozenset[str]:
    path = ROOT / file
    if not path.exists():
        return frozenset()
    return frozenset(
        node.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
    )


def missing_tests(text: str) -> list[str]:
    return [f"{file}::{name}" for file, name in TEST.findall(text) if name not in functions_in(file)]


def named_commands(text: str) -> set[str]:
    """What stands behind `riverwatch` in code, the program's own lines left out."""
    blocks = [body for _, kind, body in FENCE.findall(text) if kind != "log"]
    inline = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    # only where a command line begins: `docker build -t riverwatch .` names none
    found = (re.findall(r"(?m)^(?:\S*/)?riverwatch ([a-z]+)", code) for code in chain(blocks, inline))
    return {name for names in found for name in names}


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_each_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert broken_links(page.read_text("utf-8"), page) == []


def test_a_broken_link_is_seen() -> None:
    page = ROOT / "docs/messages.md"
    text = "# One two\n[a](nowhere.md) [b](messages.md#nothing) [c](#one-two) [d](https://example.com/x)\n"
    assert broken_links(text, page) == ["nowhere.md", "messages.md#nothing"]


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_each_test_that_is_named_exists(page: Path) -> None:
    assert missing_tests(page.read_text("utf-8")) == []


def test_a_test_that_is_missing_is_seen() -> None:
    here = "tests/unit/repository/test_docs.py::test_a_test_that_is_missing_is_seen"
    gone = ["tests/unit/repository/test_docs.py::test_of_yesterday", "tests/unit/test_gone.py::test_x"]
    assert missing_tests(f"`{here}`, {gone[0]}, [{gone[1]}]") == gone


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_each_command_that_is_named_exists_unless_it_is_called_missing(page: Path) -> None:
    text = page.read_text("utf-8")
    called_missing = set(re.findall(r"`riverwatch ([a-z]+)` is not in this version", text))
    assert named_commands(text) - set(COMMANDS) == called_missing, (
        "a command came or went: say so on the page"
    )


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_each_flag_that_is_named_is_one_of_its_command(page: Path) -> None:
    group: Any = riverwatch
    for line in re.findall(r"riverwatch [a-z]+[^\n`]*", page.read_text("utf-8")):
        name, *rest = line.split("#")[0].split()[1:]
        if name not in COMMANDS:
            continue
        command = group.get_command(click.Context(group), name)
        while rest and isinstance(command, click.Group) and rest[0] in command.commands:
            command = command.commands[rest.pop(0)]
        known = {flag for option in command.params for flag in option.opts} | {"--help"}
        assert {word for word in rest if word.startswith("--")} <= known, line


def test_every_decision_is_in_the_index_under_its_title() -> None:
    index = (ROOT / "docs/adr/README.md").read_text("utf-8")
    listed = dict(re.findall(r"^\| \[\d+\]\((\S+)\) \| (.+) \|$", index, re.MULTILINE))
    pages = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
    assert listed == {
        page.name: page.read_text("utf-8").partition("\n")[0].partition(". ")[2] for page in pages
    }


# What is generated


def test_the_schemas_are_what_the_code_generates() -> None:
    written = {path.stem: path.read_text("utf-8") for path in (ROOT / "docs/schema").glob("*.json")}
    assert written == schemas(), "run: riverwatch schema --write docs/schema"


def test_the_page_of_settings_is_what_the_code_generates() -> None:
    written = (ROOT / "docs/settings.md").read_text("utf-8")
    assert written == as_markdown(), "run: riverwatch config --markdown > docs/settings.md"


def test_the_documented_defaults_are_the_defaults() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (?:`([^`]*)`|none) \| .* \| `(\w+)` \|$", as_markdown(), re.MULTILINE)
    environment = {variable: default for _, default, variable in rows if default}
    assert {PREFIX + name.upper() for name, _, _ in rows} == {variable for _, _, variable in rows}
    assert len(rows) == len(msgspec.structs.fields(Settings))
    assert load({}, environment, config=None).settings == Settings()


# Messages


def section(topic: str) -> str:
    found = re.search(rf"^## {topic}\n(.*?)(?=^## |\Z)", MESSAGES, re.MULTILINE | re.DOTALL)
    assert found, topic
    return found[1]


def example(topic: str) -> Any:
    [body] = [body for _, kind, body in FENCE.findall(section(topic)) if kind == "json"]
    return json.loads(body)


def fields_of(topic: str) -> tuple[msgspec.structs.FieldInfo, ...]:
    message: Any = WIRE[topic]
    return msgspec.structs.fields(message)


def rows(text: str) -> list[list[str]]:
    """The rows of tables whose first cell is one name."""
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines())
    return [row for row in cells if len(row) > 1 and re.fullmatch(r"`[\w-]+`", row[0])]


@pytest.mark.parametrize("topic", WIRE)
def test_each_example_is_a_message_of_its_topic(topic: str) -> None:
    found = example(topic)
    decoded = msgspec.json.decode(json.dumps(found), type=WIRE[topic])
    # every name in it is a field, and what is decoded says the same again
    assert set(found) <= {field.encode_name for field in fields_of(topic)}
    assert msgspec.json.decode(encode(decoded), type=WIRE[topic]) == decoded


def test_the_example_of_a_transaction_is_admitted() -> None:
    found = example("transactions")
    time = datetime.fromisoformat(found["event_time"]).timestamp()
    record = Record(
        "transactions", 3, 0, int(time * 1000), found["card_id"].encode(), json.dumps(found).encode()
    )
    assert not isinstance(admit_transaction(record, Limits()), Rejected)


@pytest.mark.parametrize("topic", [topic for topic in WIRE if topic != "alerts"])
def test_each_field_is_documented_and_whether_it_is_required(topic: str) -> None:
    documented = {row[0].strip("`"): row[2] == "yes" for row in rows(section(topic))}
    assert documented == {field.encode_name: field.required for field in fields_of(topic)}


def test_an_alert_is_documented_as_a_decision_and_what_it_has_more() -> None:
    documented = {row[0].strip("`") for row in rows(section("alerts"))}
    own, decision = ({field.name for field in fields_of(topic)} for topic in ("alerts", "scores"))
    assert documented == own - decision


def test_every_topic_is_in_the_table_of_topics() -> None:
    head = MESSAGES.partition("## transactions")[0]
    named = re.findall(r"^\| \[`([\w-]+)`\]", head, re.MULTILINE)
    assert named == [*WIRE, "dead-letters"]


def test_the_example_of_a_dead_letter_is_one() -> None:
    found = example("dead-letters")
    record = Record(found["topic"], int(found["partition"]), int(found["offset"]), 0, b"c", b"{}")
    now = datetime(2026, 1, 14, 9, 30, 12, 391804, tzinfo=UTC)
    letter = dead_letter(record, Rejected(found["reason"], found["detail"]), "dead-letters", now)
    assert {name: value.decode() for name, value in letter.headers} == found


def _constant(node: ast.expr) -> str:
    """A text as it stands in a call: itself, or the name of a constant of `stream.admission`."""
    if isinstance(node, ast.Name):
        return str(getattr(admission, node.id))
    assert isinstance(node, ast.Constant), ast.dump(node)
    return str(node.value)


def reasons_in_code() -> set[str]:
    """The first argument of every `Rejected(...)` in stream/."""
    calls = (
        node
        for path in (ROOT / "stream").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Rejected"
    )
    return {_constant(call.args[0]) for call in calls}


def test_every_reason_of_a_dead_letter_is_documented_and_no_other() -> None:
    table = section("dead-letters").partition("| reason | of |")[2]
    assert {row[0].strip("`") for row in rows(table)} == reasons_in_code()


# The program's own words


def _pattern(node: ast.AST) -> str:
    """A text in the code as an expression: what differs matches anything."""
    if isinstance(node, ast.Constant):
        parts = re.split(r"(%(?:\.\d+f|[sdr]))", node.value) if isinstance(node.value, str) else []
        return "".join(".+" if part.startswith("%") and len(part) > 1 else re.escape(part) for part in parts)
    if isinstance(node, ast.JoinedStr):
        return "".join(_pattern(part) for part in node.values)
    return ".+"


@cache
def spoken() -> list[re.Pattern[str]]:
    """Every text in the code with letters enough to be recognised by."""

    def texts() -> Iterator[str]:
        for path in chain.from_iterable((ROOT / place).rglob("*.py") for place in ("stream", "models")):
            tree = ast.parse(path.read_text("utf-8"))
            docs = {
                id(node.body[0].value)
                for node in ast.walk(tree)
                if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
                and isinstance(node.body[0], ast.Expr)
            }
            for node in ast.walk(tree):
                if isinstance(node, (ast.Constant, ast.JoinedStr)) and id(node) not in docs:
                    yield _pattern(node)

    patterns = {pattern for pattern in texts() if len(re.findall(r"[A-Za-z]", pattern)) >= SPOKEN}
    return [re.compile(pattern) for pattern in sorted(patterns)]


def unspoken(line: str) -> bool:
    """Whether no text in the code gives this line."""
    return not any(pattern.fullmatch(line) for pattern in spoken())


def log_lines(text: str) -> list[str]:
    return [line for _, kind, body in FENCE.findall(text) if kind == "log" for line in body.splitlines()]


def test_every_line_of_the_program_that_operations_shows_is_its_own() -> None:
    lines = log_lines(OPERATIONS)
    assert lines
    assert [line for line in lines if unspoken(line)] == []


@pytest.mark.parametrize(
    "line",
    [
        "Kafka at HOST:PORT can not be reached (WHY). Nothing is acknowledged; trying until it answers",
        "Redis is behind: TOPIC[3] was acknowledged to 88412 and applied to 88010; going back there",
        "MODEL REFUSED, the last one goes on: REASON",
    ],
)
def test_a_line_that_the_program_does_not_say_is_seen(line: str) -> None:
    assert unspoken(line)


# What is said to be missing
