"""Where local state is kept, and the signing key of this machine's models."""

from __future__ import annotations

import secrets
from pathlib import Path

from infra.running import user_state_dir
from stream.config.settings import Settings


def state_dir(settings: Settings) -> Path:
    """The folder in which a process keeps local state: what `state_dir` says, else the user's own."""
    return Path(settings.state_dir) if settings.state_dir else user_state_dir()


def model_key(folder: Path) -> Path:
    """The file with the signing key of this machine's models, made where there is none."""
    path = folder / "model.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    return path
