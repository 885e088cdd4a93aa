"""What Redis refuses for good, what it would lose, and what will soon fail: each is said, and by whom."""

from __future__ import annotations

import asyncio
import math
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from infra.local_redis import LocalRedis
from infra.process import HOST, free_port
from infra.redis_servers import redis_problem
from models.features.decay import weights
from models.features.profiles import Event
from stream.adapters.clients import redis_client
from stream.adapters.kafka.admin import create_topics
from stream.adapters.redis import probe as probing
from stream.adapters.redis.probe import check_rights, probe
from stream.adapters.redis.store import RedisStore
from stream.adapters.redis.watch import RedisWatch
from stream.config.settings import Settings, load
from stream.inspect.status import look
from stream.ports import DependencyDown, DependencyRefused, EntityRef, EventUpdate, StoreBehind
from tests.support.model_keys import KEY
from tests.support.patience import until
from tests.support.redis_servers.cluster import Cluster
from tests.support.services import KafkaUnderTest

LUA = Path(probing.__file__).parent / "lua"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRedis]:
    if problem := redis_problem():
        pytest.skip(problem)
    with LocalRedis(tmp_path_factory.mktemp("redis"), appendonly=True, administered=True) as found:
        yield found


@pytest.fixture
def admin(server: LocalRedis) -> Iterator[redis.Redis]:
    """Whoever may configure it; as it was when the test ends."""
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        yield client
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("appendonly", "yes")
        client.config_resetstat()


def settings_of(url: str, **more: object) -> Settings:
    return load({"redis_url": url, "kafka_bootstrap": f"{HOST}:{free_port()}", **more}, {}).settings


def watch_of(url: str, **more: object) -> RedisWatch:
    settings = settings_of(url, **more)
    return RedisWatch(settings, redis_client(settings))


def user(server: LocalRedis, admin: redis.Redis, *commands: str, keys: str = "rw:*") -> str:
    admin.acl_setuser(
        "worker", enabled=True, passwords=["+pw"], keys=[keys], commands=["+@all", *commands], reset=True
    )
    return f"redis://worker:pw@{HOST}:{server.port}/0"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:wrong-secret@{place}/0", "set RIVERWATCH_REDIS_URL to a user and a password"),
        ("redis://{place}/0", "set RIVERWATCH_REDIS_URL to a user and a password"),
        ("redis://:{password}@{place}/99", "it has no such database"),
        ("rediss://:{password}@{place}/0", "write redis:// instead of rediss://"),
    ],
)
def test_a_url_that_redis_refuses_is_no_wait_and_shows_no_password(
    server: LocalRedis, url: str, said: str
) -> None:
    place = f"{HOST}:{server.port}"
    with pytest.raises(DependencyRefused) as refused:
        watch_of(url.format(place=place, password=server.password)).check()
    assert said in str(refused.value)
    assert place in str(refused.value)
    assert "wrong-secret" not in str(refused.value)
    assert server.password not in str(refused.value)


def test_tls_that_is_not_spoken_is_named(server: LocalRedis, tmp_path: Path) -> None:
    with secured(server.port, tmp_path) as port:
        with pytest.raises(DependencyRefused, match="write rediss:// instead of redis://"):
            watch_of(f"redis://:{server.password}@{HOST}:{port}/0").check()
        with pytest.raises(DependencyRefused, match=r"ssl_ca_certs=FILE to RIVERWATCH_REDIS_URL"):
            watch_of(f"rediss://:{server.password}@{HOST}:{port}/0").check()
        watch_of(f"rediss://:{server.password}@{HOST}:{port}/0?ssl_ca_certs={tmp_path / 'cert.pem'}").check()


