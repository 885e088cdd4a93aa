"""What a handler of batches is told and may say back. No Faust in here."""

from __future__ import annotations

from typing import NamedTuple


class TopicPartition(NamedTuple):
    """One partition of a topic. Equal to every other (topic, partition) tuple, Faust's and aiokafka's too."""

    topic: str
    partition: int


class Retry(Exception):  # noqa: N818 - it is an instruction to the caller, not an error of the batch
    """Raised by a handler that cannot go on now but expects to later: a dependency is down.

    The same batch is given to it again after a pause; nothing is acknowledged meanwhile.

    Args:
        reason: what is missing and what would bring it back; it is logged.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class WorkerRefused(Exception):  # noqa: N818 - it is an instruction to the caller, as `Retry` is
    """Raised by a handler that cannot go on, now or later: what it stands on refuses, and a person must act.

    The worker says the reason in one line and ends with exit code 1; nothing of the batch is acknowledged.

    Args:
        reason: what refuses, why, and what would mend it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SkippedRecordsError(RuntimeError):
    """An acknowledgement, or a wish to start elsewhere, would have passed over records nobody handled.

    It means a fault in the batch stream, or a change in Faust or aiokafka beneath it. The worker stops
    without acknowledging; a restart reads the records again.
    """
