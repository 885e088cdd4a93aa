"""Payments in topics and in a file, the same ones: what experiments over both are held against."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from confluent_kafka import Producer

from producers.publish.publish import PUBLISHING
from producers.sources.open_source import open_source
from stream.adapters.kafka.client import confluent
from stream.config.settings import Settings
from stream.experiment.measures.results import Experiment, as_json, without_time
from stream.experiment.run import Plan, run_experiment
from stream.experiment.topics.range import find_range
from stream.messages import Label, Transaction, encode
from tests.support.payment_files import write_payments

START = datetime(2026, 1, 5, tzinfo=UTC)
DAYS, A_DAY, PARTITIONS = 12, 150, 3
PLAIN: dict[str, Any] = {"rounds": 0, "negative_sampling_rate": 0.5}
Item = Transaction | Label


class Topics:
    """The topics of one test."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._producer = Producer({**confluent(settings), **PUBLISHING})

    def send(self, topic: str, key: bytes | None, value: bytes | None, at: datetime | None = None) -> None:
        """Hand a record over; its time is now, or as said."""
        stamp = 0 if at is None else math.ceil(at.timestamp() * 1000)
        self._producer.produce(self.settings.topic(topic), key=key, value=value, timestamp=stamp)

    def publish(self, items: Sequence[Item], *, in_time: bool = False) -> None:
        """Send, durably; `in_time`: as if each had come when it says."""
        for item in items:
            if isinstance(item, Transaction):
                at = item.event_time if in_time else None
                self.send("transactions", item.card_id.encode(), encode(item), at)
            else:
                at = item.known_at if in_time else None
                self.send("labels", item.transaction_id.encode(), encode(item), at)
        self.flush()

    def flush(self) -> None:
        assert self._producer.flush(30) == 0


def payments_file(folder: Path, *, first: int = 0, last: int = DAYS * A_DAY) -> tuple[Path, Path]:
    """Payments, no two of one moment."""
    chance = Random(5)
    rows = []
    for number in range(DAYS * A_DAY):
        day, place = divmod(number, A_DAY)
        time = START + timedelta(days=day, seconds=place * 570 + chance.randrange(500))
        fraud = chance.random() < 0.06
        amount = chance.lognormvariate(5.5 if fraud else 3.5, 0.6)
        known = time + timedelta(hours=24 + chance.randrange(48), microseconds=number + 1)
        row = [f"p{number}", time.isoformat(), f"c{chance.randrange(60)}", f"m{chance.randrange(20)}"]
        row += [f"{amount:.2f}", chance.choice(["DE", "FR"]), str(int(fraud)), known.isoformat()]
        rows.append(row)
    return write_payments(folder, rows[first:last], name=f"payments{first}-{last}")


def items_of(file: tuple[Path, Path]) -> list[Item]:
    return list(open_source(str(file[0]), schema=file[1], label_delay=None, seed=1).items)


def shuffled(items: Sequence[Item], within: int) -> list[Item]:
    """As a busy producer sends: everything near its place, nothing at it."""
    chance, found = Random(3), list(items)
    for at in range(0, len(found), within):
        part = found[at : at + within]
        chance.shuffle(part)
        found[at : at + within] = part
    return found


def of_topics(topics: Topics, **changed: Any) -> Experiment:
    names = {"events", "start", "end", "offsets"} & changed.keys()
    ranged = find_range(topics.settings, **{name: changed.pop(name) for name in names})
    return run_experiment(Plan(data="topic", topics=ranged, **{**PLAIN, **changed}))


def figures(found: Experiment) -> Any:
    told = without_time(json.loads(as_json(found)))
    return [told[name] for name in ("models", "alarms", "evaluated_from", "evaluated_to")]
