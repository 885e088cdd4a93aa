"""riverwatch experiment: how good a model would have been, with every label at the time it really came."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.scoring.calibration import NEGATIVE_SAMPLING_RATE
from stream.cli.look.quality import DayParameter
from stream.cli.options import renamed_flags
from stream.cli.past.experiment_topics import again, with_topics
from stream.config.settings import seconds

if TYPE_CHECKING:
    from rich.table import Table

    from stream.experiment.measures.results import Experiment, Measures
    from stream.experiment.topics.range import TopicRange

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUT = click.Path(dir_okay=False, writable=True, path_type=Path)


class SpanParameter(click.ParamType):
    """A duration such as 7d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        try:
            return seconds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.argument("data", required=False)
@click.option(
    "--schema", type=FILE, help="What the columns of a file mean (TOML); docs/producing.md shows one."
)
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("default",),
    show_default=True,
    help="A model's name, or module:function that returns a River model; repeat it for several, side by "
    "side. `--model list` lists the names.",
)
@click.option("--features", type=FILE, help="A feature specification (TOML) [the default one].")
@click.option(
    "--label-delay",
    type=SpanParameter(),
    help="A label is known so long after its transaction [as the schema says: 7d].",
)
@click.option(
    "--evaluate-from", type=DayParameter(), help="Measure from this day on [four weeks after the first]."
)
@click.option("--evaluate-to", type=DayParameter(), help="Up to this day, itself not included [the last].")
@click.option("--drop-known-cards", is_flag=True, help="Leave out, each day, cards already known defrauded.")
@renamed_flags("negative_sampling_rate")
@click.option(
    "--negative-sampling-rate",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    default=NEGATIVE_SAMPLING_RATE,
    show_default=True,
    help="Share of genuine transactions that is learned.",
)
@click.option(
    "--review-share",
    type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
    help="The alert budget: share of transactions that people look at.",
)
@click.option(
    "--review-cost",
    type=click.FloatRange(0.0),
    default=5.0,
    show_default=True,
    help="What looking at an alert costs, major units.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Same seed, same result."
)
@click.option(
    "--inject",
    multiple=True,
    metavar="CHANGE",
    help='A change put into the data, such as "amount*1.5 @ 2018-07-01" or "swap-frauds @ 2018-07-01".',
)
@click.option(
    "--bootstrap",
    "rounds",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="Draws of cards for the intervals; 0 for none.",
)
@click.option("--json", "json_file", type=OUT, help="Write the result as JSON.")
@click.option("--report", "report_file", type=OUT, help="Write a page (HTML) that opens anywhere.")
@with_topics
def experiment(
    data: str,
    topics: TopicRange | None,
    schema: Path | None,
    models: tuple[str, ...],
    features: Path | None,
    label_delay: float | None,
    evaluate_from: datetime | None,
    evaluate_to: datetime | None,
    drop_known_cards: bool,
    negative_sampling_rate: float,
    review_share: float,
    review_cost: float,
    seed: int,
    inject: tuple[str, ...],
    rounds: int,
    json_file: Path | None,
    report_file: Path | None,
) -> None:
    """Predict, wait for the label, learn: over the DATA of the past, as it would have been.

    DATA is a parquet or CSV file, or simulated:N for N transactions of a simulated world. With --topics:
    the payments and labels of an installation's own topics, all that Kafka holds or a range of it.
    """
    if "list" in models:
        _list_models()
        return
    from stream.experiment.measures.results import as_json  # noqa: PLC0415
    from stream.experiment.progress import Bar  # noqa: PLC0415
    from stream.experiment.report.page import as_html  # noqa: PLC0415
    from stream.experiment.run import Plan, run_experiment  # noqa: PLC0415 - `--help` stays instant
    from stream.policy import Policy  # noqa: PLC0415

    plan = Plan(
        data=data,
        topics=topics,
        schema=schema,
        models=models,
        features=features,
        label_delay=label_delay,
        evaluate_from=evaluate_from,
        evaluate_to=evaluate_to,
        drop_known_cards=drop_known_cards,
        negative_sampling_rate=negative_sampling_rate,
        seed=seed,
        inject=inject,
        policy=Policy(
            review_share=review_share,
            decline_share=min(review_share, Policy().decline_share),
            review_cost=review_cost,
        ),
        rounds=rounds,
    )
    with Bar() as bar:
        found = run_experiment(plan, progress=bar)
    if json_file is not None:
        json_file.write_bytes(as_json(found))
    if report_file is not None:
        report_file.write_text(as_html(found, command_of(again(sys.argv, topics))), encoding="utf-8")
    _show(found)
    for what in (json_file, report_file):
        if what is not None:
            click.echo(f"wrote {what}", err=True)
    if found.is_partial:
        sys.exit(130)  # as a shell tells of Ctrl-C


