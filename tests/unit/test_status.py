"""What `riverwatch status` says to people."""

from __future__ import annotations

import pytest

from stream.commands.status import as_text
from stream.state_of_things import Status


@pytest.mark.parametrize(
    ("serves", "said"),
    [(True, "no worker runs"), (False, "which of them run is not known until it serves")],
)
def test_workers_are_missing_only_where_redis_can_tell(serves: bool, said: str) -> None:
    """Workers announce themselves in Redis: its silence says nothing of them."""
    found = Status(
        kafka="k:9092 answers",
        redis="redis://r",
        redis_serves=serves,
        workers=[],
        lag={},
        account=None,
        down=[],
    )
    assert said in as_text(found)
