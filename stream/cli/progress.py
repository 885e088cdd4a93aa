"""A progress bar on stderr, where a person looks on."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

import click

_WIDTH = 24
_EVERY = 0.1  # seconds between two drawings


class Bar:
    """Called with what is worked on, how much of it is done and how much there seems to be."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._drawn = 0.0
        self._what = ""
        self._began = 0.0

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._shown:
            click.echo("\r" + " " * 100 + "\r", nl=False, err=True)

    def __call__(self, what: str, done: int, total: int) -> None:
        """Draw it, now and then."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._began = what, now
        if not self._shown or now - self._drawn < _EVERY:
            return
        self._drawn = now
        share = min(done / total, 1.0) if total else 1.0
        bar = "#" * int(share * _WIDTH)
        rate = done / (now - self._began) if now > self._began else 0.0
        left = f", {(total - done) / rate:,.0f} s left" if rate else ""
        line = f"[{bar:<{_WIDTH}}] {share:4.0%} {what}: {done:,} of {total:,}{left}"
        click.echo(f"\r{line[:100]:<100}", nl=False, err=True)
