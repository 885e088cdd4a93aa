"""riverwatch produce: simulated payments, or a file's, into the topics."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream.cli.options import CONNECTION, with_settings
from stream.config.settings import Settings, seconds

if TYPE_CHECKING:
    from producers.publish.pace import Item, Pace
    from producers.publish.publish import PublishProgress


def paced(command: Any) -> Any:
    """The flags that say how fast."""
    for option in (
        click.option("--step", default="12h", show_default=True, help="With --follow: event time a step."),
        click.option(
            "--follow", is_flag=True, help="As fast as the workers decide and learn, in event-time step."
        ),
        click.option("--speed-up", type=float, help="Event time runs so many times faster than the clock."),
        click.option("--rate", type=float, help="Events a second."),
    ):
        command = option(command)
    return command


def pace_of(settings: Settings, rate: float | None, speed_up: float | None, follow: bool, step: str) -> Pace:
    """The pace the flags ask for; without one, as fast as the brokers take it."""
    from producers.publish.pace import (  # noqa: PLC0415 - `--help` stays instant
        Follow,
        Follower,
        Rate,
        SpeedUp,
        Unpaced,
    )

    if sum((rate is not None, speed_up is not None, follow)) > 1:
        raise click.UsageError("one of --rate, --speed-up and --follow, not several")
    if rate is not None:
        return Rate(rate)
    if speed_up is not None:
        return SpeedUp(speed_up)
    if not follow:
        return Unpaced()
    learn = settings.group("learn")
    return Follow(
        step=timedelta(seconds=seconds(step)),
        deciders=(Follower(settings.group("score"), settings.topic("transactions")),),
        learners=(Follower(learn, settings.topic("scores")), Follower(learn, settings.topic("labels"))),
    )


def send(settings: Settings, items: Iterable[Item], pace: Pace) -> PublishProgress:
    """Publish, with a progress line; returns what was published."""
    from confluent_kafka import Producer  # noqa: PLC0415 - `--help` stays instant
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415

    from producers.publish.followers import KafkaFollowers  # noqa: PLC0415
    from producers.publish.pace import Follow  # noqa: PLC0415
    from producers.publish.publish import PUBLISHING, PublishTopics, publish  # noqa: PLC0415
    from stream.adapters.kafka.client import confluent  # noqa: PLC0415
    from stream.adapters.kafka.errors import metadata  # noqa: PLC0415

    config = confluent(settings)
    metadata(config, AdminClient(config), timeout=10.0)  # what Kafka refuses is said before anything is made
    followers = KafkaFollowers(config) if isinstance(pace, Follow) else None
    try:
        return publish(
            items,
            producer=Producer({**config, **PUBLISHING}),
            pace=pace,
            topics=PublishTopics(settings.topic("transactions"), settings.topic("labels")),
            progress=_Progress(),
            followers=followers,
            tell=lambda line: click.echo(line, err=True),
        )
    finally:
        if followers is not None:
            followers.close()


class _Progress:
    """A line a second on a terminal, one every ten elsewhere."""

    def __init__(self) -> None:
        self._terminal = os.isatty(2)
        self._next = 0.0

    def __call__(self, done: PublishProgress) -> None:
        now = time.monotonic()
        if not self._terminal and now < self._next:
            return
        self._next = now + 10.0
        click.echo(summary(done), err=True, nl=not self._terminal)


def summary(done: PublishProgress) -> str:
    """What was published so far, in a line."""
    at = f"{done.event_time:%Y-%m-%d %H:%M}" if done.event_time else "the start"
    rate = done.transactions / done.seconds if done.seconds else 0.0
    start = "\r" if os.isatty(2) else ""
    return f"{start}{done.transactions:,} transactions, {done.labels:,} labels, {rate:,.0f}/s, up to {at}"


@click.group()
def produce() -> None:
    """Publish transactions and labels: simulated ones, or those of a file."""


@produce.command()
@click.option("--events", type=click.IntRange(min=1), default=20_000, show_default=True, help="Transactions.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="The same seed, the same events."
)
@click.option("--preset", type=click.Choice(["default", "demo"]), default="default", show_default=True)
@click.option("--start", default=None, help="First day, YYYY-MM-DD [so that the events end about now].")
@paced
@with_settings(*CONNECTION)
def simulate(
    settings: Settings,
    events: int,
    seed: int,
    preset: str,
    start: str | None,
    rate: float | None,
    speed_up: float | None,
    follow: bool,
    step: str,
) -> None:
    """Payments of a simulated world: cards, merchants, devices, countries and four kinds of fraud."""
    import msgspec  # noqa: PLC0415 - `--help` stays instant

    from producers.simulator.simulate import PRESETS  # noqa: PLC0415
    from producers.simulator.simulate import simulate as simulated  # noqa: PLC0415

    pace = pace_of(settings, rate, speed_up, follow, step)
    spec = msgspec.structs.replace(PRESETS[preset], start=_first_day(start))
    done = send(settings, _first(simulated(spec, seed=seed), events), pace)
    click.echo(
        f"published {done.transactions:,} transactions and {done.labels:,} labels in {done.seconds:.1f} s"
    )


def _first_day(start: str | None) -> datetime:
    if start is None:
        # A year back: whatever is asked for lies in the past, where labels can have come.
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return today - timedelta(days=365)
    try:
        return datetime.strptime(start, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise click.UsageError(f"--start {start}: write a day as YYYY-MM-DD") from error


def _first(items: Iterator[Item], events: int) -> Iterator[Item]:
    """The items up to the given number of transactions."""
    from stream.messages import Transaction  # noqa: PLC0415 - `--help` stays instant

    left = events
    for item in items:
        if isinstance(item, Transaction):
            if left == 0:
                return
            left -= 1
        yield item


@produce.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--schema",
    "schema",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="What the columns mean (TOML); docs/producing.md shows one.",
)
@click.option("--since", default=None, help="Transactions from this day on, YYYY-MM-DD.")
@click.option("--until", default=None, help="Transactions before this day, YYYY-MM-DD.")
@click.option("--events", type=click.IntRange(min=1), default=None, help="At most so many messages.")
@paced
@with_settings(*CONNECTION)
def dataset(
    settings: Settings,
    file: Path,
    schema: Path,
    since: str | None,
    until: str | None,
    events: int | None,
    rate: float | None,
    speed_up: float | None,
    follow: bool,
    step: str,
) -> None:
    """Payments and labels of a parquet or CSV file, in event-time order."""
    from producers.files.cleaning import Cleaning  # noqa: PLC0415 - `--help` stays instant
    from producers.files.dataset import read_dataset  # noqa: PLC0415
    from producers.files.mapping import load_mapping  # noqa: PLC0415

    cleaning = Cleaning()
    items: Iterator[Item] = read_dataset(
        file,
        load_mapping(schema, environ=os.environ),
        cleaning=cleaning,
        since=_first_day(since) if since else None,
        until=_first_day(until) if until else None,
    )
    done = send(settings, islice(items, events), pace_of(settings, rate, speed_up, follow, step))
    click.echo(
        f"published {done.transactions:,} transactions and {done.labels:,} labels in {done.seconds:.1f} s"
    )
    for line in cleaning.lines():
        click.echo(line)
