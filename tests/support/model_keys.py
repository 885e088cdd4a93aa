"""Keys of models for tests, and what models signed with them are measured by."""

from __future__ import annotations

from typing import Any

from models.scoring.snapshot import SigningKey
from stream.adapters.kafka.models import Trust

KEY = "6b" * 32  # as a setting has it
SIGNING = SigningKey(bytes.fromhex(KEY))
ANOTHER = SigningKey(b"another key, another key, 32 by.")
INSTALLATION = "test"


def trust(name: str = "default", **changed: Any) -> Trust:
    """Models of that name, signed with `SIGNING` for this installation."""
    return Trust(SIGNING.trusted, name, INSTALLATION)._replace(**changed)