@contextmanager
def secured(target: int, folder: Path) -> Iterator[int]:
    """A port with TLS before a server without."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    key, cert = folder / "key.pem", folder / "cert.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={HOST}"]
    names = ["-addext", f"subjectAltName=IP:{HOST}", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*made, *names], check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    port, loop, ready = free_port(), asyncio.new_event_loop(), threading.Event()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(HOST, target)
        await asyncio.gather(pipe(reader, back), pipe(there, writer), return_exceptions=True)

    def run() -> None:
        asyncio.set_event_loop(loop)
        listening = loop.run_until_complete(asyncio.start_server(serve, HOST, port, ssl=context))
        ready.set()
        loop.run_forever()
        listening.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(30)
    yield port
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.mark.parametrize("command", ["hset", "zadd", "evalsha", "script", "del"])
def test_a_right_that_lacks_is_refused_before_anything_is_written(
    server: LocalRedis, admin: redis.Redis, command: str
) -> None:
    with pytest.raises(DependencyRefused, match=rf"'{command}.*ACL SETUSER"):
        watch_of(user(server, admin, f"-{command}")).check()
    assert admin.keys("rw:*:partitions") == []


def test_keys_that_may_not_be_touched_are_refused(server: LocalRedis, admin: redis.Redis) -> None:
    with pytest.raises(DependencyRefused, match="RIVERWATCH_REDIS_PREFIX"):
        watch_of(user(server, admin, keys="other:*")).check()


def test_the_probe_tries_every_command_of_the_scripts_and_leaves_nothing(admin: redis.Redis) -> None:
    def commands(text: str) -> set[str]:
        return set(re.findall(r"\b(?:p?call|try)\('([A-Z]+)'", text))

    scripts = [path.read_text("utf-8") for path in LUA.glob("*.lua") if path.stem != "probe"]
    probed = commands((LUA / "probe.lua").read_text("utf-8"))
    assert set().union(*map(commands, scripts)) <= probed
    check_rights(admin, HOST, "rw", 1)
    assert admin.keys() == []


def test_redis_that_evicts_is_refused_and_with_the_override_said_in_every_status(
    server: LocalRedis, admin: redis.Redis
) -> None:
    admin.config_set("maxmemory-policy", "volatile-lru")
    with pytest.raises(DependencyRefused, match=r"volatile-lru.*CONFIG SET maxmemory-policy noeviction"):
        watch_of(server.url).check()
    assert any("volatile-lru" in line for line in look(settings_of(server.url)).down)
    accepted = settings_of(server.url, redis_allow_eviction=True)
    RedisWatch(accepted, redis_client(accepted)).check()
    found = look(accepted)
    assert not any("volatile-lru" in line for line in found.down)
    assert any("no promise holds" in line for line in found.warnings)


def test_a_running_worker_is_told_of_eviction_that_was_switched_on(
    server: LocalRedis, admin: redis.Redis
) -> None:
    watch = watch_of(server.url)
    watch.check()
    refused: list[str] = []
    with watch.watching(refused.append, every=0.05):
        admin.config_set("maxmemory-policy", "allkeys-lru")
        until(lambda: refused, "eviction was not noticed")
    assert "allkeys-lru" in refused[0]


def test_what_will_soon_fail_is_said_once_and_again_when_it_comes_again(
    server: LocalRedis, admin: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    watch = watch_of(server.url)
    watch.check()
    assert caplog.messages == []

    def fill(share: float) -> None:
        admin.config_set("maxmemory", int(int(admin.info("memory")["used_memory"]) / share))

    for share in (0.9, 0.92, 0.1, 0.9):
        fill(share)
        watch.check()
    fill(0.9)
    said = [line for line in caplog.messages if "% of its maxmemory" in line]
    assert len(said) == 2
    assert any("of its maxmemory" in line for line in look(settings_of(server.url)).warnings)


def test_keys_that_were_evicted_are_said_though_the_policy_is_right_again(
    server: LocalRedis, admin: redis.Redis
) -> None:
    admin.config_set("maxmemory-policy", "allkeys-random")
    admin.config_set("maxmemory", int(admin.info("memory")["used_memory"]) + 300_000)
    for number in range(40):
        admin.set(f"filling{number}", b"x" * 50_000)
    admin.config_set("maxmemory", 0)
    admin.config_set("maxmemory-policy", "noeviction")
    assert any("has evicted" in line for line in look(settings_of(server.url)).warnings)


def test_redis_that_keeps_nothing_on_disk_is_warned_of(admin: redis.Redis) -> None:
    assert probe(admin, HOST).warnings == []
    admin.config_set("appendonly", "no")
    [warning] = probe(admin, HOST).warnings
    assert "keeps nothing on disk: when it ends" in warning.text
    admin.config_set("save", "3600 1")
    assert probe(admin, HOST).warnings == []
    admin.config_set("save", "")


def test_a_replica_that_is_not_heard_of_is_warned_of() -> None:
    class Lagging:
        def info(self) -> dict[str, object]:
            replica = {"ip": "10.0.0.2", "port": 6379, "state": "online", "offset": 1, "lag": 42}
            return {"redis_version": "7.0.1", "aof_enabled": 1, "slave0": replica}

        def config_get(self, _: str) -> dict[str, str]:
            return {"save": ""}

    [warning] = probe(Lagging(), HOST).warnings
    assert "10.0.0.2:6379 that is online and was heard of 42 s ago" in warning.text


def test_a_server_that_is_too_old_is_refused() -> None:
    class Old:
        def info(self) -> dict[str, object]:
            return {"redis_version": "5.0.14", "aof_enabled": 1}

        def config_get(self, _: str) -> dict[str, str]:
            return {"save": ""}

    [losing] = probe(Old(), HOST).losing
    assert "5.0.14" in losing.text


def test_who_may_not_ask_how_redis_is_hears_that_it_is_not_known(
    server: LocalRedis, admin: redis.Redis
) -> None:
    url = user(server, admin, "-info", "-config")
    with redis.Redis.from_url(url) as client:
        [warning] = probe(client, HOST).warnings
    assert "+info" in warning.text


def test_each_master_of_a_cluster_is_looked_at(tmp_path: Path) -> None:
    if problem := redis_problem():
        pytest.skip(problem)
    with Cluster(tmp_path, 2, appendonly=False, settings={}) as cluster:
        settings = settings_of(cluster.url, redis_cluster=True, shards=16)
        client = redis_client(settings)
        second = cluster.masters[1]
        with redis.Redis.from_url(second.url) as master:
            master.config_set("maxmemory-policy", "allkeys-lfu")
        [losing] = probe(client, "cluster").losing
        assert f":{second.port} may evict" in losing.text
        check_rights(client, "cluster", "rw", 16)


def test_an_applied_offset_that_was_evicted_is_noticed_at_once(
    admin: redis.Redis, server: LocalRedis
) -> None:
    store = RedisStore(server.url, (60.0,), 1, decision_ttl_seconds=60, label_ttl_seconds=60)
    tokens = store.claim([0])

    def apply(offset: int) -> None:
        event = Event(60.0 * offset, 10.0, math.log1p(10.0), weights(60.0 * offset, (60.0,)), b"n")
        update = EventUpdate(0, offset, event, (EntityRef("card", "c", 2),))
        store.apply([update], ends={0: offset}, recorded={0: offset - 1}, fencing_tokens=tokens)

    apply(0)
    admin.delete("rw:{s0}:partitions")
    with pytest.raises(StoreBehind, match="the applied offset of partition 0 is gone from Redis"):
        apply(1)


def test_a_worker_refused_by_redis_ends_with_one_line(
    kafka: KafkaUnderTest, server: LocalRedis, tmp_path: Path
) -> None:
    settings = {"kafka_bootstrap": kafka.bootstrap, "topic_prefix": "refused-", "partitions": 1}
    create_topics(load(settings, {}).settings)
    own = {**settings, "redis_url": f"redis://:wrong-secret@{HOST}:{server.port}/0", "model_key": KEY}
    env = os.environ | {f"RIVERWATCH_{name.upper()}": str(value) for name, value in own.items()}
    for role in ("score", "learn", "monitor"):
        done = subprocess.run(
            [sys.executable, "-m", "stream.cli", role],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        [line] = (done.stdout + done.stderr).splitlines()
        assert done.returncode == 1
        assert line.startswith(f"Error: Redis at {HOST}:{server.port} refuses (AuthenticationError")
        assert "wrong-secret" not in line


def test_redis_that_is_away_is_waited_for() -> None:
    with pytest.raises(DependencyDown, match="check that it runs"):
        probe(redis.Redis(port=free_port()), HOST)
    watch_of(f"redis://{HOST}:{free_port()}/0").check()
