"""The URL of Redis: which can be read in one way only, and what of it may be shown."""

from __future__ import annotations

import re

# User and password may hold anything that means nothing in a URL.
_URL = re.compile(
    r"rediss?(\+cluster)?://([^/?#\[\]@:]*(:[^/?#\[\]]*)?@)?([^/?#\[\]@:]*|\[[0-9a-fA-F:.]+\])(:\d{1,5})?"
    r"(/\d*)?(\?[^#@\[\]]*)?"
    r"|unix://([^/?#\[\]@:]*(:[^/?#\[\]]*)?@)?/[^?#]*(\?[^#]*)?"
)


def redis_url_problem(url: str) -> str | None:
    """Why a URL cannot be used, without any part of it, for any may be the password; None of a good one.

    >>> redis_url_problem("redis://user:se%23cret@host:6379/0")
    >>> "%23 for #" in redis_url_problem("redis://user:12#cret@host:6379/0")
    True
    """
    if _URL.fullmatch(url):
        return None
    return (
        "it is not of the form redis://USER:PASSWORD@HOST:PORT/NUMBER (or rediss://, unix://); in user and "
        "password write %23 for #, %5B and %5D for [ and ], %2F for /, %3F for ? and %40 for @"
    )


def without_password(url: str) -> str:
    """A Redis URL that may be shown.

    >>> without_password("redis://user:secret@host:6379/0?password=secret")
    'redis://user:(hidden)@host:6379/0?password=(hidden)'
    """
    return re.sub(r"(://[^:/@]*:).*@|([?&]password=)[^&#]*", _hidden, url)


def _hidden(secret: re.Match[str]) -> str:
    return f"{secret[1]}(hidden)@" if secret[1] else f"{secret[2]}(hidden)"
