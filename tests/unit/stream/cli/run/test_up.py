"""What `riverwatch up` says when a service of its own ends."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stream.cli.run.up import ended_by_itself


def service(name: str, port: int, kind: str = "") -> Any:
    return SimpleNamespace(pid=port + 1, port=port, kind=kind, log=Path(f"/state/logs/{name}.log"))


@pytest.mark.parametrize(("which", "what", "pid"), [(0, "Kafka", 9093), (1, "Redis", 6380)])
def test_the_service_that_ended_is_named_with_its_log_and_how_to_have_both_back(
    which: int, what: str, pid: int
) -> None:
    both = service("kafka", 9092, "apache"), service("redis", 6379)
    said = ended_by_itself(both[which], *both)
    assert said.startswith(f"{what} (process {pid}) has ended by itself")
    assert f"read /state/logs/{what.lower()}.log." in said
    assert "`riverwatch up --kafka apache --kafka-port 9092 --redis-port 6379`" in said


def test_no_data_is_promised_where_none_is_kept() -> None:
    both = service("kafka", 9092, "embedded"), service("redis", 6379)
    said = ended_by_itself(both[0], *both)
    assert "Neither keeps anything on disk" in said
    assert "--kafka-port" not in said
