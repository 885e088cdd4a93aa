"""What runs, how far it is, and what is down: asked of Kafka and Redis from the side."""

from __future__ import annotations

import msgspec
from confluent_kafka.admin import AdminClient

from stream.adapters.clients import make_store, redis_client
from stream.adapters.kafka.admin import (
    TopicMismatch,
    check_topics,
    how_to_go_on,
    is_another,
    topic_ids,
)
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.reader import TopicReader
from stream.adapters.kafka.unread import progress_of
from stream.adapters.redis.errors import passing
from stream.adapters.redis.heartbeat import WorkerState, check_announcing, workers
from stream.adapters.redis.logs import RedisLogs
from stream.adapters.redis.probe import probe
from stream.adapters.redis.shards import place_of_url
from stream.config.factories import feature_spec
from stream.config.redis_url import without_password
from stream.config.settings import Settings
from stream.ports import DependencyDown, DependencyRefused


class EventAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Events in = decided + duplicates + dead letters + to come.

    Attributes:
        events: in the topic of transactions, committed.
        decided: decisions recorded, each transaction once.
        duplicates: further events of a transaction.
        rejected: events that became dead letters.
        lag: events not acknowledged yet.
        dead_letters: messages in their topic, of transactions and labels, redelivered ones included.
    """

    events: int
    decided: int
    duplicates: int
    rejected: int
    lag: int
    alerts: int
    labels: int
    dead_letters: int

    @property
    def difference(self) -> int:
        """What the equation lacks: events that are in work right now, or were lost."""
        return self.events - self.decided - self.duplicates - self.rejected - self.lag

    @property
    def balanced(self) -> bool:
        """Nothing lacks."""
        return self.difference == 0


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How things stand.

    Attributes:
        kafka, redis: where, and whether they answer.
        redis_serves: whether Redis does, writes too; workers announce themselves in it.
        lag: of each group and topic, the messages not acknowledged.
        down: what is, a sentence each.
        warnings: what will soon be, or is lost when something fails, a sentence each.
    """

    kafka: str
    redis: str
    redis_serves: bool
    workers: list[WorkerState]
    lag: dict[str, int]
    account: EventAccount | None
    down: list[str]
    warnings: list[str] = []


COUNTED = ("transactions", "scores", "labels", "alerts", "dead-letters")
FOLLOWED = (
    ("score", "transactions"),
    ("learn", "scores"),
    ("learn", "labels"),
    ("monitor", "scores"),
    ("monitor", "labels"),
)

SIZED_BY = (("score", "transactions"), ("learn", "labels"))
"""Topics that others write to, in transactions perhaps; and who counts what they hold."""


def look(settings: Settings) -> Status:
    """Ask Kafka, Redis and the workers."""
    down: list[str] = []
    warnings: list[str] = []
    sizes: dict[str, int] = {}
    lag: dict[str, int] = {}
    counts: dict[str, int] | None = None
    kafka_answers = redis_serves = False
    running: list[WorkerState] = []
    try:
        check_topics(settings)
        bounds = {name: _bounds(settings, name) for name in COUNTED}
        sizes = {name: sum(high - low for low, high in found.values()) for name, found in bounds.items()}
        for role, name in FOLLOWED:
            done = progress_of(settings, settings.group(role), settings.topic(name), bounds=bounds[name])
            lag[f"{role} on {name}"] = sum(each.lag for each in done.values())
            # Records, not offsets: those that hold none are no events.
            records = sum(
                each.acknowledged - bounds[name][number][0] - each.passed + each.lag
                for number, each in done.items()
            )
            if (role, name) in SIZED_BY:
                sizes[name] = records
        kafka_answers = True
    except TopicMismatch as error:  # it answers, and has other topics than the settings say
        kafka_answers = True
        down.append(str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what `status` has to tell
        down.append(str(error))
    try:
        client = redis_client(settings)
        store = make_store(settings, feature_spec(settings), client)
        counts = store.counts()
        if sizes:
            down += other_logs(settings, RedisLogs(client, settings.redis_prefix))
        with passing(place_of_url(settings.redis_url)):
            running = workers(client, prefix=settings.redis_prefix)
            check_announcing(client, prefix=settings.redis_prefix)
        redis_serves = True
        place = place_of_url(settings.redis_url)
        found = probe(client, place, allow_eviction=settings.redis_allow_eviction)
        down += [finding.text for finding in found.losing]
        warnings += [finding.text for finding in found.warnings]
    except (DependencyDown, DependencyRefused) as error:
        down.append(str(error))
    down += [
        f"no {role} worker runs"
        for role in ("score", "learn", "monitor")
        if redis_serves and not any(worker.role == role for worker in running)
    ]
    down += [f"{worker.role} {worker.worker} waits: {worker.waiting}" for worker in running if worker.waiting]
    down += [f"{worker.role} {worker.worker}: {worker.trouble}" for worker in running if worker.trouble]
    account = None
    if sizes and counts is not None:
        account = EventAccount(
            events=sizes["transactions"],
            decided=counts["decided"],
            duplicates=counts["duplicates"],
            rejected=counts["rejected"],
            lag=lag["score on transactions"],
            alerts=sizes["alerts"],
            labels=sizes["labels"],
            dead_letters=sizes["dead-letters"],
        )
        down += lacking(account)
    place = without_password(settings.redis_url)
    return Status(
        kafka=f"{settings.kafka_bootstrap} {_serves(kafka_answers)}",
        redis=f"{place} {_serves(redis_serves)}",
        redis_serves=redis_serves,
        workers=running,
        lag=lag,
        account=account,
        down=down,
        warnings=warnings,
    )


def lacking(account: EventAccount) -> list[str]:
    """What is down where all is acknowledged and not all has an outcome."""
    if account.lag > 0 or account.difference <= 0:
        return []
    return [
        f"{account.difference:,} events are acknowledged and have neither decision nor dead letter: "
        "`riverwatch verify` names them"
    ]


def other_logs(settings: Settings, logs: RedisLogs) -> list[str]:
    """The topics that are not those that were worked on, whether or not a worker runs that says so.

    Raises:
        DependencyDown: Redis does not answer.
    """
    topics = {settings.topic(name): name for name in ("transactions", "labels", "scores", "dead-letters")}
    known = logs.known(topics.values())
    return [
        f"{topic} is not the log that was worked on (its id was {noted.topic_id} and is {topic_id}): "
        f"{how_to_go_on(topics[topic])}"
        for topic, topic_id in topic_ids(AdminClient(confluent(settings)), topics).items()
        if (noted := known.get(topics[topic])) is not None and is_another(noted.topic_id, topic_id)
    ]


def _serves(answers: bool) -> str:
    return "answers" if answers else "DOES NOT SERVE"


def _bounds(settings: Settings, name: str) -> dict[int, tuple[int, int]]:
    with TopicReader(settings, settings.topic(name)) as reader:
        return reader.bounds()
