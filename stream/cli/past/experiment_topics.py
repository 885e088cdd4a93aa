"""The part of `riverwatch experiment` that is about an installation's own topics."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from stream.cli.moment import Moment
from stream.cli.options import with_settings
from stream.config.settings import Settings

if TYPE_CHECKING:
    from stream.experiment.topics.range import TopicRange

Command = TypeVar("Command", bound=Callable[..., Any])

SETTINGS = (
    "kafka_bootstrap",
    "topic_prefix",
    "maturity",
    "label_wait",
    "decision_ttl",
    "max_event_bytes",
    "future_tolerance",
    "card_numbers",
    "card_number_exempt",
)

OPTIONS = (
    click.option("--topics", is_flag=True, help="Instead of DATA: this installation's payments and labels."),
    click.option(
        "--events",
        type=click.Choice(["transactions", "scores"]),
        default="transactions",
        show_default=True,
        help="With --topics: the topic that payments are taken from.",
    ),
    click.option("--from", "since", type=Moment(), help="With --topics: payments from this time on [all]."),
    click.option("--to", "until", type=Moment(), help="With --topics: payments before this time [all]."),
    click.option(
        "--offsets",
        multiple=True,
        metavar="TOPIC=LOW:HIGH,...",
        help="With --topics: these messages, a pair for each partition, as an earlier run names them [all].",
    ),
)  # fmt: skip


def with_topics(command: Command) -> Command:
    """Give the command the options, and call it with `topics`: the range that they name, or None."""

    @functools.wraps(command)
    def call(
        settings: Settings,
        topics: bool,
        events: Literal["transactions", "scores"],
        since: datetime | None,
        until: datetime | None,
        offsets: tuple[str, ...],
        **rest: Any,
    ) -> Any:
        if not topics and (since or until or offsets or events == "scores"):
            raise click.UsageError("--events, --from, --to and --offsets go with --topics")
        if "list" in rest["models"]:
            return command(topics=None, **rest)
        if topics:
            for name in ("data", "schema", "label_delay"):
                if rest[name] is not None:
                    shown = "DATA" if name == "data" else "--" + name.replace("_", "-")
                    raise click.UsageError(
                        f"--topics and {shown} do not go together: topics say for themselves what their "
                        "messages mean and when a label was known"
                    )
        elif rest["data"] is None:
            raise click.UsageError("name DATA, or --topics")
        ranged: TopicRange | None = None
        if topics:
            from stream.experiment.topics.range import find_range  # noqa: PLC0415 - `--help` stays instant

            ranged = find_range(settings, events=events, start=since, end=until, offsets=offsets)
            rest["data"] = f"topic {settings.topic(events)}"
            if rest["features"] is None and settings.features_file:
                rest["features"] = Path(settings.features_file)  # what production runs with
        return command(topics=ranged, **rest)

    wrapped: Any = with_settings(*SETTINGS)(call)
    for option in reversed(OPTIONS):
        wrapped = option(wrapped)
    decorated: Command = wrapped
    return decorated


def again(arguments: list[str], topics: TopicRange | None) -> list[str]:
    """The command line with the offsets that were read, so that it reads the same messages again."""
    if topics is None or "--offsets" in {each.partition("=")[0] for each in arguments}:
        return arguments
    return [*arguments, *topics.options]
