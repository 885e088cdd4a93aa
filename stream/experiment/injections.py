"""Changes put into a stream on purpose, to see how soon they are noticed and how well a model bears them.

    amount*1.5 @ 2018-07-01               every amount is multiplied, from that day on (UTC)
    amount+20 @ 2018-07-01                every amount is raised, in major units
    amount*1.5 @ 2018-07-01..2018-08-01   until another day, itself not included
    frauds.amount*0.3 @ 2018-07-01        amounts of frauds only
    swap-frauds @ 2018-07-01              frauds are made in another way: in an ordinary place (the merchant
                                          of the last genuine payment) and for a tenth of its amount

Which transactions are frauds is looked up in the data beforehand: an injection plays the thieves, and the
models never see what it knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

import msgspec

from models.features.currencies import minor_units
from stream.messages import MAX_AMOUNT_MINOR, Label, Transaction

_DAY: Final = r"\d{4}-\d{2}-\d{2}"
_GRAMMAR: Final = re.compile(
    rf"\s*(?:(frauds\.)?amount\s*([*+])\s*(\d+(?:\.\d+)?)|(swap-frauds))\s*@\s*({_DAY})(?:\s*\.\.\s*({_DAY}))?\s*"
)
_SMALL: Final = 10  # a swapped fraud is so many times smaller than an ordinary payment
_PLACE: Final = ("merchant_id", "country", "category", "channel", "latitude", "longitude")


class InjectionError(ValueError):
    """An injection cannot be read; the message shows how to write one."""


class Injection(NamedTuple):
    """One change.

    Attributes:
        text: as it was written.
        kind: what changes.
        value: the factor, or what is added in major units.
        frauds_only: genuine transactions stay as they are.
        start, end: from, until (itself not included); None: for good.
    """

    text: str
    kind: Literal["multiply", "add", "swap"]
    value: float
    frauds_only: bool
    start: datetime
    end: datetime | None


def parse_injection(text: str) -> Injection:
    """Read an injection.

    Raises:
        InjectionError: it cannot be read.

    >>> parse_injection("amount*1.5 @ 2018-07-01").value
    1.5
    """
    found = _GRAMMAR.fullmatch(text)
    if found is None:
        raise InjectionError(
            f'--inject {text!r}: write what, and from which day: "amount*1.5 @ 2018-07-01", '
            '"frauds.amount+20 @ 2018-07-01..2018-08-01" or "swap-frauds @ 2018-07-01"'
        )
    start = _day(text, found[5])
    end = _day(text, found[6]) if found[6] else None
    if end is not None and end <= start:
        raise InjectionError(f"--inject {text!r}: it ends before it begins")
    if found[4]:
        return Injection(text, "swap", 0.0, True, start, end)
    value = float(found[3])
    if found[2] == "*" and value <= 0.0:
        raise InjectionError(f"--inject {text!r}: an amount multiplied by 0 is none; write a factor above 0")
    kind: Literal["multiply", "add"] = "multiply" if found[2] == "*" else "add"
    return Injection(text, kind, value, bool(found[1]), start, end)


def _day(text: str, day: str) -> datetime:
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise InjectionError(f"--inject {text!r}: {day} is no day") from None


def needs_frauds(injections: Iterable[Injection]) -> bool:
    """Whether one of them changes frauds only."""
    return any(each.frauds_only for each in injections)


def frauds_of(items: Iterable[Transaction | Label]) -> frozenset[str]:
    """The transactions that turn out to be frauds."""
    return frozenset(item.transaction_id for item in items if isinstance(item, Label) and item.is_fraud)


class Injector:
    """Applies injections to a stream, in their order.

    Attributes:
        changed: transactions that were.
    """

    def __init__(self, injections: Sequence[Injection], frauds: frozenset[str]) -> None:
        self.changed = 0
        self._injections = injections
        self._frauds = frauds
        self._ordinary: Transaction | None = None

    def __call__(self, items: Iterable[Transaction | Label]) -> Iterator[Transaction | Label]:
        """The items, changed."""
        for item in items:
            yield self._changed(item) if isinstance(item, Transaction) else item

    def _changed(self, payment: Transaction) -> Transaction:
        is_fraud = payment.transaction_id in self._frauds
        result = payment
        for each in self._injections:
            if payment.event_time < each.start or (each.end is not None and payment.event_time >= each.end):
                continue
            if is_fraud or not each.frauds_only:
                result = self._apply(each, result)
        self.changed += result is not payment
        if not is_fraud:
            self._ordinary = payment
        return result

    def _apply(self, injection: Injection, payment: Transaction) -> Transaction:
        if injection.kind == "swap":
            if self._ordinary is None:
                return payment
            return msgspec.structs.replace(
                payment,
                amount_minor=max(self._ordinary.amount_minor // _SMALL, 1),
                **{field: getattr(self._ordinary, field) for field in _PLACE},
            )
        amount = payment.amount_minor
        if injection.kind == "multiply":
            amount = round(amount * injection.value)
        else:
            amount += round(injection.value * minor_units(payment.currency))
        return msgspec.structs.replace(payment, amount_minor=min(max(amount, 1), MAX_AMOUNT_MINOR))
