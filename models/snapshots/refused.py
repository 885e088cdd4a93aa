"""The one outcome of bytes that are not to be trusted."""

from __future__ import annotations


class SnapshotRefused(Exception):  # noqa: N818 - an outcome that callers handle: they keep the model they have
    """The bytes are no model to be trusted here.

    Attributes:
        reason: a sentence: what is wrong and what to do.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
