"""riverwatch keys: the learner's private key, and the public half that everybody else verifies with."""

from __future__ import annotations

from pathlib import Path

import click

from stream.cli.options import with_settings
from stream.config.settings import Settings


@click.group()
def keys() -> None:
    """Make and show the keys that models are signed and verified with."""


@keys.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def new(file: Path) -> None:
    """Make a pair: the private key in FILE, for the learner alone, the public one beside it (.pub)."""
    from stream.config.signing_key import new_key  # noqa: PLC0415 - `--help` stays instant

    key = new_key(file)
    click.echo(f"key {key.id.hex()}")
    click.echo(f"RIVERWATCH_MODEL_KEY_FILE={file}  # the learner")
    click.echo(f"RIVERWATCH_MODEL_PUBLIC_KEYS={file.with_suffix('.pub')}  # all others")


@keys.command()
@with_settings("model_key_file", "model_public_keys")
def show(settings: Settings) -> None:
    """Show the id of the key that signs here, and of those that are trusted here."""
    from stream.config.signing_key import signing_key, trusted_keys  # noqa: PLC0415 - as above

    if settings.model_key or settings.model_key_file:
        key = signing_key(settings)
        click.echo(f"signs    {key.id.hex()}  public key {key.public.hex()}")
    for name in trusted_keys(settings).ids:
        click.echo(f"trusted  {name}")
