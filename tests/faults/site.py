"""What a fault run happens on: Kafka, Redis behind a proxy, workers whom a supervisor starts again."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

import redis
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource

from infra.process import GuardedProcess
from infra.services import ApacheKafka, LocalRedis
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.reader import TopicReader
from stream.adapters.kafka.unread import count_records
from stream.config.settings import Settings, load
from tests.faults.traffic import Shape, Traffic
from tests.faults.watch import Watch
from tests.support.installation import Installation
from tests.support.model_keys import KEY
from tests.support.proxy import Proxy
from tests.support.redis_servers.cluster import Cluster
from tests.support.redis_servers.standby import Standby

SESSION = 6.0
PARTITIONS = 6
NODE_TIMEOUT = 2.0  # seconds without a word after which a master of the cluster is taken for gone
Kind = Literal["one", "replicated", "cluster"]
_HELD = re.compile(r"scoring \S+, partitions ([\d, ]+)")


class NotHealedError(AssertionError):
    """After a fault something did not come back; says what, and where the logs are."""


@dataclass
class Slot:
    """A place for a worker, which its supervisor fills again when the worker ends.

    Attributes:
        is_static: it keeps its name in the group over a restart.
        proxied: it reaches Redis through the proxy.
        held: the supervisor leaves it empty.
        armed: the crash point its next worker is started with.
    """

    name: str
    role: str
    is_static: bool = False
    proxied: bool = False
    held: bool = False
    armed: str = ""
    process: GuardedProcess | None = None

    def is_alive(self) -> bool:
        """Whether its worker runs."""
        return self.process is not None and self.process.poll() is None


def usual_slots() -> list[Slot]:
    """Three that score, two that learn, one that monitors; some keep their name, some use the proxy."""
    return [
        Slot("score-a", "score", is_static=True, proxied=True),
        Slot("score-b", "score"),
        Slot("score-c", "score"),
        Slot("learn-a", "learn", is_static=True, proxied=True),
        Slot("learn-b", "learn", is_static=True),
        Slot("monitor", "monitor", is_static=True),
    ]


@dataclass
class Tally:
    """What was done and how long it took until it was healed.

    Attributes:
        faults: how often each.
        recoveries: seconds, by what they are of.
        ended: workers that ended by themselves: role, exit code and last line.
    """

    faults: Counter[str] = field(default_factory=Counter)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    forged: int = 0

    def recovered(self, what: str, seconds: float) -> None:
        """One recovery."""
        self.recoveries.setdefault(what, []).append(max(seconds, 0.0))


def allow_large_events(settings: Settings) -> None:
    """Let 2 MB into the topic: that it is refused is the worker's task here, not the broker's."""
    entry = ConfigEntry("max.message.bytes", "4000000", incremental_operation=AlterConfigOpType.SET)
    wanted = ConfigResource("topic", settings.topic("transactions"), incremental_configs=[entry])
    admin = AdminClient(confluent(settings))  # it must outlive its answers
    for done in admin.incremental_alter_configs([wanted]).values():
        done.result(10)


class Site:
    """Usable as a context manager: everything is up inside, and nothing is left behind.

    Args:
        folder: data and logs.
        fsync: how Redis keeps its append-only file.
        store: one Redis, one and a replica that workers wait for, or a Redis Cluster of three masters.
    """

    def __init__(
        self, folder: Path, *, fsync: Literal["always", "everysec"] = "always", store: Kind = "one"
    ) -> None:
        self.folder = folder
        self._fsync: Literal["always", "everysec"] = fsync
        self._kind = store
        self._standbys = 0
        self.standby: Standby | None = None
        self.kafka = ApacheKafka(folder)
        self.redis = LocalRedis(
            folder, appendonly=True, appendfsync=fsync, administered=True, ready_within=120.0
        )
        self.proxy = Proxy(self.redis.port)
        self.cluster = Cluster(
            folder, 3, appendonly=True, settings={"cluster-node-timeout": f"{NODE_TIMEOUT * 1000:.0f}"}
        )
        self.tally = Tally()
        self.slots: list[Slot] = []
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._supervisor = threading.Thread(target=self._tend, name="supervisor", daemon=True)
        self.settings: Settings
        self.installation: Installation
        self.watch: Watch
        self.traffic: Traffic

    def __enter__(self) -> Self:
        self._stack.enter_context(self.kafka)
        if self._kind == "cluster":
            self._stack.enter_context(self.cluster)
        else:
            self._stack.enter_context(self.redis)
            self._stack.enter_context(self.proxy)
        if self._kind == "replicated":
            self.follow()
        self.settings = load(
            {
                "kafka_bootstrap": self.kafka.bootstrap,
                **self._store_settings(),
                "model_key": KEY,
                "partitions": PARTITIONS,
                "session_timeout": SESSION,
                "heartbeat_interval": 1,
                "snapshot_interval": "200ms",
                "maturity": "1d",
                "label_wait": "12h",
                "metrics_interval": "6h",
                "quality_window": "2d",
            },
            {},
        ).settings
        self.installation = Installation(self.settings, self.folder)
        allow_large_events(self.settings)
        self.watch = Watch(self.settings)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        self.installation.close()
        self._stack.close()

    def _store_settings(self) -> dict[str, object]:
        if self._kind == "cluster":
            return {
                "redis_url": self.cluster.url,
                "redis_cluster": True,
                "shards": 16,
                "decision_log": "disk",  # as installations do that need a cluster
            }
        return {"redis_url": self.redis.url, "redis_replicas": int(self._kind == "replicated")}

    def open(self, shape: Shape, rate: float, *, slots: Sequence[Slot] = ()) -> None:
        """Start the workers, and the traffic when they are there."""
        self.slots = list(slots) or usual_slots()
        self.watch.start()
        for slot in self.slots:
            self._fill(slot)
        self._supervisor.start()
        self.traffic = Traffic(
            self.settings,
            shape,
            rate=rate,
            decided=lambda: self.watch.decided,
            most_behind=int(max(rate, 500)),
        )
        self.traffic.start()
        self.steady()

    # ---- workers

    def of(self, role: str, *, is_static: bool | None = None) -> list[Slot]:
        """The places of a role."""
        return [slot for slot in self.slots if slot.role == role and is_static in (None, slot.is_static)]

    def add(self, slot: Slot) -> None:
        """One more worker."""
        with self._lock:
            self._fill(slot)
            self.slots.append(slot)

    def remove(self, slot: Slot) -> None:
        """One worker less; it must have ended."""
        with self._lock:
            self.slots.remove(slot)

    def kill(self, slot: Slot) -> float:
        """`kill -9`; returns when, seconds since 1970. A held place stays empty."""
        assert slot.process is not None
        with self._lock:
            if slot.is_alive():
                slot.process.kill()
                self.tally.faults[f"kill -9 of a {slot.role} worker"] += 1
            return time.time()

    def kill_unarmed(self, slot: Slot) -> None:
        """`kill -9` of a worker that was started before its place was armed: the next one has the point."""
        armed, slot.armed = slot.armed, ""
        with self._lock:
            if slot.process is not None and slot.is_alive():
                slot.process.kill()
                self.tally.faults[f"kill -9 of a {slot.role} worker"] += 1
            slot.armed = armed
            self._fill(slot)

    def release(self, slot: Slot) -> None:
        """Fill a held place again, and let the supervisor see to it from now on."""
        with self._lock:
            if not slot.is_alive():
                self._fill(slot)
            slot.held = False

    def partitions_of(self, slot: Slot) -> list[int]:
        """What a score worker holds, by its own word."""
        assert slot.process is not None
        found = _HELD.findall(slot.process.log.read_text(errors="replace"))
        return [int(number) for number in found[-1].split(",")] if found else []

    def count_said(self, role: str, text: str) -> int:
        """How often the workers of a role said something, over all of the run."""
        logs = {process.log for process in self.installation.running if process.log.name.startswith(role)}
        return sum(log.read_text(errors="replace").count(text) for log in logs)

    def _fill(self, slot: Slot) -> None:
        changed: dict[str, object] = {"state_dir": self.folder / slot.name}  # a disk of its own
        if slot.is_static:
            changed["instance_id"] = slot.name
        if slot.proxied and self._kind != "cluster":  # there a client goes where the cluster sends it
            changed["redis_url"] = self.redis.url_at(self.proxy.port)
        if slot.armed:
            changed["crash_at"] = slot.armed
        slot.process = self.installation.start(slot.role, **changed)

    def _tend(self) -> None:
        while not self._ended.wait(0.1):
            with self._lock:
                for slot in self.slots:
                    if not slot.held and slot.process is not None and not slot.is_alive():
                        self._note(slot, slot.process)
                        self._fill(slot)

    def _note(self, slot: Slot, process: GuardedProcess) -> None:
        code = process.poll()
        if code == -signal.SIGKILL and not slot.armed:  # it was killed from here
            return
        if code == -signal.SIGKILL:
            self.tally.faults[f"kill -9 of a {slot.role} worker"] += 1
            self.tally.faults[f"at the crash point {slot.armed.partition(':')[0]}"] += 1
            slot.armed = ""
            return
        lines = process.log.read_text(errors="replace").splitlines()
        self.tally.ended.append(f"{slot.role}, code {code}: {lines[-1] if lines else ''}")

    # ---- waiting

    def until(self, done: Callable[[], object], timeout: float, what: str) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + timeout
        while not done():
            if time.monotonic() > deadline:
                raise NotHealedError(f"{what} after {timeout:.0f} s; logs are in {self.folder}")
            time.sleep(0.05)

    def sent(self, payments: int) -> None:
        """Wait until so many are."""
        self.until(lambda: self.traffic.payments >= payments, 3600, "the traffic does not go on")

    @property
    def behind(self) -> int:
        """Payments that were sent and are not decided."""
        return self.traffic.payments - self.watch.decided

    def steady(self, timeout: float = 60.0) -> None:
        """Wait until every place is filled and every partition decided on again."""
        self.until(lambda: all(slot.is_alive() for slot in self.slots), timeout, "a worker is missing")
        now = time.time()
        everywhere = range(PARTITIONS)
        self.until(
            lambda: self.watch.all_since(everywhere, now) is not None, timeout, "a partition stands still"
        )
        self.until(lambda: self.behind < self.traffic.rate, timeout, "the workers do not catch up")

    def drained(self, timeout: float = 300.0) -> None:
        """Wait until everything is decided, matured and learned."""
        self.until(lambda: self.watch.decided >= self.traffic.payments, timeout, "payments are undecided")
        self.installation.drained("score", "transactions", timeout=timeout)

        def learned() -> bool:
            return not any(self.installation.behind("learn", name) for name in ("scores", "labels"))

        self.until(lambda: learned() and learned(), timeout, "learn is behind")

    def length(self, topic: str) -> int:
        """How many committed messages a topic holds."""
        name = self.settings.topic(topic)
        with TopicReader(self.settings, name) as reader:
            return sum(count_records(self.settings, name, reader.bounds()).values())

    def follow(self) -> Standby:
        """Give Redis a replica that has all it has."""
        self._standbys += 1
        name = f"redis-standby-{self._standbys}"
        self.standby = Standby(self.folder, self.redis, fsync=self._fsync, name=name)
        return self._stack.enter_context(self.standby)

    def fail_over(self) -> None:
        """End Redis with `kill -9` and put its replica in its place."""
        assert self.standby is not None
        self.redis = self.standby.promoted()
        self.standby = None
        self._stack.callback(self.redis.stop)

    def redis_client(self) -> redis.Redis:
        """Straight to the server."""
        return redis.Redis.from_url(self.redis.url)
