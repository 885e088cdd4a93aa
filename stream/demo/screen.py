"""The demo for eyes: a live terminal, or plain lines where there is none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from stream.demo.board import Board, Point
from stream.inspect.alert_text import money
from stream.messages import Alert, DriftSignal

BLOCKS = "▁▂▃▄▅▆▇█"
COLOURS = {"review": "yellow", "decline": "red"}
WIDTH = 40


def sparkline(points: Sequence[Point], width: int = WIDTH) -> str:
    """The last values between 0 and 1 as a row of blocks.

    >>> from datetime import datetime, UTC
    >>> sparkline([Point(datetime(2025, 1, day, tzinfo=UTC), day / 4) for day in (1, 2, 4)])
    '▃▅█'
    """
    return "".join(BLOCKS[min(int(p.value * len(BLOCKS)), len(BLOCKS) - 1)] for p in points[-width:])


def picture(board: Board) -> str:
    """The screen as an SVG that needs nothing from anywhere."""
    console = Console(record=True, width=118, file=StringIO(), force_terminal=True)
    console.print(screen(board))
    svg = console.export_svg(title="riverwatch demo")
    # The fonts that rich would fetch from the web: the reader's own will do.
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def screen(board: Board) -> RenderableType:
    """Everything at a glance."""
    return Group(_head(board), _quality(board), _alerts(board), _drift(board))


def _head(board: Board) -> RenderableType:
    p50, p99 = board.latency
    time = f"{board.event_time:%a %d %b %Y}" if board.event_time else "-"
    table = Table.grid(expand=True, padding=(0, 2))
    for _ in range(5):
        table.add_column()
    table.add_row(
        _figure("event time", time),
        _figure("decisions", f"{board.total('score', 'decided'):,}"),
        _figure("events/s", f"{board.rate:,.0f}"),
        _figure("latency p50 / p99", f"{p50:.0f} / {p99:.0f} ms"),
        _figure("dead letters", f"{board.total('score', 'rejected'):,}"),
    )
    table.add_row(
        _figure("labels learned", f"{board.total('learn', 'learned'):,}"),
        _figure("model", board.model_version or "-"),
        _figure("reviews", f"{board.alert_counts['review']:,}"),
        _figure("declines", f"{board.alert_counts['decline']:,}"),
        _figure("workers", f"{len(board.workers)}"),
    )
    waiting = Text("; ".join(board.waiting), style="bold red")
    return Panel(
        Group(table, waiting) if board.waiting else table,
        title=f"[bold]riverwatch[/] · {board.phase}",
        border_style="cyan",
    )


def _figure(name: str, value: str) -> Text:
    return Text.assemble((value, "bold"), "\n", (name, "dim"))


def _quality(board: Board) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for name, text in (
        ("average_precision", "average precision"),
        (f"card_precision@{board.k}", f"card precision@{board.k}"),
        ("alert_precision", "alerts that were fraud"),
        ("alert_recall", "frauds that were alerted"),
    ):
        points = board.metrics.get(name, [])
        value = f"{points[-1].value:.3f}" if points else "   - "
        table.add_row(Text(text), Text(value, style="bold"), _marked(points, board))
    note = "on matured labels, day by day; the fraud pattern changes "
    note += f"on {board.changes_at:%d %b}" if not _changed(board) else f"here on {board.changes_at:%d %b}: ┃"
    return Panel(table, title="quality", subtitle=note, border_style="green")


def _changed(board: Board) -> bool:
    return board.event_time is not None and board.event_time >= board.changes_at


def _marked(points: Sequence[Point], board: Board) -> Text:
    shown = points[-WIDTH:]
    before = [point for point in shown if point.event_time < board.changes_at]
    after = [point for point in shown if point.event_time >= board.changes_at]
    bar = "┃" if after and before else ""
    return Text.assemble((sparkline(before), "green"), (bar, "bold magenta"), (sparkline(after), "green"))


def _alerts(board: Board) -> RenderableType:
    table = Table(expand=True, box=None, padding=(0, 1), show_edge=False)
    table.add_column("when", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("amount", justify="right", no_wrap=True)
    table.add_column("why", ratio=1, no_wrap=True, overflow="ellipsis")
    for alert in board.alerts:
        table.add_row(
            f"{alert.event_time:%d %b %H:%M}",
            Text(alert.action, style=f"bold {COLOURS.get(alert.action, '')}"),
            f"{alert.score:.0%}",
            money(alert.amount_minor, alert.currency),
            why(alert),
        )
    return Panel(table, title="alerts", border_style="yellow")


def why(alert: Alert) -> str:
    """The strongest reasons in a line."""
    return "; ".join(reason.text for reason in alert.reasons if reason.contribution > 0) or "no single reason"


def _drift(board: Board) -> RenderableType:
    lines = [Text(drift_line(signal)) for signal in board.drifts[-4:]] or [Text("none yet", style="dim")]
    return Panel(Group(*lines), title="drift", border_style="magenta")


def drift_line(signal: DriftSignal) -> str:
    """A drift signal for people."""
    before = "-" if signal.reference is None else f"{signal.reference:.3f}"
    change = f"{signal.signal} went from {before} to {signal.value:.3f}"
    return f"{signal.event_time:%d %b %H:%M}  {change} ({signal.detector})"


def plain_line(board: Board) -> str:
    """The state of things in one line, for logs."""
    p50, p99 = board.latency
    precision = board.metric("average_precision")
    cards = board.metric(f"card_precision@{board.k}")
    day = f"{board.event_time:%Y-%m-%d}" if board.event_time else "-"
    return (
        f"{day}  {board.total('score', 'decided'):>6,} decisions  {board.rate:>5,.0f}/s  "
        f"p50 {p50:.0f} ms p99 {p99:.0f} ms  {sum(board.alert_counts.values()):,} alerts  "
        f"{board.total('learn', 'learned'):,} labels learned  model {board.model_version or '-'}  "
        f"average precision {'-' if precision is None else f'{precision:.3f}'}  "
        f"card precision@{board.k} {'-' if cards is None else f'{cards:.3f}'}"
    )
