"""riverwatch config: what is in force, and where each value came from."""

from __future__ import annotations

from typing import Any

import click

from stream.commands.options import ALL, loaded
from stream.settings import description, shown


@click.command()
@click.option("--config", "file", type=click.Path(dir_okay=False), help="A settings file.")
@click.option("--explain", is_flag=True, help="Say what each setting means.")
def config(file: str | None, explain: bool) -> None:
    """Show the settings in force and where each value came from; secrets are hidden."""
    flags: dict[str, Any] = dict.fromkeys(ALL)
    rows = shown(loaded(flags | {"config": file}))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, source in rows:
        click.echo(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}".rstrip())
        if explain:
            click.echo(f"    {description(name)}")
