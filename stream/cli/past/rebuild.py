"""riverwatch rebuild: what is lost in Redis, from Kafka again."""

from __future__ import annotations

import click

from stream.cli.options import CONNECTION, with_settings
from stream.cli.progress import Bar
from stream.config.settings import Settings
from stream.config.signing_key import trusted_keys


@click.command()
@click.option(
    "--allow-gaps",
    is_flag=True,
    help="Rebuild although the beginning of a log is gone; profiles lack what was in it.",
)
@with_settings(
    *CONNECTION,
    "redis_cluster",
    "shards",
    "partitions",
    "model",
    "model_classes",
    "model_key_file",
    "model_blob_dir",
    "features_file",
    "negative_sampling_rate",
    "decision_ttl",
    "maturity",
    "max_event_bytes",
    "future_tolerance",
    "card_numbers",
    "card_number_exempt",
)
def rebuild(settings: Settings, allow_gaps: bool) -> None:
    """Put back into Redis what Kafka tells: profiles, decisions, labels, to the same bits.

    Workers may run: they wait and say so. What is in Redis under the prefix is taken away first; broken off,
    workers keep waiting until it is run again. The settings must be those that the workers run with.
    """
    from stream.recovery.rebuild import rebuild as run  # noqa: PLC0415 - `--help` stays instant

    trusted_keys(settings)
    with Bar() as bar:
        done = run(settings, progress=bar, allow_gaps=allow_gaps)
    click.echo(
        f"rebuilt: {done.decisions:,} decisions, {done.profiles:,} profiles, {done.label_profiles:,} label "
        f"profiles, the knowledge of {done.known:,} transactions, {done.pending:,} labels that wait, "
        f"{done.due:,} assumed labels to come; workers go on"
    )
    for remark in done.remarks:
        click.echo(click.style(f"note: {remark}", fg="yellow"))
    click.echo("`riverwatch verify` compares it with the logs.")
