"""Days and times on the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click


class Moment(click.ParamType):
    """A day or a time, UTC where it does not say otherwise."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time that a text names."""
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value} is no time: write 2026-01-31, or 2026-01-31T14:00", param, ctx)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
