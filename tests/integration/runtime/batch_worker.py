"""A worker process for the tests of the batch stream: it writes down what it handled, and may fail.

Each line of the log is `partition offset value`; a line is written when the record has been handled.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from stream.runtime.app import BatchTopic, Record, Retry, TopicPartition, create_batch_app, run_app


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--instance-id")
    parser.add_argument("--fail-on", help="the value of the record that cannot be handled")
    parser.add_argument("--stop-on", help="the value of the record that makes the handler ask for a stop")
    parser.add_argument("--max-records", type=int, default=500)
    parser.add_argument("--seconds-a-batch", type=float, default=0.0)
    args = parser.parse_args()
    log = os.open(args.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def handle(records: list[Record]) -> None:
        lines: list[str] = []
        for record in records:
            value = (record.value or b"").decode()
            if value == args.fail_on:
                os.write(log, "".join(lines).encode())
                raise ValueError(f"{value} cannot be handled")
            if value == args.stop_on:
                app.request_stop()
                raise Retry("the handler asked for a stop")
            lines.append(f"{record.partition} {record.offset} {value}\n")
        time.sleep(args.seconds_a_batch)
        os.write(log, "".join(lines).encode())

    def say_assigned(held: frozenset[TopicPartition]) -> None:
        if held:
            os.write(log, f"# assigned {len(held)}\n".encode())

    app = create_batch_app(
        app_id=args.group,
        bootstrap=args.bootstrap,
        topics=[BatchTopic(args.topic, handle, name="handle", max_records=args.max_records)],
        instance_id=args.instance_id,
        session_timeout=6.0,
        heartbeat_interval=0.5,
        on_assigned=say_assigned,
    )
    return run_app(app)


if __name__ == "__main__":
    sys.exit(main())
