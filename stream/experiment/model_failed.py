"""What ends a pass."""

from __future__ import annotations


class ModelFailedError(RuntimeError):
    """A model raised; the message is one line with the model and the transaction."""
