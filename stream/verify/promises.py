"""The promises, and what was found to break them: the verdicts that `riverwatch verify` prints. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import msgspec

from stream.history.join import Place

MOST_EXAMPLES = 10

Verdict = Literal["holds", "broken", "not judged"]

OTHER_FEATURES = "the features it was decided with are not those of its profiles"
OTHER_ORDER = "the order its decisions record has gaps or says a place twice"
UNTRUSTED = "a model on the topic cannot be trusted; workers refuse it"
PROMISES = {
    1: "every transaction has exactly one decision",
    2: "profiles hold each event exactly once",
    3: "each label is learned at most once, and the latest knowledge wins",
    4: "events in = decisions + duplicates + dead letters + lag",
    5: "a worker of an older generation changes nothing",
    6: "a broken or forged model is refused",
}


class Break(msgspec.Struct, frozen=True):
    """One way in which a promise is broken.

    Attributes:
        what: is wrong, of each.
        count: how many transactions, entities, labels or models it is wrong with.
        examples: some of them.
    """

    what: str
    count: int
    examples: tuple[str, ...]


class Promise(msgspec.Struct, frozen=True):
    """The verdict on one promise.

    Attributes:
        judged: what was looked at, in figures.
        remarks: what could not be judged, and why.
    """

    number: int
    text: str
    verdict: Verdict
    judged: str
    breaks: tuple[Break, ...]
    remarks: tuple[str, ...]


class Findings:
    """Collects what is broken, with a few examples of each kind."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[int, str]] = Counter()
        self._examples: dict[tuple[int, str], list[str]] = {}
        self._remarks: dict[int, list[str]] = {}
        self._unjudged: set[int] = set()

    def broken(self, promise: int, what: str, example: str, *, count: int = 1) -> None:
        """One more example of what is broken."""
        self._counts[promise, what] += count
        examples = self._examples.setdefault((promise, what), [])
        if len(examples) < MOST_EXAMPLES:
            examples.append(example)

    def remark(self, promise: int, text: str, *, unjudged: bool = False) -> None:
        """What is to be known beside the verdict; `unjudged`: without it there can be none."""
        self._remarks.setdefault(promise, []).append(text)
        if unjudged:
            self._unjudged.add(promise)

    def promise(self, number: int, judged: str) -> Promise:
        """The verdict on a promise."""
        breaks = tuple(
            Break(what, count, tuple(self._examples[of, what]))
            for (of, what), count in self._counts.items()
            if of == number
        )
        verdict: Verdict = "broken" if breaks else "not judged" if number in self._unjudged else "holds"
        remarks = tuple(self._remarks.get(number, ()))
        return Promise(number, PROMISES[number], verdict, judged, breaks, remarks)


class AuditReport(msgspec.Struct, frozen=True):
    """The verdict on every promise."""

    promises: list[Promise]

    @property
    def is_broken(self) -> bool:
        """One promise is broken."""
        return any(promise.verdict == "broken" for promise in self.promises)


def event_at(place: Place) -> str:
    """An event by its partition and offset, for people.

    >>> event_at((3, 41))
    'event 3/41'
    """
    return f"event {place[0]}/{place[1]}"
