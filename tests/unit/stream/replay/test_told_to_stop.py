"""A replay is told to stop by a signal; who insists ends it at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from stream.replay.file import told_to_stop


@pytest.fixture(autouse=True)
def _sigint_is_pythons() -> Iterator[None]:
    """Whoever runs the tests in the background has them ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_asks_for_a_stop_and_the_second_is_what_it_was_before(first: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with told_to_stop() as is_told:
        assert not is_told()
        signal.raise_signal(first)
        assert is_told()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGTERM) == before


def test_handlers_are_what_they_were_where_no_signal_came() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with told_to_stop() as is_told:
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert not is_told()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
