"""riverwatch up: Kafka, Redis and topics on this machine, in the foreground."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack
from typing import Literal

import click

from infra.process import Service
from infra.services import (
    LocalKafka,
    LocalRedis,
    choose_kafka,
    clear_running,
    find_running,
    open_kafka,
    write_running,
)
from stream.cli.options import with_settings
from stream.config.redis_url import without_password
from stream.config.settings import Settings, load
from stream.config.signing_key import model_key, state_dir


def ended_by_itself(service: Service, broker: LocalKafka, store: LocalRedis) -> str:
    """Which service ended, where it says why, and how to go on."""
    what, other = ("Redis", "Kafka") if service is store else ("Kafka", "Redis")
    how_to_go_on = (
        f"Start them with `riverwatch up --kafka apache --kafka-port {broker.port} --redis-port "
        f"{store.port}`: their data is there, and workers that wait for them go on"
        if broker.kind == "apache"
        else "Neither keeps anything on disk: end the workers, and begin again with `riverwatch up`"
    )
    return (
        f"{what} (process {service.pid}) has ended by itself, and {other} with it; read {service.log}. "
        f"{how_to_go_on}"
    )


@click.command()
@click.option(
    "--kafka",
    type=click.Choice(["auto", "apache", "embedded"]),
    default="auto",
    show_default=True,
    help="Which Kafka: Apache Kafka needs Java 17+ and Maven; the embedded one needs nothing.",
)
@click.option("--kafka-port", type=int, default=None, help="[a free one]")
@click.option("--redis-port", type=int, default=None, help="[a free one]")
@with_settings("partitions", "state_dir")
def up(
    settings: Settings,
    kafka: Literal["auto", "apache", "embedded"],
    kafka_port: int | None,
    redis_port: int | None,
) -> None:
    """Start Kafka, Redis and the topics here, and stay until Ctrl-C. The other commands find them."""
    there = find_running()
    if there is not None:
        raise click.ClickException(
            f"`riverwatch up` runs already: process {there.pid}, Kafka {there.bootstrap}, "
            f"Redis {without_password(there.redis_url)}"
        )
    folder = state_dir(settings)
    folder.mkdir(parents=True, exist_ok=True)
    kind, why = choose_kafka(kafka)
    click.echo(f"{why}")
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with ExitStack() as stack:
        # Both keep their data or neither: a Redis that outlives its topics knows offsets that mean nothing.
        lasting = kind == "apache"
        redis = stack.enter_context(LocalRedis(folder, redis_port, appendonly=lasting))
        broker = open_kafka(kind, port=kafka_port, state_dir=folder)
        stack.enter_context(broker)
        key = model_key(folder)
        (folder / "partitions").write_text(str(settings.partitions))
        flags = {"kafka_bootstrap": broker.bootstrap, "partitions": settings.partitions}
        from stream.adapters.kafka.admin import create_topics  # noqa: PLC0415 - `--help` stays instant

        create_topics(load(flags, {}).settings)
        write_running(folder, broker.bootstrap, redis.url, os.getpid(), broker.kind)
        stack.callback(clear_running, os.getpid())
        click.echo(f"RIVERWATCH_KAFKA_BOOTSTRAP={broker.bootstrap}")
        click.echo(f"RIVERWATCH_REDIS_URL={redis.url}")
        click.echo(f"RIVERWATCH_MODEL_KEY_FILE={key}")
        click.echo(f"RIVERWATCH_MODEL_PUBLIC_KEYS={key.with_suffix('.pub')}")
        click.echo(
            f"Kafka ({broker.kind}, process {broker.pid}) and Redis (process {redis.pid}) are up; logs in "
            f"{folder / 'logs'}. Now, each in its own terminal:\n"
            "  riverwatch score\n  riverwatch learn\n  riverwatch monitor\n"
            "  riverwatch produce simulate --events 20000 --rate 500\n  riverwatch alerts --follow\n"
            "Ctrl-C ends them."
        )
        while not ended.wait(1.0):
            for service in (broker, redis):
                if not service.is_running():
                    raise click.ClickException(ended_by_itself(service, broker, redis))
