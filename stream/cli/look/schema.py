"""riverwatch schema: the messages as JSON Schema, generated from the code."""

from __future__ import annotations

import json
from pathlib import Path

import click
import msgspec

from stream.messages import WIRE


def schemas() -> dict[str, str]:
    """The JSON Schema of each topic's message."""
    return {
        topic: json.dumps(msgspec.json.schema(message), indent=2, sort_keys=True) + "\n"
        for topic, message in WIRE.items()
    }


@click.command()
@click.argument("topic", type=click.Choice(list(WIRE)), required=False)
@click.option(
    "--write", type=click.Path(file_okay=False, path_type=Path), help="Write all of them to a folder."
)
def schema(topic: str | None, write: Path | None) -> None:
    """Print the JSON Schema of a topic's messages, or write all of them."""
    found = schemas()
    if write is not None:
        write.mkdir(parents=True, exist_ok=True)
        for name, text in found.items():
            (write / f"{name}.json").write_text(text, encoding="utf-8")
        click.echo(f"{len(found)} schemas in {write}")
    else:
        for name in [topic] if topic else found:
            click.echo(found[name], nl=False)