def command_of(arguments: list[str]) -> str:
    """The command line again, without the folders of the machine it ran on."""
    import shlex  # noqa: PLC0415 - only here

    def shown(text: str) -> str:
        return Path(text).name if "/" in text and "@" not in text and ":" not in text else text

    return shlex.join(["riverwatch", *map(shown, arguments[1:])])


def _list_models() -> None:
    from models.scoring.registry import MODELS  # noqa: PLC0415 - `--help` stays instant

    for name, known in MODELS.items():
        click.echo(f"{name:18} {known.meaning}")


def _show(found: Experiment) -> None:
    from rich.console import Console  # noqa: PLC0415 - `--help` stays instant

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=130)  # a file or a pipe has no width of its own
    if found.is_partial:
        console.print("interrupted: what was seen until then is measured", style="bold")
    for line in found.account.lines:
        console.print(line)
    console.print(_table(found))
    first = next(iter(found.models.values()))
    if len(first.weeks) > 1:
        console.print(_weeks(found))
    if found.injected is not None:
        for name, one in found.injected.models.items():
            recovered = (
                "not recovered"
                if one.recovered_days is None
                else f"recovered after {one.recovered_days} days"
            )
            noticed = ", ".join(f"{signal} {hours:.0f} h" for signal, hours in one.detection_hours.items())
            console.print(
                f"{name}: {found.injected.changed:,} transactions changed; noticed by "
                f"{noticed or 'nothing'}; {one.false_alarms} false alarms before; average precision lost "
                f"{one.quality_lost:.3f} (frozen {one.quality_lost_frozen:.3f}); {recovered}"
            )
    console.print(
        "AP: average precision; CP: card precision; precision and recall at the alert budget; ECE: expected "
        "calibration error; us: CPU an event. In brackets: 95 % intervals over cards.",
        style="dim",
    )


def _table(found: Experiment) -> Table:
    from rich.table import Table  # noqa: PLC0415 - `--help` stays instant

    table = Table(
        title=f"{found.data}, {found.evaluated_from} to {found.evaluated_to} (not included)",
        title_justify="left",
    )
    for name in ("model", "AP", "AUC", "CP@100", "precision", "recall", "ECE", "saved", "lost", "us"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for name, one in found.models.items():
        table.add_row(
            name,
            _sure(one, "average_precision"),
            f"{one.roc_auc:.3f}",
            _sure(one, "card_precision_at_100"),
            f"{one.precision:.3f}",
            f"{one.recall:.3f}",
            f"{one.expected_calibration_error:.4f}",
            f"{one.money_saved:,.0f}",
            f"{one.money_lost:,.0f}",
            f"{one.microseconds_per_event:.1f}",
        )
    return table


def _sure(one: Measures, name: str) -> str:
    value, interval = getattr(one, name), one.intervals.get(name)
    return f"{value:.3f}" + (f" [{interval.low:.3f}, {interval.high:.3f}]" if interval else "")


def _weeks(found: Experiment) -> Table:
    from rich.table import Table  # noqa: PLC0415 - `--help` stays instant

    from stream.experiment.report.formatting import figure  # noqa: PLC0415

    table = Table(title="average precision by week", title_justify="left")
    table.add_column("from")
    for name in found.models:
        table.add_column(name, justify="right")
    by_week: dict[str, dict[str, float]] = {}
    for name, one in found.models.items():
        for week in one.weeks:
            by_week.setdefault(week.start, {})[name] = week.average_precision
    for start, values in sorted(by_week.items()):
        table.add_row(start, *(figure(values[name]) if name in values else "" for name in found.models))
    table.add_row("mean", *(figure(one.mean_weekly_average_precision) for one in found.models.values()))
    return table
