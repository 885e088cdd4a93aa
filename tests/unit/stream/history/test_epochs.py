"""Epochs of a log as `drift` tells them, and which decisions are of the events that stand there now."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from stream.config.settings import Settings
from stream.history.epochs import epoch_signals, epochs_of
from stream.records import Epoch, Epochs

NOW = datetime(2026, 1, 5, tzinfo=UTC)
STARTS = st.dictionaries(st.integers(0, 3), st.integers(0, 50), min_size=1)


@given(st.lists(STARTS, max_size=4))
def test_what_is_written_of_epochs_is_what_is_read(starts: list[dict[int, int]]) -> None:
    epochs = [Epoch(number, each) for number, each in enumerate(starts, 1)]
    values = [
        message.value or b""
        for epoch in epochs
        for message in epoch_signals(Settings(), "scores", epoch, NOW)
    ]
    others = [
        message.value or b"" for message in epoch_signals(Settings(), "transactions", Epoch(9, {0: 0}), NOW)
    ]
    assert epochs_of([b'{"kind":"epoch"', *others, *values], "scores").all == tuple(epochs)


@given(st.lists(STARTS, max_size=4), st.integers(0, 3), st.integers(0, 60))
def test_a_place_belongs_to_the_last_epoch_that_begins_at_or_below_it(
    starts: list[dict[int, int]], partition: int, offset: int
) -> None:
    """Whatever was adopted, in whatever order: a log of records, each with the epoch it was written in."""
    epochs = Epochs([Epoch(number, each) for number, each in enumerate(starts, 1)])
    log = [0] * 61  # as it is where nothing was begun anew
    for number, each in enumerate(starts, 1):
        if partition in each:
            log[each[partition] :] = [number] * (61 - each[partition])
    assert epochs.of(partition, offset) == log[offset]
    assert [e for e in range(6) if epochs.holds(e, (partition, offset))] == (
        [log[offset]] if starts else [*range(6)]
    )
