"""What tests of log lines share: a clock to move, and the lines so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Takes what was logged since the last call: warnings all, for what ends is seen like it began."""

    def take() -> list[str]:
        lines = [record.getMessage() for record in caplog.records]
        assert all(record.levelname == "WARNING" for record in caplog.records)
        caplog.clear()
        return lines

    return take
