"""Removes from the environment that runs this what its packages bring for others: a quarter of its size.

    python -m infra.trim

Only `make` calls it, on the `.venv` that it made. The packages' own tests, C headers and sources go, and the
parts of pyarrow that speak to remote servers: riverwatch reads files.
"""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

UNUSED = (
    "numpy/**/tests",
    "numpy/_core/include",
    "numpy/_core/lib",
    "pyarrow/include",
    "pyarrow/libarrow_flight.*",
    "pyarrow/libarrow_python_flight.*",
    "pyarrow/libarrow_s3.*",
    "pyarrow/libarrow_python*.so",  # copies of those with a version that linking, not running, asks for
    "pyarrow/libarrow_python*.so.*.*",
    "pyarrow/*_flight.*",
    "pyarrow/_s3fs.*",
    "pyarrow/src",
    "pyarrow/tests",
    "pyarrow/*.px[di]",
    "pyarrow/*.pyx",
    "pyarrow/includes",
    "river/**/test_*.py",
    "scipy/**/tests",
)
SITE = Path(sysconfig.get_path("platlib"))


def trim(site: Path) -> None:
    """Remove what nothing here imports from a folder of packages."""
    for pattern in UNUSED:
        for found in list(site.glob(pattern)):
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found)
            else:
                found.unlink()


if __name__ == "__main__":
    trim(SITE)
