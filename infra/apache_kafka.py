"""One Apache Kafka node (KRaft) on loopback, its jars fetched from Maven Central once."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Final

from infra.kafka_ready import serves_metadata
from infra.process import HOST, Service, ServiceError, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = "4.3.1"
JAVA_AT_LEAST: Final = 17
POM = Path(__file__).with_name("kafka") / "pom.xml"
_FETCH_SECONDS = 600


def java_problem() -> str | None:
    """Why no Java fit for Apache Kafka is here; None when there is one."""
    try:
        shown = subprocess.run([_java(), "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return f"no Java {JAVA_AT_LEAST}+ found"
    found = re.search(r'version "(\d+)', shown.stderr + shown.stdout)
    if found is None or int(found[1]) < JAVA_AT_LEAST:
        return f"Java is older than {JAVA_AT_LEAST}"
    return None


def jars_dir() -> Path:
    """Where the jars are kept: the user's cache directory, outside any checkout."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "riverwatch" / f"kafka-{VERSION}"


def jars_problem() -> str | None:
    """Why the jars can be neither found nor fetched; None when they can."""
    if jars_dir().is_dir() or shutil.which("mvn"):
        return None
    return "no Maven (mvn) found to fetch Apache Kafka with"


def fetch_jars() -> Path:
    """The directory with the node's jars, fetched with Maven when they are not there yet.

    Safe for many processes at once: one fetches under a lock, the others wait; the directory appears whole
    or not at all.

    Raises:
        ServiceError: when Maven is missing or fails, with the end of what it said, or when the cache
            directory cannot be written.
    """
    target = jars_dir()
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.with_name(f"{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.is_dir():
                _fetch(target)
    except OSError as error:
        raise ServiceError(
            f"Apache Kafka's jars cannot be kept in {target.parent}: {error.strerror}; set XDG_CACHE_HOME"
        ) from error
    return target


def _fetch(target: Path) -> None:
    if (problem := jars_problem()) is not None:
        raise ServiceError(f"{problem}: install Maven, or choose the embedded Kafka")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetching-") as scratch:
        jars = Path(scratch) / "jars"
        command = [
            "mvn",
            "-q",
            "-B",
            "-f",
            str(POM),
            "dependency:copy-dependencies",
            f"-DoutputDirectory={jars}",
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, cwd=scratch, timeout=_FETCH_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise ServiceError(f"Maven did not fetch Apache Kafka within {_FETCH_SECONDS} s") from None
        if done.returncode or not any(jars.glob("kafka_*.jar")):
            said = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
            raise ServiceError(f"Maven could not fetch Apache Kafka {VERSION} ({' '.join(command)}):\n{said}")
        jars.rename(target)


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else "java"


class ApacheKafka(Service):
    """A single Apache Kafka node; it keeps its topics over ``stop``, ``kill`` and ``start``.

    Internal topics have one replica, consumer groups form without delay, topics are never created by
    accident. The members of a group may time out after 6 seconds at the earliest, the broker's own minimum.

    Args:
        state_dir: where its data, configuration and log live.
        port: the listener's port on loopback; a free one when None.
        partitions: of a topic created without a number, >= 1.
        heap_mb: the JVM's largest heap, in MB.
        settings: broker settings that replace those made here.
        name: names its log and its data directory under ``state_dir``.
        ready_within: seconds it may take to answer, > 0.
    """

    kind: Final = "apache"
    version: Final = VERSION

    def __init__(
        self,
        state_dir: Path,
        port: int | None = None,
        *,
        partitions: int = 1,
        heap_mb: int = 1024,
        settings: Mapping[str, str] | None = None,
        name: str = "kafka",
        ready_within: float = 90.0,
    ) -> None:
        super().__init__(name, state_dir, port, ready_within=ready_within, stop_within=15.0)
        self.bootstrap = f"{HOST}:{self.port}"
        self._data = self.state_dir / name
        self._partitions = partitions
        self._heap_mb = heap_mb
        self._settings = dict(settings or {})

    def _command(self) -> list[str]:
        if (problem := java_problem()) is not None:
            raise ServiceError(
                f"Apache Kafka cannot start: {problem}; install one or choose the embedded Kafka"
            )
        classes = f"{fetch_jars()}{os.sep}*"
        self._data.mkdir(parents=True, exist_ok=True)
        properties = self._data / "server.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in self._configuration().items()))
        if not (self._data / "log" / "meta.properties").exists():
            self._format(classes, properties)
        return [
            _java(),
            "-Xms256m",
            f"-Xmx{self._heap_mb}m",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
            "-cp",
            classes,
            "kafka.Kafka",
            str(properties),
        ]

    def _configuration(self) -> dict[str, str]:
        controller = free_port()
        one_replica = dict.fromkeys(
            (
                "default.replication.factor",
                "min.insync.replicas",
                "offsets.topic.replication.factor",
                "transaction.state.log.replication.factor",
                "transaction.state.log.min.isr",
                "share.coordinator.state.topic.replication.factor",
                "share.coordinator.state.topic.min.isr",
            ),
            "1",
        )
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{HOST}:{controller}",
            "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self._data / "log"),
            "auto.create.topics.enable": "false",
            "num.partitions": str(self._partitions),
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "6000",
            # a killed node may register again once its old session is over: 4 s instead of 9
            "broker.session.timeout.ms": "4000",
            "broker.heartbeat.interval.ms": "500",
            # few partitions: the first join of a group waits until they exist
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.num.partitions": "4",
            **one_replica,
            **self._settings,
        }

    def _format(self, classes: str, properties: Path) -> None:
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # the first compiler tier only: this JVM lives for a second
        command = [_java(), "-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp", classes, "kafka.tools.StorageTool"]
        done = subprocess.run(
            [*command, "format", f"--cluster-id={cluster}", "--config", str(properties)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            said = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
            raise ServiceError(f"Apache Kafka could not prepare {self._data}:\n{said}")

    def _answers(self) -> bool:
        return serves_metadata(self.bootstrap)
