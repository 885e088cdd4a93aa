"""riverwatch demo: everything at once, on this machine."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import click

_NEXT = """\
What next:
  riverwatch up                     Kafka and Redis on this machine, for as long as you like
  riverwatch score / learn / monitor, each in its own terminal
  riverwatch produce simulate --events 20000 --rate 500
  riverwatch alerts --follow        riverwatch status"""


@click.command()
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=7,
    show_default=True,
    help="The same seed, the same payments.",
)
@click.option("--keep", is_flag=True, help="Stay up after the stream has ended, until Ctrl-C.")
@click.option(
    "--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the summary as JSON."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=5),
    default=95.0,
    show_default=True,
    help="How long the weeks take.",
)
@click.option(
    "--picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw the last screen as SVG."
)
def demo(seed: int, keep: bool, file: Path | None, seconds: float, picture: Path | None) -> None:
    """Stream some simulated weeks of payments through Kafka, Redis and the workers; about two minutes."""
    from rich.console import Console  # noqa: PLC0415 - `--help` stays instant

    from infra.services import clear_running, write_running  # noqa: PLC0415
    from stream.demo.screen import picture as drawn  # noqa: PLC0415
    from stream.demo.screen import screen  # noqa: PLC0415
    from stream.demo.show import Demo, demo_folder  # noqa: PLC0415

    # An end that is asked for ends everything in order.
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    console = Console()
    with demo_folder() as folder:
        showing = Demo(seed=seed, seconds=seconds, console=console, folder=folder)
        try:
            with showing.services() as settings:
                write_running(folder, settings.kafka_bootstrap, settings.redis_url, os.getpid(), "embedded")
                (folder / "partitions").write_text(str(settings.partitions))
                showing.run(settings)
                if console.is_terminal:
                    console.print(screen(showing.board))
                summary = showing.board.summary()
                _tell(summary, showing.board.k)
                if file is not None:
                    file.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
                    click.echo(f"the summary is in {file}")
                if picture is not None:
                    picture.write_text(drawn(showing.board), encoding="utf-8")
                if keep:
                    click.echo("still up; `riverwatch status` in another terminal; Ctrl-C ends it")
                    signal.pause()
        except KeyboardInterrupt:
            click.echo("ended")
        finally:
            showing.stop()
            clear_running(os.getpid())
    click.echo(_NEXT)


def _tell(summary: dict[str, Any], k: int) -> None:
    precision = summary["average_precision"]

    def share(value: float | None) -> str:
        return "not measured" if value is None else f"{value:.3f}"

    click.echo(
        f"\n{summary['transactions']:,} transactions, {summary['decisions']:,} decisions, "
        f"{summary['dead_letters']:,} dead letters; {summary['alerts']['decline']:,} declined, "
        f"{summary['alerts']['review']:,} to review; {summary['labels_learned']:,} labels learned "
        f"({summary['model_version']})\n"
        f"latency p50 {summary['latency_ms']['p50']} ms, p99 {summary['latency_ms']['p99']} ms at up to "
        f"{summary['peak_events_per_second']:,} events/s\n"
        f"average precision {share(precision['before_change'])} before the fraud pattern changed, "
        f"{share(precision['lowest_after'])} at the lowest after it, {share(precision['end'])} at the end; "
        f"card precision@{k} {share(summary[f'card_precision_at_{k}'])}\n"
        f"first drift signal after the change: {summary['first_signal_after_change'] or 'none'}\n"
    )
