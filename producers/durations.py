"""Durations as people write them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_FORM: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


def parse_duration(text: str) -> timedelta:
    """A number and its unit: s, m, h, d or w.

    >>> parse_duration("7d")
    datetime.timedelta(days=7)
    >>> parse_duration("1.5h")
    datetime.timedelta(seconds=5400)

    Raises:
        ValueError: it is neither.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no duration: write a number and s, m, h, d or w, such as 7d")
    return timedelta(seconds=float(found[1]) * _SECONDS[found[2]])
