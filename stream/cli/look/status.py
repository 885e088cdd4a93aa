"""riverwatch status: what runs, how far it is, what is down."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

from stream.cli.options import CONNECTION, with_settings
from stream.config.settings import Settings

if TYPE_CHECKING:
    from stream.adapters.redis.heartbeat import WorkerState
    from stream.inspect.status import EventAccount, Status


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@with_settings(*CONNECTION, "redis_cluster", "redis_allow_eviction", "shards", "partitions")
def status(settings: Settings, as_json: bool) -> None:
    """Show lag, rate, model, dead letters and what is down. Exit code 1 where something is."""
    from stream.inspect.status import look  # noqa: PLC0415 - `--help` stays instant

    found = look(settings)
    if as_json:
        click.echo(json.dumps(as_data(found), indent=2))
    else:
        click.echo(as_text(found))
    sys.exit(1 if found.down else 0)


_NOBODY = "no worker runs"
_UNKNOWN = "workers announce themselves in Redis: which of them run is not known until it serves"


def as_data(found: Status) -> dict[str, Any]:
    """The status for programs."""
    data: dict[str, Any] = msgspec.to_builtins(found)
    if found.account is not None:
        data["account"]["balanced"] = found.account.balanced
    return data


def as_text(found: Status) -> str:
    """The status for people."""
    lines = [f"Kafka  {found.kafka}", f"Redis  {found.redis}", ""]
    lines += [_worker(worker) for worker in found.workers]
    if not found.redis_serves:
        lines.append(_UNKNOWN)
    elif not found.workers:
        lines.append(_NOBODY)
    if found.lag:
        lines += ["", "lag    " + ", ".join(f"{name} {count:,}" for name, count in found.lag.items())]
    if found.account is not None:
        lines += ["", *_account(found.account)]
    if found.down:
        lines += ["", *(click.style(f"DOWN   {what}", fg="red", bold=True) for what in found.down)]
    if found.warnings:
        lines += ["", *(click.style(f"WARN   {what}", fg="yellow") for what in found.warnings)]
    return "\n".join(lines)


def _worker(worker: WorkerState) -> str:
    text = f"{worker.role:<7} {worker.worker:<24} {worker.rate:>8,.0f}/s"
    if worker.p99_ms:
        text += f"  p50 {worker.p50_ms:.0f} ms  p99 {worker.p99_ms:.0f} ms"
    if worker.model_version:
        text += f"  model {worker.model_version}"
    return text + (f"  WAITS: {worker.waiting}" if worker.waiting else "")


def _account(account: EventAccount) -> list[str]:
    sign = "" if account.balanced else f"  (differs by {account.difference:,}: events are in work, or lost)"
    events = (
        f"events {account.events:,} = {account.decided:,} decided + {account.duplicates:,} duplicates "
        f"+ {account.rejected:,} dead letters + {account.lag:,} to come"
    )
    return [
        events + sign,
        f"alerts {account.alerts:,}, labels {account.labels:,}, dead letters of all topics "
        f"{account.dead_letters:,}",
    ]
