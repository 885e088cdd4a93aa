"""The services riverwatch stands on, without containers: start here.

with LocalRedis(Path(".riverwatch")) as store, open_kafka(state_dir=Path(".riverwatch")) as broker:
    print(broker.bootstrap, broker.kind, store.url)
# 127.0.0.1:24311 apache redis://:PASSWORD@127.0.0.1:27044/0
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal, TypeAlias

from infra.apache_kafka import JAVA_AT_LEAST, ApacheKafka, fetch_jars, jars_problem, java_problem
from infra.apache_kafka import VERSION as APACHE_VERSION
from infra.embedded_kafka import EmbeddedKafka, embedded_problem
from infra.local_redis import LocalRedis, server_version
from infra.process import GuardedProcess, ServiceError, free_port
from infra.redis_servers import redis_problem, redis_servers
from infra.running import Running, clear_running, find_running, running_file, write_running

__all__ = [
    "ApacheKafka",
    "EmbeddedKafka",
    "GuardedProcess",
    "KafkaKind",
    "LocalKafka",
    "LocalRedis",
    "Running",
    "ServiceError",
    "choose_kafka",
    "clear_running",
    "find_running",
    "free_port",
    "open_kafka",
    "redis_problem",
    "redis_servers",
    "running_file",
    "server_version",
    "write_running",
]

KafkaKind: TypeAlias = Literal["apache", "embedded"]
LocalKafka: TypeAlias = ApacheKafka | EmbeddedKafka


def choose_kafka(kind: Literal["auto", "apache", "embedded"] = "auto") -> tuple[KafkaKind, str]:
    """Which Kafka to start, and the sentence that says why.

    Args:
        kind: ``auto`` takes Apache Kafka where Java 17+ and Maven (or its cached jars) are found, else the
            embedded broker.

    Raises:
        ServiceError: when what was asked for, or anything at all, is not here; says what to install.
    """
    apache = java_problem() or jars_problem()
    embedded = embedded_problem()
    if kind != "embedded" and apache is None:
        return (
            "apache",
            f"Apache Kafka {APACHE_VERSION}: Java {JAVA_AT_LEAST}+ and Maven, or its jars, are here",
        )
    if kind == "apache":
        raise ServiceError(f"Apache Kafka cannot run here: {apache}. Install Java {JAVA_AT_LEAST}+ and Maven")
    if embedded is not None:
        raise ServiceError(
            f"no Kafka can run here: {apache}; {embedded}. Install Java {JAVA_AT_LEAST}+ and Maven"
        )
    why = "as asked" if kind == "embedded" else f"{apache}"
    return "embedded", f"{EmbeddedKafka.version}, a Kafka in memory, good for a try but no proof: {why}"


def open_kafka(
    kind: Literal["auto", "apache", "embedded"] = "auto",
    *,
    state_dir: Path,
    port: int | None = None,
    partitions: int = 1,
) -> LocalKafka:
    """A Kafka that is not started yet: use it as a context manager or call ``start``.

    With ``auto``, a machine that has Java and Maven but cannot reach Maven Central gets the embedded broker,
    and a line on stderr says so.

    Args:
        kind: as for `choose_kafka`.
        state_dir: where its data, configuration and log live.
        port: its port on loopback; a free one when None.
        partitions: of a topic created without a number (Apache Kafka only).

    Raises:
        ServiceError: when no Kafka of this kind can run here.
    """
    chosen, _ = choose_kafka(kind)
    if chosen == "apache":
        try:
            fetch_jars()
        except ServiceError as error:
            if kind == "apache" or embedded_problem() is not None:
                raise
            sys.stderr.write(f"riverwatch: {error}\nriverwatch: the embedded Kafka takes its place\n")
        else:
            return ApacheKafka(state_dir, port, partitions=partitions)
    return EmbeddedKafka(state_dir, port)
