"""riverwatch profile: what is known of a card, a merchant, a device."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click
import msgspec

from stream.cli.moment import Moment
from stream.cli.options import CONNECTION, with_settings
from stream.cli.progress import Bar
from stream.config.settings import Settings

if TYPE_CHECKING:
    from stream.inspect.entity_view import View


@click.command()
@click.argument("entity")
@click.option("--at", type=Moment(), help="As it was at that event time, computed again from the logs [now].")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@with_settings(
    *CONNECTION, "redis_cluster", "shards", "partitions", "features_file", "negative_sampling_rate"
)
def profile(settings: Settings, entity: str, at: datetime | None, as_json: bool) -> None:
    """Show what is known of an ENTITY: a card, or merchant:ID, device:ID, ...: any kind of the features.

    Exit code 1 where nothing is known of it.
    """
    from stream.inspect.entity import as_it_stands, as_it_was  # noqa: PLC0415 - `--help` stays instant

    if at is None:
        found = as_it_stands(settings, entity)
    else:
        with Bar() as bar:
            found = as_it_was(settings, entity, at, progress=bar)
    if not found.events and not found.labels:
        raise click.ClickException(
            f"nothing is known of {found.entity}{f' at {at}' if at else ''}: is the ID right?"
        )
    click.echo(msgspec.json.format(msgspec.json.encode(found)).decode() if as_json else as_text(found))


def as_text(found: View) -> str:
    """The view for people."""
    lines = [
        click.style(found.entity, bold=True) + f", as of {_day(found.at)}",
        f"events   {found.events:,}, from {_day(found.first)} to {_day(found.last)}",
        f"labels   {found.frauds:,} fraud, {found.genuine:,} genuine"
        + (
            f"; frauds from {_day(found.first_fraud)} to {_day(found.last_fraud)}" if found.last_fraud else ""
        ),
        "",
        f"{'half-life':>9} {'events':>9} {'amount':>14} {'usual amount':>13} {'spread':>7} {'outliers':>9} "
        f"{'frauds':>7} {'genuine':>8}",
    ]
    for span in found.spans:
        usual = "" if span.usual_amount is None else f"{span.usual_amount:,.2f}"
        spread = "" if span.spread is None else f"x{span.spread:.2f}"
        lines.append(
            f"{span.half_life:>9} {span.events:>9,.2f} {span.amount:>14,.2f} {usual:>13} {spread:>7} "
            f"{span.outliers:>9,.2f} {span.frauds:>7,.2f} {span.genuine:>8,.2f}"
        )
    if found.recent:
        lines += ["", "last events, the latest first (amounts in minor units)"]
    for each in found.recent:
        amount = f"{each.amount_minor:>10,}"
        lines.append(
            f"  {_day(each.event_time)}  {amount}  {each.merchant_id}  {each.country or ''}".rstrip()
        )
    return "\n".join(lines)


def _day(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}" if time else "-"
