"""`riverwatch`: exit code 0 done, 1 failed, 2 wrong usage; a failure is one line that says what to do."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import Any

import click

from infra import compiled_modules as compiled

# Where each command lives. Modules are imported when their command is called: `--help` stays instant.
COMMANDS = {
    "demo": "stream.cli.run.demo:demo",
    "up": "stream.cli.run.up:up",
    "topics": "stream.cli.run.topics:topics",
    "adopt": "stream.cli.run.adopt:adopt",
    "keys": "stream.cli.run.keys:keys",
    "score": "stream.cli.run.workers:score",
    "learn": "stream.cli.run.workers:learn",
    "monitor": "stream.cli.run.workers:monitor",
    "produce": "stream.cli.run.produce:produce",
    "alerts": "stream.cli.look.alerts:alerts",
    "status": "stream.cli.look.status:status",
    "quality": "stream.cli.look.quality:quality",
    "verify": "stream.cli.look.verify:verify",
    "profile": "stream.cli.look.profile:profile",
    "rebuild": "stream.cli.past.rebuild:rebuild",
    "experiment": "stream.cli.past.experiment:experiment",
    "replay": "stream.cli.past.replay:replay",
    "features": "stream.cli.look.features:features",
    "config": "stream.cli.look.config:config",
    "schema": "stream.cli.look.schema:schema",
}


class Commands(click.Group):
    """The commands, each imported when it is needed, and one line for what goes wrong."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Their names, in the order in which one meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
        """The command of a name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run, and turn an expected failure into its line."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            raise click.ClickException(_line(error)) from error


def _line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    expected = type(error).__module__.partition(".")[0] in ("stream", "models", "producers", "infra")
    if expected:
        return text
    return f"{type(error).__name__}: {text} (`riverwatch --debug ...` shows where)"


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="Streaming fraud detection that keeps learning. Start with `riverwatch demo`.",
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(package_name="riverwatch")
def riverwatch(debug: bool) -> None:  # noqa: D103 - its help is above
    logging.captureWarnings(True)
    if debug:
        logging.basicConfig(level=logging.DEBUG)


def main() -> None:
    """The entry point."""
    compiled.use()
    try:
        riverwatch(prog_name="riverwatch")
    except BrokenPipeError:  # the reader (head, less) has had enough
        sys.exit(0)
