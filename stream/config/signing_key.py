"""Where local state is kept, and the signing key of this machine's models."""

from __future__ import annotations

import secrets
from pathlib import Path

from infra.services import running_file
from stream.config.settings import Settings


def state_dir(settings: Settings) -> Path:
    """Where local state is kept."""
    return Path(settings.state_dir) if settings.state_dir else running_file().parent / "up"


def model_key(folder: Path) -> Path:
    """The file with the signing key of this machine's models, made where there is none."""
    path = folder / "model.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    return path
