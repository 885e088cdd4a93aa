"""riverwatch alerts: what needs action, as it comes."""

from __future__ import annotations

import heapq
import sys

import click

from stream.cli.options import CONNECTION, with_settings
from stream.config.settings import Settings
from stream.inspect.alert_text import line
from stream.messages import alert_decoder


@click.command()
@click.option("--follow", is_flag=True, help="Go on with new ones until Ctrl-C.")
@click.option("--last", type=click.IntRange(min=0), default=20, show_default=True, help="How many past ones.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as on the topic.")
@with_settings(*CONNECTION)
def alerts(settings: Settings, follow: bool, last: int, as_json: bool) -> None:
    """Show alerts: decisions to review or decline, with their reasons. Each alert is shown once."""
    from stream.adapters.kafka.reader import TopicReader  # noqa: PLC0415 - `--help` stays instant

    with TopicReader(settings, settings.topic("alerts")) as reader:
        bounds = reader.bounds()
        ends = {number: high for number, (_, high) in bounds.items()}
        starts = {number: max(low, high - last) for number, (low, high) in bounds.items()}
        past = (
            heapq.nlargest(
                last, reader.until_end(from_offsets=starts), key=lambda record: record.timestamp_ms
            )
            if last
            else []
        )
        seen: set[str] = set()
        for record in reversed(past):
            show(record.value or b"", as_json, seen)
        if not follow:
            return
        reader.start(ends)
        try:
            while True:
                for record in reader.poll(0.2):
                    show(record.value or b"", as_json, seen)
        except KeyboardInterrupt:
            return


def show(value: bytes, as_json: bool, seen: set[str]) -> None:
    """Print an alert, unless it was seen."""
    alert = alert_decoder.decode(value)
    if alert.alert_id in seen:
        return
    seen.add(alert.alert_id)
    if as_json:
        sys.stdout.write(value.decode() + "\n")
        sys.stdout.flush()
    else:
        click.echo(line(alert))
