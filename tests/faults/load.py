"""Twice the load that a worker can carry: its memory stays bounded, nothing is lost, and it catches up.

    python -m tests.faults.load [--seconds S] [--seed N]

First what one score worker decides of a backlog, here and now, beside Kafka, Redis and a learner on the same
machine; then twice as many events a second for so long; then nothing more, until it has caught up. Exit code
1 when memory grew, something was lost or a promise was broken.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from stream.verify.audit import Audit
from tests.faults.report import outcome
from tests.faults.second_opinion import second_opinion
from tests.faults.site import Site, Slot
from tests.faults.traffic import shape_of

MOST_GROWN = 100.0  # MB: what is fetched ahead, and what a full batch takes
_MEASURED = 8.0  # seconds over which the capacity is measured
_MB = 2.0**20


class Loaded(NamedTuple):
    """What was seen. Memory is that of the score worker, resident, MB."""

    capacity: float
    offered: float
    events: int
    most_behind: int
    memory_before: float
    memory_most: float
    caught_up: float
    broken: list[str]


def load(folder: Path, *, seed: int, seconds: float) -> Loaded:
    """Measure, overload, let it catch up, judge."""
    with Site(folder) as site:
        slots = [Slot("score", "score"), Slot("learn", "learn")]
        site.open(shape_of(seed, 2_000_000), 1000.0, slots=slots)
        traffic, watch = site.traffic, site.watch
        traffic.most_behind, traffic.rate = 4000, 50_000.0
        time.sleep(2.0)
        before, began = watch.decided, time.monotonic()
        time.sleep(_MEASURED)
        capacity = (watch.decided - before) / (time.monotonic() - began)
        worker = slots[0].process
        assert worker is not None
        process = psutil.Process(worker.pid)
        memory_before = memory_most = process.memory_info().rss / _MB
        traffic.most_behind, traffic.rate = sys.maxsize, 2 * capacity
        sent, began, most_behind = traffic.payments, time.monotonic(), 0
        while time.monotonic() < began + seconds:
            time.sleep(0.25)
            memory_most = max(memory_most, process.memory_info().rss / _MB)
            most_behind = max(most_behind, site.behind)
        offered = (traffic.payments - sent) / (time.monotonic() - began)
        traffic.stop()
        began = time.monotonic()
        while site.behind:
            time.sleep(0.25)
            memory_most = max(memory_most, process.memory_info().rss / _MB)
            if time.monotonic() > began + 600:
                break
        caught_up = time.monotonic() - began
        site.drained()
        watch.stop()
        promises, second = Audit(site.settings).run().promises, second_opinion(site.settings)
        found = outcome(site, promises, second, seed=seed, command="", seconds=0.0)
        broken = list(found.broken)
        if memory_most - memory_before > MOST_GROWN:
            broken.append(f"memory grew from {memory_before:.0f} to {memory_most:.0f} MB")
        return Loaded(
            capacity, offered, found.events, most_behind, memory_before, memory_most, caught_up, broken
        )


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload [%(default)s]")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="riverwatch-load-") as name:
        found = load(Path(name), seed=chosen.seed, seconds=chosen.seconds)
    lines = [
        f"one score worker decides {found.capacity:,.0f} events/s here; offered {found.offered:,.0f} "
        f"events/s for {chosen.seconds:.0f} s, {found.events:,} in all",
        f"most behind {found.most_behind:,}; caught up {found.caught_up:.1f} s after the last event",
        f"its memory: {found.memory_before:.0f} MB before, {found.memory_most:.0f} MB at most",
        *(f"BROKEN: {each}" for each in found.broken),
    ]
    print("\n".join(lines))  # noqa: T201 - a report
    return 1 if found.broken else 0


if __name__ == "__main__":
    sys.exit(main())
