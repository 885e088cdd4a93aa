"""Builds wheels with the compiled arithmetic in them, and pure ones, saying why, where that cannot be.

It is setuptools' own build backend but for that. An editable installation holds nothing compiled: what is
compiled in a checkout lies where `infra.compiled_modules` looks for it, under a digest of the sources.
"""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

from infra import compiled_modules as compiled

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]
_INCLUDED: dict[str, Path] = {}
"""What the wheel that is built now holds beside its sources: the place of each file in it."""


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    """What compiles, unless there is no C compiler."""
    needed: list[str] = build_meta.get_requires_for_build_wheel(config_settings)
    if compiled.compiler_problem() is None:
        project = tomllib.loads((compiled.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        needed += project["dependency-groups"]["compile"]
    return needed


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """A wheel for this Python and platform, or a pure one."""
    problem = compiled.compile_modules()
    if problem is None:
        _INCLUDED.update(compiled.wheel_files())
    else:
        print(f"A wheel without compiled arithmetic, which takes four times the CPU: {problem}")  # noqa: T201
    try:
        name: str = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    finally:
        _INCLUDED.clear()
    return name


class BuildPy(build_py):
    """Puts the compiled form beside the sources."""

    def run(self) -> None:
        """Copy."""
        super().run()
        for place, file in _INCLUDED.items():
            shutil.copy(file, Path(self.build_lib) / place)


class BdistWheel(bdist_wheel):
    """Names a wheel for what it holds."""

    def finalize_options(self) -> None:
        """Not pure, when something compiled is included."""
        if _INCLUDED:
            self.distribution.has_ext_modules = lambda: True  # type: ignore[method-assign] # no other hook
        super().finalize_options()
