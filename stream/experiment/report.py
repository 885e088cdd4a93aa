"""The result as one page of HTML."""

from __future__ import annotations

from stream.experiment.results import Experiment


def as_html(found: Experiment, command: str) -> str:
    """The page."""
    return f"{command} {found.data}"
