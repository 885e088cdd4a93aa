"""Settings as flags: each command takes those it needs; the rest is read as `stream.config.settings` says."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from infra.services import find_running
from stream.config.settings import (
    FIELDS,
    RENAMED,
    LoadedSettings,
    Settings,
    description,
    load,
    unknown_variables,
)

Command = TypeVar("Command", bound=Callable[..., Any])

CONNECTION = ("kafka_bootstrap", "redis_url", "topic_prefix", "group_prefix", "redis_prefix")
MODEL = (
    "model",
    "model_classes",
    "model_seed",
    "model_pickle",
    "model_key_file",
    "model_public_keys",
    "model_blob_dir",
    "installation",
    "features_file",
    "negative_sampling_rate",
)
"""What a model is made with and signed by: the same for whoever learns it, serves it or makes it again."""
SECRET = ("kafka_sasl_password", "model_key")


def loaded(flags: dict[str, Any]) -> LoadedSettings:
    """The settings in force: flags, environment, file, a running `riverwatch up`, defaults."""
    config = flags.pop("config", None)
    for line in unknown_variables(os.environ):
        click.echo(f"riverwatch: {line}", err=True)
    running = find_running()
    offer: dict[str, Any] = {}
    if running is not None:
        offer = {"kafka_bootstrap": running.bootstrap, "redis_url": running.redis_url}
        if (key := Path(running.state_dir) / "model.key").exists():
            offer["model_key_file"] = str(key)
        if (public := Path(running.state_dir) / "model.pub").exists():
            offer["model_public_keys"] = str(public)
        if (partitions := Path(running.state_dir) / "partitions").exists():
            offer["partitions"] = partitions.read_text()
    return load(flags, os.environ, config=Path(config) if config else None, running=offer)


def with_settings(*names: str) -> Callable[[Command], Command]:
    """Give a command the flags of some settings, and call it with the settings in force as `settings`."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def call(**arguments: Any) -> Any:
            flags = {name: arguments.pop(name) for name in names if name in arguments}
            flags["config"] = arguments.pop("config")
            return command(settings=loaded(flags).settings, **arguments)

        wrapped: Any = call
        for name in reversed(names):
            wrapped = click.option(_flag(name), name, default=None, metavar="VALUE", help=_help(name))(
                wrapped
            )
        wrapped = renamed_flags(*names)(wrapped)
        option = click.option(
            "--config",
            type=click.Path(dir_okay=False),
            help="A settings file [riverwatch.toml where there is one].",
        )
        decorated: Command = option(wrapped)
        return decorated

    return decorate


def renamed_flags(*names: str) -> Callable[[Command], Command]:
    """Have a command refuse the old flag of each of these settings, and name the new one."""

    def decorate(command: Command) -> Command:
        for old, new in RENAMED.items():
            if new in names:
                command = click.option(
                    _flag(old), expose_value=False, hidden=True, callback=functools.partial(_refuse, new)
                )(command)
        return command

    return decorate


def _refuse(new: str, _: click.Context, option: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError(f"{option.opts[0]}: the flag is named {_flag(new)} now: rename it")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _help(name: str) -> str:
    default = getattr(Settings(), name)
    shown = f" [{default}]" if default != "" else ""
    text = description(name)
    return f"{text[0].upper()}{text[1:]}{shown}."


ALL = tuple(name for name in FIELDS if name not in SECRET)
