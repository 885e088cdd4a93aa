"""What Redis' errors mean: what passes and is waited for, and what a person must end.

Redis' own sentence is kept; what it means and what to do follow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from stream.ports import DependencyDown, DependencyRefused

# Answers that a later call may not get. redis-py takes the code off some of them and makes a class of it;
# Redis 6.2 wraps what happens inside a script in other text.
_CODES: dict[type[Exception], str] = {
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    BusyLoadingError: "LOADING",
    ClusterDownError: "CLUSTERDOWN",
    TryAgainError: "TRYAGAIN",
    ClusterError: "TRYAGAIN",  # redis-py was sent to and fro until it gave up
}
_CLUSTER = (ClusterDownError, TryAgainError)  # and MasterDownError
_PASSING = re.compile(
    r"\b(OOM|READONLY|MISCONF|NOREPLICAS|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|LOADING|BUSY|UNKILLABLE|REBUILDING)\b"
)
# What a script is told of a key that has gone while its slot moves; every version words it so.
_GONE = "non local key"
_ADVICE = {
    "OOM": "its memory is full: raise maxmemory, add nodes, or shorten the time decisions live",
    "READONLY": "it is a replica: point the setting at the primary, or wait for the failover",
    "MISCONF": "it cannot write its snapshot: see its log, usually the disk is full",
    "REBUILDING": "a rebuild is running and workers go on when it is done; if it was broken off, run "
    "`riverwatch rebuild` again",
    "LOADING": "it is still loading its data: it will answer when done",
    "TRYAGAIN": "a slot is moving to another master: it will answer when all keys of the slot have moved; a "
    "move that was broken off is ended by `redis-cli --cluster fix`",
    "CLUSTERDOWN": "a master is missing, or was until a moment ago: start it (`redis-cli cluster nodes`)",
}

_LASTING: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"\bNOPERM\b|ACL failure|no permissions|no permission", re.IGNORECASE),
        "the user of RIVERWATCH_REDIS_URL lacks a right: give it what is named, with `ACL SETUSER NAME "
        "+COMMAND` for a command and `~PREFIX:*` for keys (the prefix is RIVERWATCH_REDIS_PREFIX)",
    ),
    (
        re.compile(r"\bWRONGPASS\b|\bNOAUTH\b|invalid username-password|already authenticated"),
        "set RIVERWATCH_REDIS_URL to a user and a password that it takes (redis://USER:PASSWORD@HOST:PORT/0)",
    ),
    (
        re.compile(r"CERTIFICATE_VERIFY_FAILED|certificate verify failed"),
        "its certificate is not signed by an authority that is known here, or not for that name: add "
        "?ssl_ca_certs=FILE to RIVERWATCH_REDIS_URL, and use a name that the certificate carries",
    ),
    (
        re.compile(r"WRONG_VERSION_NUMBER|RECORD_LAYER|UNKNOWN_PROTOCOL|wrong version number"),
        "it does not speak TLS: write redis:// instead of rediss:// in RIVERWATCH_REDIS_URL",
    ),
    (
        re.compile(r"DB index is out of range|SELECT is not allowed"),
        "it has no such database: set the number behind the last / of RIVERWATCH_REDIS_URL, or none",
    ),
    (
        re.compile(r"unknown command", re.IGNORECASE),
        "it lacks a command that is needed: Redis 6.2 or newer, no command renamed, or Valkey",
    ),
    (
        re.compile(r"cluster support disabled", re.IGNORECASE),
        "it is no Redis Cluster: set RIVERWATCH_REDIS_CLUSTER=false, and begin its URL with redis://",
    ),
    (
        re.compile(r"\bWRONGTYPE\b|wrong kind of value", re.IGNORECASE),
        "its keys are another program's: set RIVERWATCH_REDIS_PREFIX to one that nobody else uses",
    ),
)
_LASTING_CLASSES = {AuthenticationError: 1, AuthorizationError: 1, NoPermissionError: 0}
_NOT_REDIS = "what listens there is no Redis, or speaks TLS (rediss://): check RIVERWATCH_REDIS_URL"


def lasting(error: Exception) -> str | None:
    """What to do about an error that waiting does not mend; None of any other."""
    text = str(error)
    if isinstance(error, InvalidResponse):
        return _NOT_REDIS
    for kind, place in _LASTING_CLASSES.items():
        if isinstance(error, kind):
            return _LASTING[place][1]
    if isinstance(error, (RedisClusterException, ResponseError)) or "SSL" in text:
        return next((advice for pattern, advice in _LASTING if pattern.search(text)), None)
    return None


@contextmanager
def passing(place: str) -> Iterator[None]:
    """Turn what Redis says when it cannot serve into the two words for it; let other errors through.

    Args:
        place: host and port.

    Raises:
        DependencyDown: it cannot serve now.
        DependencyRefused: it will not.
    """
    try:
        yield
    except (RedisError, RedisClusterException) as error:
        said = f"{type(error).__name__}: {error}".rstrip(".")
        found = _PASSING.search(str(error))
        code = found[1] if found else "TRYAGAIN" if _GONE in str(error) else _CODES.get(type(error))
        if code is None and (advice := lasting(error)) is not None:
            raise DependencyRefused(f"Redis at {place} refuses ({said}); {advice}") from error
        if isinstance(error, ResponseError) and not isinstance(error, _CLUSTER) and code is None:
            raise
        advice = _ADVICE.get(code or "", "check that it runs and is reachable from here")
        raise DependencyDown(f"Redis at {place} cannot serve now ({said}); {advice}") from error
