"""riverwatch topics: create what is missing."""

from __future__ import annotations

import click

from stream.cli.options import with_settings
from stream.config.settings import Settings


@click.command()
@with_settings("kafka_bootstrap", "topic_prefix", "partitions", "replication")
def topics(settings: Settings) -> None:
    """Create the topics that are missing, and check the partitions of all."""
    from stream.adapters.kafka.admin import (  # noqa: PLC0415 - `--help` stays instant
        check_topics,
        create_topics,
        wanted,
    )

    created = create_topics(settings)
    check_topics(settings)
    for name, partitions in wanted(settings).items():
        click.echo(f"{name}: {partitions} partitions{', created' if name in created else ''}")
