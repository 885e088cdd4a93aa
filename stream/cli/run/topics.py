"""riverwatch topics: create what is missing, and give what is there more partitions."""

from __future__ import annotations

from pathlib import Path

import click

from infra.services import find_running
from stream.cli.options import with_settings
from stream.config.settings import Settings


@click.command()
@click.option(
    "--grow",
    type=click.IntRange(1, 4096),
    metavar="N",
    help="Give scores, alerts and then transactions N partitions; workers may run.",
)
@with_settings("kafka_bootstrap", "topic_prefix", "partitions", "replication")
def topics(settings: Settings, grow: int | None) -> None:
    """Create the topics that are missing, and check the partitions of all."""
    if grow is not None:
        _grow(settings, grow)
        return
    from stream.adapters.kafka.admin import (  # noqa: PLC0415 - `--help` stays instant
        check_topics,
        create_topics,
        wanted,
    )

    created = create_topics(settings)
    check_topics(settings)
    for name, partitions in wanted(settings).items():
        click.echo(f"{name}: {partitions} partitions{', created' if name in created else ''}")


def _grow(settings: Settings, count: int) -> None:
    from stream.adapters.kafka.partitions import grow  # noqa: PLC0415 - the same

    for name in grow(settings, count):
        click.echo(f"{name}: {count} partitions now")
    running = find_running()
    if running is not None and running.bootstrap == settings.kafka_bootstrap:
        (Path(running.state_dir) / "partitions").write_text(str(count))
    click.echo(
        f"Workers that run take the new partitions within half a minute; whatever starts from now on needs "
        f"RIVERWATCH_PARTITIONS={count}"
    )
