"""What a score worker costs, beside a hand-written loop with the same work and guarantee, in one run.

    python -m benchmarks.bench_score [--events N] [--rounds N] [--rate R]

Both drain the same simulated backlog from Apache Kafka with Redis, every decision out, in turn; then both
score a trickle. CPU is that of the worker's process alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from confluent_kafka import Producer

from infra.process import GuardedProcess
from infra.services import LocalRedis, open_kafka
from producers.publish.followers import KafkaFollowers
from producers.publish.pace import Follower, Rate, Unpaced
from producers.publish.publish import PUBLISHING, PublishTopics, publish
from producers.simulator.simulate import DEFAULT, simulate
from stream.adapters.kafka.admin import create_topics
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.reader import TopicReader
from stream.config.settings import Settings, load
from stream.demo.show import variables
from stream.messages import Transaction

CANDIDATES = {
    "riverwatch score": [sys.executable, "-m", "stream.cli", "score"],
    "hand-written loop": [sys.executable, "-m", "benchmarks.hand_loop"],
}


WARM = 200  # events before any is measured


class Drained(NamedTuple):
    """One backlog."""

    cpu_us: float
    events_per_second: float


class Trickle(NamedTuple):
    """A steady rate."""

    cpu_us: float
    p50_ms: float
    p99_ms: float


class Bench:
    """Runs candidates on one Kafka and one Redis, each run with topics and keys of its own."""

    def __init__(self, bootstrap: str, redis_url: str, folder: Path, events: list[Transaction]) -> None:
        self._base = {
            "kafka_bootstrap": bootstrap,
            "redis_url": redis_url,
            "model_key": "6b" * 32,
            "partitions": 8,
        }
        self._folder = folder
        self._events = events
        self._runs = 0

    def _settings(self) -> Settings:
        self._runs += 1
        name = f"run{self._runs}-"
        own = {"topic_prefix": name, "group_prefix": name + "riverwatch", "redis_prefix": name + "rw"}
        return load({**self._base, **own}, {}).settings

    def run(self, command: list[str], rate: float | None, count: int) -> tuple[float, float, Settings]:
        """CPU microseconds an event, wall seconds, and the settings of the run."""
        settings = self._settings()
        create_topics(settings)
        environment = {**os.environ, **variables(settings), "RIVERWATCH_MODEL_KEY": "6b" * 32}
        worker = GuardedProcess(command, self._folder / f"{settings.topic_prefix}log", env=environment)
        try:
            process = psutil.Process(worker.pid)
            # Warm: started, assigned, every lazy import done, by a first handful of events.
            self._publish(settings, self._events[:WARM], None)
            self._await(settings, worker)
            before, start = process.cpu_times(), time.monotonic()
            self._publish(settings, self._events[WARM : WARM + count], rate)
            self._await(settings, worker)
            seconds = time.monotonic() - start
            after = process.cpu_times()
        finally:
            worker.kill()
        used = after.user + after.system - before.user - before.system
        return used / count * 1e6, seconds, settings

    def drain(self, command: list[str], count: int) -> Drained:
        """A backlog as fast as it goes."""
        cpu, seconds, _ = self.run(command, None, count)
        return Drained(cpu, count / seconds)

    def trickle(self, command: list[str], rate: float, seconds: float) -> Trickle:
        """A steady rate: from the producer's send to the decision's."""
        count = int(rate * seconds)
        cpu, _, settings = self.run(command, rate, count)
        sent = self._times(settings, "transactions")
        decided = self._times(settings, "scores")
        # Without the first handful, which waited for the worker to start.
        names = [event.transaction_id for event in self._events[WARM : WARM + count]]
        delays = np.array([decided[name] - sent[name] for name in names])
        return Trickle(cpu, float(np.quantile(delays, 0.5)), float(np.quantile(delays, 0.99)))

    def _publish(self, settings: Settings, events: list[Transaction], rate: float | None) -> None:
        publish(
            events,
            producer=Producer({**confluent(settings), **PUBLISHING, "linger.ms": 0 if rate else 5}),
            pace=Rate(rate) if rate else Unpaced(),
            topics=PublishTopics(settings.topic("transactions"), settings.topic("labels")),
        )

    def _await(self, settings: Settings, worker: GuardedProcess) -> None:
        follower = Follower(settings.group("score"), settings.topic("transactions"))
        deadline = time.monotonic() + 300
        with KafkaFollowers(confluent(settings)) as followers:
            ends = followers.ends(follower.topic)
            while followers.behind(follower, ends):
                if worker.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the worker did not get through; its log is {worker.log}")
                time.sleep(0.05)

    def _times(self, settings: Settings, name: str) -> dict[str, int]:
        import msgspec  # noqa: PLC0415 - only here

        class Named(msgspec.Struct):
            transaction_id: str

        decode = msgspec.json.Decoder(Named).decode
        with TopicReader(settings, settings.topic(name)) as reader:
            return {
                decode(record.value).transaction_id: record.timestamp_ms
                for record in reader.until_end()
                if record.value
            }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=40_000, help="of a backlog")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=1000.0, help="of the trickle, events a second")
    parser.add_argument("--seconds", type=float, default=15.0, help="of a trickle")
    chosen = parser.parse_args()
    most = max(chosen.events, int(chosen.rate * chosen.seconds)) + WARM
    items = simulate(DEFAULT, seed=1)
    events = list(islice((item for item in items if isinstance(item, Transaction)), most))
    drained: dict[str, list[Drained]] = {name: [] for name in CANDIDATES}
    trickles: dict[str, list[Trickle]] = {name: [] for name in CANDIDATES}
    with tempfile.TemporaryDirectory() as name, LocalRedis(Path(name)) as redis:
        folder = Path(name)
        with open_kafka("apache", state_dir=folder) as broker:
            bench = Bench(broker.bootstrap, redis.url, folder, events)
            for turn in range(chosen.rounds):
                for candidate, command in CANDIDATES.items():
                    drained[candidate].append(bench.drain(command, chosen.events))
                    print(f"round {turn + 1}: {candidate}: {drained[candidate][-1]}", file=sys.stderr)  # noqa: T201
            for _ in range(3):
                for candidate, command in CANDIDATES.items():
                    trickles[candidate].append(bench.trickle(command, chosen.rate, chosen.seconds))
    report(drained, trickles, chosen)


def report(
    drained: dict[str, list[Drained]], trickles: dict[str, list[Trickle]], chosen: argparse.Namespace
) -> None:
    """Print the tables: medians, and the median of the ratios round by round."""
    cores = os.cpu_count()
    lines = [
        f"{platform.machine()}, {cores} cores shared with Apache Kafka and Redis, "
        f"Python {platform.python_version()}",
        f"backlog of {chosen.events:,}, median of {chosen.rounds}:",
    ]
    for name, runs in drained.items():
        cpu = statistics.median(run.cpu_us for run in runs)
        rate = statistics.median(run.events_per_second for run in runs)
        lines.append(
            f"  {name:<18} {cpu:7.1f} us CPU/event  {rate:8,.0f} events/s  {1e6 / cpu:8,.0f} events/s/core"
        )
    ours, theirs = drained.values()
    ratios = [a.cpu_us / b.cpu_us for a, b in zip(ours, theirs, strict=True)]
    lines.append(f"  ratio of CPU: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    lines.append(f"{chosen.rate:,.0f} events/s for {chosen.seconds:.0f} s, median of 3:")
    for name, trickle in trickles.items():
        cpu, p50, p99 = (statistics.median(column) for column in zip(*trickle, strict=True))
        lines.append(f"  {name:<18} {cpu:7.1f} us CPU/event  p50 {p50:.1f} ms  p99 {p99:.1f} ms")
    print("\n".join(lines))  # noqa: T201 - a report


if __name__ == "__main__":
    main()
