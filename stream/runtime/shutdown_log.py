"""What a worker says when it is told to end: that it heard, and in what order it leaves things."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


def told_to_end(group: str) -> None:
    """It was told to end, and begins to."""
    log.info("%s was told to end: it finishes the batch in hand and acknowledges it", group)


def leaves(group: str, left_over: int, silent: str | None, *, session: float) -> None:
    """It takes nothing more, and closes.

    Args:
        group: its consumer group.
        left_over: records that it took and whose acknowledgement Kafka has not confirmed.
        silent: the address of Kafka where it does not answer, and so cannot be told; None where it does.
        session: seconds after which Kafka gives up a worker that says nothing.
    """
    done = (
        f"{left_over} records that it took are not acknowledged and will be handled again"
        if left_over
        else "all that it took is done and acknowledged"
    )
    if silent is None:
        log.log(logging.WARNING if left_over else logging.INFO, "%s leaves: %s", group, done)
    else:
        log.warning(
            "%s leaves and cannot tell Kafka at %s, which does not answer: %s; nothing is lost, and its "
            "partitions go to others %.0f s after Kafka last heard of it",
            group,
            silent,
            done,
            session,
        )
