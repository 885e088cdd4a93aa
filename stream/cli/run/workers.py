"""riverwatch score, learn, monitor: the workers, until they are told to end."""

from __future__ import annotations

import os
import sys

import click

from stream.cli.options import CONNECTION, MODEL, with_settings
from stream.config.settings import Settings
from stream.config.signing_key import trusted_keys
from stream.runtime.crash_points import LEARN, SCORE, crash_point

WORKER = (
    *CONNECTION,
    "redis_cluster",
    "redis_allow_eviction",
    "shards",
    "partitions",
    "instance_id",
    "session_timeout",
)


@click.command()
@with_settings(
    *WORKER,
    *MODEL,
    "heartbeat_interval",
    "batch_size",
    "max_event_bytes",
    "future_tolerance",
    "card_numbers",
    "card_number_exempt",
    "decision_ttl",
    "features_in_scores",
    "policy",
    "review_share",
    "decline_share",
    "review_cost",
    "decline_cost",
    "log_level",
)
def score(settings: Settings) -> None:
    """Decide every transaction. As many of these as there are partitions share the work."""
    from stream.workers.run import run_score  # noqa: PLC0415 - `--help` stays instant

    trusted_keys(settings)
    sys.exit(run_score(settings, reached=crash_point(os.environ, SCORE)))


@click.command()
@with_settings(
    *WORKER,
    *MODEL,
    "maturity",
    "label_wait",
    "snapshot_interval",
    "decision_log",
    "decision_ttl",
    "state_dir",
    "log_level",
)
def learn(settings: Settings) -> None:
    """Learn from labels and publish models. One learns, further ones stand by."""
    from stream.workers.run import run_learn  # noqa: PLC0415 - `--help` stays instant

    sys.exit(run_learn(settings, reached=crash_point(os.environ, LEARN)))


@click.command()
@with_settings(*WORKER, "maturity", "metrics_interval", "quality_window", "cards_per_day", "log_level")
def monitor(settings: Settings) -> None:
    """Watch for drift and measure quality on matured labels. One is enough."""
    from stream.workers.run import run_monitor  # noqa: PLC0415 - `--help` stays instant

    sys.exit(run_monitor(settings))
