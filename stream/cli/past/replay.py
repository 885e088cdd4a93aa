"""riverwatch replay: the decisions as they would have been, or as they were, computed again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream.cli.options import CONNECTION, with_settings
from stream.cli.past.experiment import FILE, OUT, SpanParameter
from stream.config.settings import Settings

if TYPE_CHECKING:
    from stream.replay.file import Replayed
    from stream.replay.topics import RescoredTopics

FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("data", required=False)
@click.option(
    "--schema", type=FILE, help="What the columns of a file mean (TOML); docs/producing.md shows one."
)
@click.option("--topics", is_flag=True, help="Instead of DATA: what this installation decided, again.")
@click.option("--out", type=OUT, help="Where the decisions go: JSON lines, as on the topic scores.")
@click.option(
    "--checkpoint",
    type=FOLDER,
    help="Keep in this folder how far it came, and go on from there when run again.",
)
@click.option(
    "--checkpoint-every",
    type=SpanParameter(),
    default="60s",
    show_default=True,
    help="Keep it so often, and at Ctrl-C.",
)
@click.option(
    "--publish-every",
    type=SpanParameter(),
    default="0s",
    show_default=True,
    help="A model scores from the next multiple of so much event time on; 0: after every label.",
)
@click.option(
    "--label-delay",
    type=SpanParameter(),
    help="A label is known so long after its transaction [as the schema says: 7d].",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of a simulated world."
)
@click.option(
    "--explain",
    "explained",
    metavar="TRANSACTION_ID",
    help="With --topics: show what the model knew when it decided this one.",
)
@click.option("--json", "as_json", is_flag=True, help="With --explain: as JSON.")
@with_settings(
    *CONNECTION,
    "redis_cluster",
    "shards",
    "partitions",
    "batch_size",
    "model",
    "model_classes",
    "model_seed",
    "model_pickle",
    "model_key_file",
    "features_file",
    "negative_sampling_rate",
    "maturity",
    "label_wait",
    "decision_ttl",
    "policy",
    "review_share",
    "decline_share",
    "review_cost",
    "decline_cost",
    "max_event_bytes",
    "future_tolerance",
    "card_numbers",
    "card_number_exempt",
    "state_dir",
)
def replay(
    settings: Settings,
    data: str | None,
    schema: Path | None,
    topics: bool,
    out: Path | None,
    checkpoint: Path | None,
    checkpoint_every: float,
    publish_every: float,
    label_delay: float | None,
    seed: int,
    explained: str | None,
    as_json: bool,
) -> None:
    """Decide the DATA of the past as it would have been decided, label by label.

    DATA is a parquet or CSV file, or simulated:N for N transactions of a simulated world. The same data and
    settings give the same bytes, interrupted or not. With --topics every score of an installation is computed
    again from its features as served and the log of labels; exit code 1 where one differs in a bit.
    """
    if (data is None) != topics:
        raise click.UsageError("name DATA, or --topics" if data is None else "DATA or --topics, not both")
    if (explained is not None or as_json) and not topics:
        raise click.UsageError("--explain and --json go with --topics")
    if out is None and explained is None:
        raise click.UsageError("--out FILE: say where the decisions go")
    if topics:
        _topics(settings, out, explained, as_json)
        return
    from stream.experiment.progress import Bar  # noqa: PLC0415 - `--help` stays instant
    from stream.replay.file import FilePlan, replay_file, told_to_stop  # noqa: PLC0415

    assert data is not None and out is not None, "checked above"  # noqa: PT018 - one thought
    plan = FilePlan(
        data=data,
        out=out,
        schema=schema,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        label_delay=label_delay,
        publish_every=publish_every,
        seed=seed,
    )
    with told_to_stop() as stop, Bar() as bar:
        found = replay_file(plan, settings, stop=stop, progress=bar)
    for line in lines_of(found):
        click.echo(line)
    if not found.is_finished:
        again = " run it again to go on" if checkpoint else " (--checkpoint DIR would let it go on)"
        click.echo(f"interrupted: the decisions so far are in {out};{again}", err=True)
        sys.exit(130)  # as a shell tells of Ctrl-C


def lines_of(found: Replayed) -> list[str]:
    """What was done, for people."""
    counts = found.counts
    lines = list(found.lines)
    if found.resumed_at:
        lines.append(f"went on after {found.resumed_at:,} transactions")
    lines.append(
        f"{counts.transactions:,} transactions = {counts.decided:,} decided + "
        f"{counts.duplicates:,} duplicates + "
        f"{counts.transactions - counts.decided - counts.duplicates:,} rejected, {counts.alerts:,} alerts, "
        f"in {found.seconds:.1f} s"
    )
    lines.append(
        f"{counts.labels:,} labels ({counts.silent:,} assumed genuine), {counts.learned:,} learned; "
        f"{counts.models:,} models scored, the last is {counts.model or 'none'}"
    )
    if counts.rejected:
        lines.append(f"{counts.rejected:,} would be dead letters, the first: {counts.why}")
    return lines


def _topics(settings: Settings, out: Path | None, explained: str | None, as_json: bool) -> None:
    from stream.cli.progress import Bar  # noqa: PLC0415 - `--help` stays instant

    if explained is not None:
        import msgspec  # noqa: PLC0415 - `--help` stays instant

        from stream.cli.past.explain import show  # noqa: PLC0415
        from stream.inspect.explain import explain  # noqa: PLC0415

        with Bar() as bar:
            explanation = explain(settings, explained, progress=bar)
        if as_json:
            click.echo(msgspec.json.format(msgspec.json.encode(explanation)).decode())
        else:
            show(explanation)
        if out is None:
            sys.exit(0 if explanation.is_same and explanation.follows else 1)
    if out is None:
        return
    from stream.replay.topics import rebuild_scores  # noqa: PLC0415

    with Bar() as bar:
        found = rebuild_scores(settings, out, progress=bar)
    for line in rebuilt_lines(found):
        click.echo(line)
    sys.exit(0 if found.is_exact else 1)


def rebuilt_lines(found: RescoredTopics) -> list[str]:
    """What was made again, for people."""
    lines = [
        f"{found.decisions:,} decisions of {found.versions:,} models; {found.learned:,} examples learned",
        f"{found.scores:,} scores are equal to the bit, {found.different:,} differ"
        + (f", {found.unknown:,} have no model" if found.unknown else "")
        + f"; {found.whole:,} decisions are equal to the byte",
    ]
    if found.featureless:
        lines.append(f"{found.featureless:,} could not be judged: their features are not there any more")
    lines += [
        f"  {each.transaction_id} by {each.model_version}: recorded {each.recorded!r}, now {each.rebuilt!r}"
        for each in found.differences
    ]
    return [*lines, *(f"note: {remark}" for remark in found.remarks)]
