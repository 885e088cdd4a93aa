"""What was seen of the store and of the acknowledged offsets, before the topics were read. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from stream.records import Epochs


class Seen(NamedTuple):
    """What was seen from the side before the topics were read, in this order.

    Attributes:
        starts: of each partition of transactions, the first offset that the log still holds.
        committed: of each partition of transactions, the offset up to which it is acknowledged.
        applied_offset: by entity and partition, the offset the store has applied; -1 for nothing.
        profiles: of each entity. Emptied as they are compared.
        digest: of a profile's bytes.
        remembered: seconds since 1970 from which every decision must still be recorded.
        counts: the store's own; None where events are in work and they move.
        epochs: of transactions: a decision of another one is of an event that is gone.
        cut_off: which logs have lost their beginning, in words; empty where all are whole.
    """

    starts: Mapping[int, int]
    committed: Mapping[int, int]
    applied_offset: Callable[[str, int], int]
    profiles: dict[str, tuple[int, bytes]]
    digest: Callable[[bytes], bytes]
    remembered: float
    counts: Mapping[str, int] | None
    cut_off: str = ""
    epochs: Epochs = Epochs()
