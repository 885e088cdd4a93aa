"""riverwatch verify: whether the promises hold on this installation."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from stream.cli.moment import Moment
from stream.cli.options import CONNECTION, MODEL, with_settings
from stream.cli.progress import Bar
from stream.config.settings import Settings

if TYPE_CHECKING:
    from stream.verify.promises import AuditReport, Promise

COLOURS = {"holds": "green", "broken": "red", "not judged": "yellow"}


@click.command()
@click.option("--from", "start", type=Moment(), help="Judge events that came to Kafka from then on [all].")
@click.option("--to", "end", type=Moment(), help="... and before then. Profiles and labels are judged whole.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@with_settings(
    *CONNECTION,
    "redis_cluster",
    "shards",
    "partitions",
    *MODEL,
    "decision_ttl",
    "max_event_bytes",
    "future_tolerance",
    "card_numbers",
    "card_number_exempt",
)
def verify(settings: Settings, start: datetime | None, end: datetime | None, as_json: bool) -> None:
    """Check every promise on this installation, from the topics and Redis alone.

    Everything is computed again and compared to the bit; workers may run meanwhile. The settings must be
    those that the workers run with. Exit code 1 where a promise is broken.
    """
    from stream.verify.audit import Audit  # noqa: PLC0415 - `--help` stays instant
    from stream.verify.event_judge import ALWAYS  # noqa: PLC0415

    within = (start.timestamp() if start else ALWAYS[0], end.timestamp() if end else ALWAYS[1])
    with Bar() as bar:
        report = Audit(settings, within=within, progress=bar).run()
    click.echo(json.dumps(as_data(report), indent=2) if as_json else as_text(report))
    sys.exit(1 if report.is_broken else 0)


def as_data(report: AuditReport) -> dict[str, Any]:
    """The report for programs."""
    return {"is_broken": report.is_broken, "promises": msgspec.to_builtins(report.promises)}


def as_text(report: AuditReport) -> str:
    """The report for people."""
    lines = [line for promise in report.promises for line in _promise(promise)]
    broken = [str(promise.number) for promise in report.promises if promise.verdict == "broken"]
    end = f"BROKEN: promise {', '.join(broken)}" if broken else "no promise is broken"
    return "\n".join([*lines, "", click.style(end, fg="red" if broken else "green", bold=True)])


def _promise(promise: Promise) -> list[str]:
    verdict = click.style(f"{promise.verdict.upper():<10}", fg=COLOURS[promise.verdict], bold=True)
    lines = [f"{promise.number} {verdict} {promise.text}", f"             {promise.judged}"]
    for found in promise.breaks:
        lines.append(click.style(f"           {found.count:>7,} x {found.what}", fg="red"))
        lines += [f"                     {example}" for example in found.examples]
        if found.count > len(found.examples):
            lines.append(f"                     and {found.count - len(found.examples):,} more")
    lines += [f"             note: {remark}" for remark in promise.remarks[:5]]
    if len(promise.remarks) > 5:  # noqa: PLR2004 - as many as one reads
        lines.append(f"             and {len(promise.remarks) - 5:,} more notes (--json has all)")
    return lines
