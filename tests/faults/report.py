"""What a fault run found: the account, the promises, the times until it was healed."""

from __future__ import annotations

import statistics

import msgspec

from stream.verify.promises import OTHER_FEATURES, OTHER_ORDER, UNTRUSTED, Promise
from tests.faults.second_opinion import disagreement, is_in_flight
from tests.faults.site import Site
from tests.second_judge.judging import Opinion

LOST_IN_FLIGHT = {OTHER_ORDER, OTHER_FEATURES}
"""What a Redis that loses everything leaves: who read an event that had not left, read what no log holds."""
IN_FLIGHT = 3 * 500
"""Events that three workers have in hand at most."""


class Recovery(msgspec.Struct, frozen=True):
    """Seconds, over all times that it happened."""

    times: int
    median: float
    longest: float


class Outcome(msgspec.Struct, frozen=True):
    """A whole run.

    Attributes:
        events: on the topic of transactions; of them `payments` of the steady traffic.
        labels: on their topic, with those that say only that nobody reported a payment.
        lost: payments without a decision, by the run's own account.
        decided_twice_differently: payments, the same.
        promises: the verdicts of `riverwatch verify`.
        second: what the second judge has judged, which shares no code with the first.
        ended: workers that ended by themselves, and were started again.
        broken: every sentence that says what was promised and did not hold; empty after a good run.
    """

    seed: int
    command: str
    seconds: float
    events: int
    payments: int
    labels: int
    decisions: int
    duplicates: int
    lost: int
    decided_twice_differently: int
    wrong_profiles: int
    labels_learned_wrongly: int
    faults: dict[str, int]
    recoveries: dict[str, Recovery]
    promises: list[Promise]
    second: str
    ended: list[str]
    broken: list[str]


def outcome(
    site: Site, promises: list[Promise], second: Opinion, *, seed: int, command: str, seconds: float
) -> Outcome:
    """The account of a run that has ended and drained."""
    missing = site.watch.missing(site.traffic.payments)
    emptied = site.tally.faults["redis emptied"]
    in_flight = sum(
        found.count
        for promise in promises
        for found in promise.breaks
        if promise.number == 2 and found.what in LOST_IN_FLIGHT
    )
    tolerated = set[str]()
    if 0 < in_flight <= emptied * IN_FLIGHT:
        tolerated = LOST_IN_FLIGHT
        site.tally.faults["decisions on what an emptied Redis had in flight"] = in_flight
    broken = [
        f"promise {promise.number}, {promise.text}: {found.count:,} x {found.what}: "
        + ", ".join(found.examples)
        for promise in promises
        for found in promise.breaks
        if not (found.what == UNTRUSTED and found.count <= site.tally.forged) and found.what not in tolerated
    ]
    broken += [
        f"promise {each.number}, {each.text}: not judged"
        for each in promises
        if each.verdict == "not judged" and not tolerated
    ]
    broken += [
        f"the second judge: {finding}"
        for finding in second.findings
        if not (tolerated and is_in_flight(finding))
    ]
    broken += disagreement(promises, second, tolerated)
    events = site.length("transactions")
    if second.figures.events != events or not second.figures.features:
        broken.append(f"the second judge has not judged all of {events:,} events: {second.figures}")
    if missing:
        broken.append(f"{len(missing):,} payments have no decision: {missing[:10]}")
    if site.watch.differing:
        broken.append(f"{len(site.watch.differing):,} payments were decided twice, differently")
    if site.traffic.failed:
        broken.append(f"the traffic itself was not taken: {site.traffic.failed[0]}")
    return Outcome(
        seed=seed,
        command=command,
        seconds=seconds,
        events=events,
        payments=site.traffic.payments,
        labels=site.length("labels"),
        decisions=site.watch.decided,
        duplicates=site.watch.duplicates,
        lost=len(missing),
        decided_twice_differently=len(site.watch.differing),
        wrong_profiles=_breaks(promises, 2) - (in_flight if tolerated else 0),
        labels_learned_wrongly=_breaks(promises, 3),
        faults=dict(sorted(site.tally.faults.items())),
        recoveries={
            what: Recovery(len(found), statistics.median(found), max(found))
            for what, found in sorted(site.tally.recoveries.items())
        },
        promises=promises,
        second=str(second.figures),
        ended=site.tally.ended,
        broken=broken,
    )


def _breaks(promises: list[Promise], number: int) -> int:
    return sum(found.count for promise in promises if promise.number == number for found in promise.breaks)


def as_markdown(found: Outcome) -> str:
    """The tables, for people and for docs/guarantees.md."""
    lines = [
        f"`{found.command}`, seed {found.seed}, {found.seconds:.0f} s:",
        "",
        "| account | |",
        "|---|---:|",
        *(
            f"| {name} | {number:,} |"
            for name, number in (
                ("events", found.events),
                ("labels", found.labels),
                ("decisions", found.decisions),
                ("sent again as they were", found.duplicates),
                ("lost", found.lost),
                ("decided twice, differently", found.decided_twice_differently),
                ("wrong profiles", found.wrong_profiles),
                ("labels learned twice, or not as known", found.labels_learned_wrongly),
            )
        ),
        "",
        "| fault | times |",
        "|---|---:|",
        *(f"| {name} | {times:,} |" for name, times in found.faults.items()),
        "",
        "| seconds from ... to | times | median | longest |",
        "|---|---:|---:|---:|",
        *(
            f"| {what} | {each.times} | {each.median:.1f} | {each.longest:.1f} |"
            for what, each in found.recoveries.items()
        ),
        "",
        "| promise | verdict | judged |",
        "|---|---|---|",
        *(f"| {each.number} {each.text} | {_verdict(each)} | {each.judged} |" for each in found.promises),
        "",
        f"The second judge: {found.second}",
    ]
    if found.ended:
        lines += ["", f"{len(found.ended)} workers ended by themselves and were started again:"]
        lines += [f"- {each}" for each in found.ended]
    lines += ["", *(f"BROKEN: {each}" for each in found.broken)] if found.broken else []
    return "\n".join(lines)


def _verdict(promise: Promise) -> str:
    if promise.verdict == "broken" and all(found.what in LOST_IN_FLIGHT for found in promise.breaks):
        return "holds, but for decisions that rest on what was in flight"
    only_refused = promise.verdict == "broken" and all(found.what == UNTRUSTED for found in promise.breaks)
    return "holds: the forged ones were refused" if only_refused else promise.verdict
