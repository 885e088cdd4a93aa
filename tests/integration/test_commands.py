"""What a user types, on the embedded broker: it serves to see that commands find each other and end well."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.embedded_kafka import embedded_problem
from infra.guard import alive
from infra.process import GuardedProcess
from tests.support.patience import PATIENCE, until

pytestmark = pytest.mark.skipif(
    embedded_problem() is not None, reason=f"no embedded broker here: {embedded_problem()}"
)


class Shell:
    """Commands with a state folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if "RIVERWATCH" not in name}
        self.environment["RIVERWATCH_STATE_DIR"] = str(folder)
        self.started: list[GuardedProcess] = []

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "stream.cli", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,  # the demo alone takes minutes
            check=False,
        )

    def start(self, *words: str) -> GuardedProcess:
        """Start a command that stays."""
        log = self.folder / f"{words[0]}-{len(self.started)}.log"
        process = GuardedProcess([sys.executable, "-m", "stream.cli", *words], log, env=self.environment)
        self.started.append(process)
        return process


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    for process in reversed(shell.started):
        process.stop(10)


def decided(shell: Shell) -> int:
    """By the word of `riverwatch status`."""
    return int(json.loads(shell.run("status", "--json").stdout)["account"]["decided"])


def test_commands_find_a_running_installation_by_themselves(shell: Shell) -> None:
    up = shell.start("up", "--kafka", "embedded", "--partitions", "2")
    until(lambda: "are up" in up.log.read_text(), "riverwatch up is not up")
    said = up.log.read_text()
    assert "RIVERWATCH_KAFKA_BOOTSTRAP=127.0.0.1:" in said
    assert "RIVERWATCH_REDIS_URL=redis://:" in said
    second = shell.run("up")
    assert second.returncode == 1
    assert "runs already" in second.stderr
    config = shell.run("config").stdout
    assert "running `riverwatch up`" in config
    assert "partitions" in config
    shell.start("score")
    made = shell.run("produce", "simulate", "--events", "400", "--preset", "demo")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("published 400 transactions")

    def account() -> dict[str, int]:
        found: dict[str, int] = json.loads(shell.run("status", "--json").stdout)["account"]
        return found

    # The embedded broker says late where a topic ends: what was committed tells.
    until(lambda: account()["events"] == account()["decided"] == 400, "not everything is decided")
    found = account()
    assert (found["events"], found["rejected"], found["lag"], found["balanced"]) == (400, 0, 0, True)
    status = shell.run("status")
    assert status.returncode == 1, "no learner and no monitor run"
    assert "no learn worker runs" in status.stdout
    alerts = shell.run("alerts", "--last", "3", "--json")
    assert all(json.loads(line)["action"] != "approve" for line in alerts.stdout.splitlines())
    assert len(alerts.stdout.splitlines()) == min(3, found["alerts"])
    for process in reversed(shell.started):
        assert process.stop(PATIENCE) == 0
    assert not (shell.folder / "running.json").exists()


def test_services_go_when_riverwatch_up_is_killed(shell: Shell) -> None:
    up = shell.start("up", "--kafka", "embedded")
    until(lambda: "are up" in up.log.read_text(), "riverwatch up is not up")
    children = psutil.Process(up.pid).children(recursive=True)
    assert len(children) >= 2
    os.kill(up.pid, signal.SIGKILL)
    until(lambda: not any(alive(child.pid) for child in children), "services are left")
    late = shell.run("status")
    assert late.returncode == 1
    assert "DOWN" in late.stdout


def test_on_call_is_told_which_service_ended_and_what_a_worker_leaves_behind(shell: Shell) -> None:
    up = shell.start("up", "--kafka", "embedded", "--partitions", "2")
    until(lambda: "are up" in up.log.read_text(), "riverwatch up is not up")
    kafka = re.search(r"Kafka \(embedded, process (\d+)\)", up.log.read_text())
    assert kafka is not None
    shell.environment |= {"RIVERWATCH_SESSION_TIMEOUT": "6", "RIVERWATCH_HEARTBEAT_INTERVAL": "1"}
    score = shell.start("score")
    until(lambda: "scoring transactions, partitions" in score.log.read_text(), "nothing is scored")
    # As fast as it can: so the worker has a batch in hand, whenever Kafka ends.
    traffic = shell.start("produce", "simulate", "--events", "500000")
    until(lambda: decided(shell) > 100, "nothing is decided")
    os.kill(int(kafka[1]), signal.SIGKILL)
    until(lambda: up.poll() is not None, "riverwatch up goes on without Kafka")
    said = up.log.read_text().splitlines()[-1]
    assert said.startswith(f"Error: Kafka (process {kafka[1]}) has ended by itself, and Redis with it; read ")
    assert said.endswith("begin again with `riverwatch up`")
    until(lambda: "score waits" in score.log.read_text(), "the worker does not see that Kafka is away")
    traffic.kill()
    assert score.stop(PATIENCE) == 0
    text = score.log.read_text()
    assert "riverwatch-score was told to end" in text
    assert "riverwatch-score leaves and cannot tell Kafka at" in text
    for noise in ("Traceback", "Exception in thread", "Error while stopping", "was destroyed", "BatchApp"):
        assert noise not in text


def test_demo_shows_a_change_and_leaves_nothing_running(shell: Shell) -> None:
    summary = shell.folder / "summary.json"
    picture = shell.folder / "screen.svg"
    # A pace that busy workers keep up with: a learner far behind teaches other scorers, who find no drift.
    shown = shell.run("demo", "--seconds", "90", "--json", str(summary), "--picture", str(picture))
    assert shown.returncode == 0, shown.stdout + shown.stderr
    found = json.loads(summary.read_text())
    assert found["transactions"] == found["decisions"] > 50_000
    assert found["dead_letters"] == 0
    assert found["labels_learned"] > 1000
    assert found["model_version"].startswith("default@")
    assert found["average_precision"]["end"] > 0.2
    assert found["drift_signals"]
    assert "What next" in shown.stdout
    assert picture.read_text().startswith("<svg")
    ours = [
        process
        for process in psutil.process_iter(["cmdline"])
        if "riverwatch-demo-" in " ".join(process.info["cmdline"] or [])
    ]
    assert not ours


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("produce", "dataset", "nothing.parquet", "--schema", "nothing.toml"), 2, "does not exist"),
        (("produce", "simulate", "--rate", "5", "--follow"), 2, "not several"),
        (("score", "--shards", "0", "--model-key-file", "nothing"), 1, "shards"),
        (
            ("learn", "--kafka-bootstrap", "127.0.0.1:1", "--redis-url", "redis://127.0.0.1:1"),
            1,
            "127.0.0.1:1",
        ),
        (("nonsense",), 2, "No such command"),
    ],
)
def test_failure_is_one_line_that_a_person_can_act_on(
    shell: Shell, words: tuple[str, ...], code: int, said: str
) -> None:
    found = shell.run(*words)
    assert found.returncode == code
    assert said in found.stderr
    assert "Traceback" not in found.stderr
