"""A simulated world as payments and labels: the truth of each payment is its label, known after a delay."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime, timedelta

from producers.simulator.simulate import Truth
from stream.messages import Label, Transaction


def labelled(items: Iterator[Transaction | Label | Truth], delay: timedelta) -> Iterator[Transaction | Label]:
    """Transactions, and the truth of each as a label that is known after a delay."""
    coming: list[tuple[datetime, int, Label]] = []
    order = 0
    transaction: Transaction | None = None
    for item in items:
        if isinstance(item, Transaction):
            while coming and coming[0][0] <= item.event_time:
                yield heapq.heappop(coming)[2]
            transaction = item
            yield item
        elif isinstance(item, Truth) and transaction is not None:
            known = transaction.event_time + delay
            label = Label(
                transaction_id=item.transaction_id, is_fraud=item.is_fraud, known_at=known, source="truth"
            )
            heapq.heappush(coming, (known, order, label))
            order += 1
    while coming:
        yield heapq.heappop(coming)[2]


def first_transactions(items: Iterator[Transaction | Label], count: int) -> Iterator[Transaction | Label]:
    """The items up to the count-th transaction, then the labels of those that were there."""
    waiting: set[str] = set()
    left = count
    for item in items:
        if isinstance(item, Transaction):
            if left:
                left -= 1
                waiting.add(item.transaction_id)
                yield item
        elif item.transaction_id in waiting:
            waiting.discard(item.transaction_id)
            yield item
        if not left and not waiting:
            return
