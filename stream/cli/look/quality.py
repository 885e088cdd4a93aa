"""riverwatch quality: how complete and how good the decisions are, from the topics alone."""

from __future__ import annotations

import json
import math
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from stream.cli.options import CONNECTION, with_settings
from stream.config.settings import Settings, seconds

if TYPE_CHECKING:
    from stream.inspect.quality import QualityReport, WindowQuality


class DayParameter(click.ParamType):
    """YYYY-MM-DD, midnight UTC."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The midnight, UTC, that begins the day."""
        try:
            return datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError:
            self.fail(f"{value} is no day: write YYYY-MM-DD", param, ctx)


@click.command()
@click.option(
    "--from",
    "start",
    type=DayParameter(),
    default=None,
    help="Measure from this day on [the first decision].",
)
@click.option(
    "--to", "end", type=DayParameter(), default=None, help="Up to this day, itself not included [the last]."
)
@click.option("--k", type=click.IntRange(min=1), default=100, show_default=True, help="Cards checked a day.")
@click.option(
    "--label-delay",
    default="7d",
    show_default=True,
    help="A fraud is known so long after its event; `labels`: when its label says.",
)
@click.option(
    "--known-cards", is_flag=True, help="Keep cards already known defrauded (published figures drop them)."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@with_settings(*CONNECTION)
def quality(
    settings: Settings,
    start: datetime | None,
    end: datetime | None,
    k: int,
    label_delay: str,
    known_cards: bool,
    as_json: bool,
) -> None:
    """Check that every event has one decision, and measure the decisions against their labels.

    Reads only the topics. Exit code 1 where an event is lost or decided twice differently.
    """
    from stream.adapters.kafka.client import confluent  # noqa: PLC0415 - `--help` stays instant
    from stream.inspect.quality import QualityProtocol, QualityTopics, quality_from_topics  # noqa: PLC0415

    topics = QualityTopics(*map(settings.topic, ("transactions", "scores", "labels", "dead-letters")))
    report = quality_from_topics(
        settings.kafka_bootstrap,
        topics=topics,
        start=start,
        end=end,
        protocol=QualityProtocol(
            k=k,
            drop_known_cards=not known_cards,
            label_delay=None if label_delay == "labels" else seconds(label_delay),
        ),
        client=confluent(settings),
        progress=_progress,
    )
    if sys.stderr.isatty():
        click.echo("\r" + " " * 79 + "\r", nl=False, err=True)
    click.echo(json.dumps(as_data(report, k), indent=2) if as_json else as_text(report, k))
    if not report.completeness.is_complete:
        raise click.ClickException("some events have no decision, or more than one: see above")


def _progress(topic: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{topic}: {done:,} of {total:,} messages read ", nl=False, err=True)


def as_data(report: QualityReport, k: int) -> dict[str, Any]:
    """The report for programs."""
    return {
        "completeness": report.completeness._asdict() | {"is_complete": report.completeness.is_complete},
        "overall": _window(report.overall, k),
        "weeks": [_window(week, k) for week in report.weeks],
        "mean_weekly_average_precision": _number(report.mean_weekly_average_precision),
    }


def _window(found: WindowQuality, k: int) -> dict[str, Any]:
    return {
        "from": found.window.start.isoformat(),
        "to": found.window.end.isoformat(),
        "transactions": found.transactions,
        "frauds": found.frauds,
        "of_known_cards": found.of_known_cards,
        "average_precision": _number(found.average_precision),
        "roc_auc": _number(found.roc_auc),
        f"card_precision_at_{k}": _number(found.card_precision),
        "alert_precision": _number(found.precision),
        "alert_recall": _number(found.recall),
        "expected_calibration_error": _number(found.calibration_error),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def as_text(report: QualityReport, k: int) -> str:
    """The report for people."""
    found = report.completeness
    lines = [
        f"{found.events:,} events = {found.decided:,} decided + {found.dead_letters:,} dead letters "
        f"+ {found.missing:,} missing",
        f"{found.decisions:,} transactions decided; {found.repeated_events:,} events came again; "
        f"{found.duplicates:,} decisions were sent again, the same to the byte; {found.differing:,} differ",
        "",
        f"{'':>10} {'decisions':>10} {'frauds':>7} {'AP':>6} {'AUC':>6} {f'CP@{k}':>7} "
        f"{'precision':>9} {'recall':>6} {'ECE':>6}",
    ]
    lines += [_row(week.window.name, week) for week in report.weeks]
    lines += [
        _row("all", report.overall),
        f"mean of {len(report.weeks)} weeks: AP {report.mean_weekly_average_precision:.3f}",
        "AP: average precision; AUC: area under ROC; CP: card precision; precision and recall of the alerts; "
        "ECE: expected calibration error",
    ]
    return "\n".join(lines)


def _row(name: str, found: WindowQuality) -> str:
    return (
        f"{name:>10} {found.transactions:>10,} {found.frauds:>7,} {found.average_precision:>6.3f} "
        f"{found.roc_auc:>6.3f} {found.card_precision:>7.3f} {found.precision:>9.3f} {found.recall:>6.3f} "
        f"{found.calibration_error:>6.3f}"
    )
