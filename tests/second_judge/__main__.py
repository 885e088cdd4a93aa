"""Ask the second judge: exit code 0 where it is content, 1 with its findings, 2 where it cannot judge.

python -m tests.second_judge --bootstrap 127.0.0.1:9092 --redis redis://127.0.0.1:6379/0
"""

from __future__ import annotations

import argparse
import sys

from tests.second_judge.admission import Rules
from tests.second_judge.judging import Names, examine
from tests.second_judge.topics import TopicError


def main(arguments: list[str] | None = None) -> int:
    """Judge an installation with the default feature specification."""
    parser = argparse.ArgumentParser(
        prog="second_judge", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bootstrap", required=True, help="of Kafka, HOST:PORT")
    parser.add_argument("--redis", required=True, help="redis://HOST:PORT/DB")
    parser.add_argument("--cluster", action="store_true", help="the URL leads to a Redis Cluster")
    parser.add_argument("--redis-prefix", default="rw", help="of every key [%(default)s]")
    parser.add_argument("--topic-prefix", default="", help="of every topic")
    for role in ("score", "learn"):
        parser.add_argument(
            f"--{role}-group", default=f"riverwatch-{role}", help="consumer group [%(default)s]"
        )
    parser.add_argument("--max-event-bytes", type=int, default=65_536, help="[%(default)s]")
    parser.add_argument("--future-tolerance", type=float, default=3600.0, help="seconds [%(default)s]")
    parser.add_argument("--allow-card-numbers", action="store_true", help="the setting card_numbers is allow")
    chosen = parser.parse_args(arguments)
    transactions, scores, alerts, labels, dead_letters = (chosen.topic_prefix + name for name in Names()[:5])
    names = Names(transactions, scores, alerts, labels, dead_letters, chosen.score_group, chosen.learn_group)
    try:
        opinion = examine(
            chosen.bootstrap,
            names,
            chosen.redis,
            redis_prefix=chosen.redis_prefix,
            cluster=chosen.cluster,
            rules=Rules(chosen.max_event_bytes, chosen.future_tolerance, not chosen.allow_card_numbers),
        )
    except TopicError as error:
        print(f"cannot judge: {error}", file=sys.stderr)  # noqa: T201 - a report
        return 2
    print(opinion.figures)  # noqa: T201 - a report
    for finding in opinion.findings:
        print(finding)  # noqa: T201 - a report
    return 1 if opinion.findings else 0


if __name__ == "__main__":
    sys.exit(main())
