"""What exactness costs: a score worker with and without applied offset, journal and record, in one run.

    python -m benchmarks.bench_guarantee [--events N] [--rounds N]

Both are the hand-written loop of `hand_loop` over the same backlog in turn: the same core, the same profiles
in one call a batch, every decision out and flushed. Without the guarantee nothing is looked up and nothing is
recorded, and the script keeps no fencing token, no applied offset and no journal: what is delivered again is
counted and decided again. CPU is that of the worker's process, and of Redis.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from hashlib import sha1
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks import hand_loop
from benchmarks.bench_score import Bench
from infra.services import LocalRedis, open_kafka
from producers.simulator.simulate import DEFAULT, simulate
from stream.adapters.redis import shards as redis_shards
from stream.adapters.redis.store import RedisStore
from stream.messages import Transaction

COMMANDS = {
    "with": [sys.executable, "-m", "benchmarks.hand_loop"],
    "without": [sys.executable, "-m", "benchmarks.bench_guarantee", "--bare"],
}
# What the script does for the guarantee, and what is left of it without.
_GUARANTEE = (
    ("local stored = call('HMGET', KEYS[1], unpack(fields))", "local stored = {}"),
    ("if applied_offset[p] < tonumber(ARGV[at + 2]) then return {2, ARGV[at], applied_offsets[p]} end", ""),
    ("if #changes > 0 then call('HSET', KEYS[1], unpack(changes)) end", ""),
    ("ipairs(call('HKEYS', KEYS[1 + p]))", "ipairs({})"),
    ("if #parts[p] > 0 then call('HSET', KEYS[1 + p], ARGV[6 * p + 1], chunks[p]) end", ""),
)


class Cost(NamedTuple):
    """Microseconds of CPU an event."""

    worker: float
    redis: float


def without_guarantee() -> None:
    """Take the guarantee out of this process's store."""
    store: Any = RedisStore
    shards: Any = redis_shards
    right = shards._script  # noqa: SLF001 - the script is changed where it is read

    def script(name: str) -> tuple[str, str]:
        _, text = right(name)
        if name == "apply":
            for kept, left in _GUARANTEE:
                if text.count(kept) != 1:
                    raise RuntimeError(f"the script no longer says {kept!r}: this benchmark must follow it")
                text = text.replace(kept, left)
        return sha1(text.encode(), usedforsecurity=False).hexdigest(), text

    def lookup(_self: Any, names: Sequence[str]) -> list[bytes | None]:
        return [None] * len(names)

    def record(
        _self: Any, decisions: Sequence[tuple[int, str, bytes]], *, fencing_tokens: Mapping[int, int]
    ) -> list[bytes]:
        return [decision for *_, decision in decisions] if fencing_tokens else []

    shards._script = script  # noqa: SLF001 - the same
    store.lookup, store.record = lookup, record


def main() -> int:
    """Measure and print; with `--bare` be the worker without the guarantee."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=40_000, help="of a backlog")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.bare:
        without_guarantee()
        return hand_loop.main()
    items = simulate(DEFAULT, seed=1)
    events = list(islice((item for item in items if isinstance(item, Transaction)), chosen.events + 200))
    costs: dict[str, list[Cost]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as name, LocalRedis(Path(name)) as redis:
        folder = Path(name)
        server = psutil.Process(redis.pid)
        with open_kafka("apache", state_dir=folder) as broker:
            bench = Bench(broker.bootstrap, redis.url, folder, events)
            for turn in range(chosen.rounds):
                for candidate, command in COMMANDS.items():
                    before = sum(server.cpu_times()[:2])
                    worker = bench.drain(command, chosen.events).cpu_us
                    used = (sum(server.cpu_times()[:2]) - before) / chosen.events * 1e6
                    costs[candidate].append(Cost(worker, used))
                    print(f"round {turn + 1}: {candidate}: {costs[candidate][-1]}", file=sys.stderr)  # noqa: T201
    report(costs, chosen)
    return 0


def report(costs: dict[str, list[Cost]], chosen: argparse.Namespace) -> None:
    """Print medians, and the median of the ratios round by round."""
    lines = [
        f"{platform.machine()}, Python {platform.python_version()}; backlog of {chosen.events:,}, median of "
        f"{chosen.rounds}, us CPU/event",
    ]
    for name, found in costs.items():
        worker, redis = (statistics.median(column) for column in zip(*found, strict=True))
        lines.append(f"  {name:<8} the guarantee: worker {worker:6.1f}   Redis {redis:6.1f}")
    pairs = list(zip(costs["with"], costs["without"], strict=True))
    for what, ratios in (
        ("worker", [ours.worker / bare.worker for ours, bare in pairs]),
        ("worker and Redis", [sum(ours) / sum(bare) for ours, bare in pairs]),
    ):
        more = [100 * (ratio - 1) for ratio in ratios]
        middle, low, high = statistics.median(more), min(more), max(more)
        lines.append(f"  the guarantee costs, {what}: {middle:+.0f} % ({low:+.0f} to {high:+.0f})")
    print("\n".join(lines))  # noqa: T201 - a report


if __name__ == "__main__":
    sys.exit(main())
