"""riverwatch adopt: begin another log under a known name."""

from __future__ import annotations

import click

from stream.cli.options import CONNECTION, with_settings
from stream.config.settings import Settings


@click.command()
@click.argument("topic", type=click.Choice(["transactions", "scores", "dead-letters"]))
@with_settings(*CONNECTION, "redis_cluster", "shards", "partitions")
def adopt(settings: Settings, topic: str) -> None:
    """Begin a TOPIC that was deleted and made anew, or lost its tail, as a new epoch; profiles are kept.

    Workers read nothing of such a topic until then. Those that read it must be stopped meanwhile. What was in
    the old log is not decided any more; decisions name the epoch they are of.
    """
    from stream.recovery.adopt import adopt as begin  # noqa: PLC0415 - `--help` stays instant

    found = begin(settings, topic)
    places = ", ".join(f"partition {number} from offset {at}" for number, at in sorted(found.starts.items()))
    click.echo(f"{settings.topic(topic)} is read as epoch {found.epoch}: {places}. Start its workers.")
