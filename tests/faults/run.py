"""The fault run: a seeded schedule of faults on Apache Kafka and Redis, under traffic, and the verdict.

    python -m tests.faults.run --seed 7                      # the long one, some quarter of an hour
    python -m tests.faults.run --plan each --events 100000   # every fault once, four minutes
    python -m tests.faults.run --plan short --events 15000   # about a minute
    python -m tests.faults.run --plan failover --events 60000 --rate 1000   # Redis with a replica
    python -m tests.faults.run --plan cluster --events 60000 --rate 1000    # three masters, slots move
    python -m tests.faults.run --plan log --events 60000 --rate 1000        # what befalls the topics

The seed gives the schedule and the traffic. Exit code 1 when a promise was broken or something did not heal.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from stream.verify.audit import Audit
from tests.faults.faults import Faults
from tests.faults.report import Outcome, as_markdown, outcome
from tests.faults.schedule import CLUSTER, EACH, EMPTY, FAILOVER, LOG, LONG, SHORT, Step, schedule
from tests.faults.second_opinion import second_opinion
from tests.faults.site import Kind, NotHealedError, Site
from tests.faults.traffic import shape_of

PLANS = {
    "short": SHORT,
    "each": EACH,
    "long": LONG,
    "failover": FAILOVER,
    "cluster": CLUSTER,
    "empty": EMPTY,
    "log": LOG,
}
STORES: dict[str, Kind] = {"failover": "replicated", "cluster": "cluster"}
# A run sends so much more while faults are healed, and its event time must not run into the future.
STRETCH = {
    "failover": 6.0,
    "cluster": 6.0,
    "empty": 6.0,
    "log": 6.0,
    "short": 6.0,
    "each": 6.0,
    "long": 2.0,
}


def run(
    folder: Path,
    steps: list[Step],
    *,
    seed: int,
    events: int,
    rate: float,
    stretch: float,
    command: str,
    fsync: Literal["always", "everysec"] = "always",
    store: Kind = "one",
    early: bool = True,
    say: Callable[[str], None],
) -> Outcome:
    """Do the steps one after the other, spread over the events, and judge.

    Raises:
        NotHealedError: after a fault something did not come back.
    """
    began = time.monotonic()

    def told(text: str) -> None:
        say(f"{time.monotonic() - began:6.1f} s  {text}")

    with Site(folder, fsync=fsync, store=store) as site:
        site.open(shape_of(seed, int(events * stretch), early=early), rate)
        faults = Faults(site)
        told(f"steady at {rate:,.0f} events/s")
        for number, step in enumerate(steps):
            due = number * events // len(steps)
            site.sent(due)
            name = f"{step.name} ({', '.join(step.points)})" if step.points[0] else step.name
            told(f"{number + 1}/{len(steps)} {name}")
            faults.inject(step)
        site.sent(events)
        site.traffic.stop()
        told(f"{site.traffic.payments:,} payments sent; waiting until all is decided and learned")
        site.drained()
        site.watch.stop()
        told("judging")
        promises = Audit(site.settings).run().promises
        told("judging again, by a judge that shares nothing with the first")
        second = second_opinion(site.settings)
        return outcome(site, promises, second, seed=seed, command=command, seconds=time.monotonic() - began)


def main() -> int:
    """Run, print the tables, say whether all promises held."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=None, help="of schedule and traffic [any]")
    parser.add_argument("--plan", choices=tuple(PLANS), default="long")
    parser.add_argument("--events", type=int, default=1_000_000, help="at least so many [%(default)s]")
    parser.add_argument("--rate", type=float, default=2500.0, help="events a second [%(default)s]")
    parser.add_argument("--fsync", choices=("always", "everysec"), default="always", help="of Redis")
    parser.add_argument("--json", type=Path, help="also write the outcome to this file")
    chosen = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if chosen.seed is None else chosen.seed
    command = (
        f"python -m tests.faults.run --plan {chosen.plan} --seed {seed} --events {chosen.events} "
        f"--rate {chosen.rate:g} --fsync {chosen.fsync}"
    )
    print(command, file=sys.stderr)  # noqa: T201 - a report
    folder = Path(tempfile.mkdtemp(prefix="riverwatch-faults-"))
    try:
        found = run(
            folder,
            schedule(seed, PLANS[chosen.plan]),
            seed=seed,
            events=chosen.events,
            rate=chosen.rate,
            stretch=STRETCH[chosen.plan],
            command=command,
            fsync=chosen.fsync,
            store=STORES.get(chosen.plan, "one"),
            # Which label came within moments of its decision, nobody knows when Redis has lost everything.
            early=chosen.plan != "empty",
            say=lambda text: print(text, file=sys.stderr, flush=True),  # noqa: T201 - a report
        )
    except NotHealedError as error:
        print(f"NOT HEALED: {error}", file=sys.stderr)  # noqa: T201 - a report
        return 1
    print(as_markdown(found))  # noqa: T201 - a report
    if chosen.json:
        chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    if found.broken:
        print(f"data and logs are in {folder}", file=sys.stderr)  # noqa: T201 - a report
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
