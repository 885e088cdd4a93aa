"""What a worker may do with its topics (ACLs), asked of Kafka before it starts; its group says so itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.errors import failure
from stream.config.settings import Settings
from stream.ports import DependencyRefused

READ = {
    "score": ("transactions", "models", "scores", "alerts"),
    "learn": ("labels", "scores", "models"),
    "monitor": ("labels", "scores"),
}
WRITE = {
    "score": ("scores", "alerts", "dead-letters"),
    "learn": ("labels", "models", "dead-letters"),
    "monitor": ("drift",),
}
"""The topics of each role. `scores` and `alerts` are read again where Redis lost its last moments."""

_PATIENCE = 10.0


def check_rights(settings: Settings, role: str) -> None:
    """Whatever a role needs, this user may do. Where clients come without a name, it is not asked.

    Args:
        settings: addresses, credentials and topics.
        role: score, learn or monitor.

    Raises:
        DependencyRefused: rights are missing; names all of them.
        DependencyDown: Kafka does not answer.
    """
    if settings.kafka_security_protocol == "PLAINTEXT":
        return
    client = confluent(settings)
    admin = AdminClient(client)
    wanted = [("READ", settings.topic(name)) for name in READ[role]]
    wanted += [("WRITE", settings.topic(name)) for name in WRITE[role]]
    allowed = _of_topics(admin, client, dict.fromkeys(name for _, name in wanted))
    missing = [f"{right} of topic {name}" for right, name in wanted if right not in allowed[name]]
    if missing:
        who = settings.kafka_sasl_username
        raise DependencyRefused(
            f"Kafka ({settings.kafka_bootstrap}) refuses {', '.join(missing)} to "
            f"{f'the user {who} (RIVERWATCH_KAFKA_SASL_USERNAME)' if who else 'this client'}; grant it with "
            "`kafka-acls --add`"
        )


def hidden_topics(settings: Settings, names: Iterable[str]) -> list[str]:
    """Those topics of which this user may not know whether they are there."""
    if settings.kafka_security_protocol == "PLAINTEXT" or not (asked := list(names)):
        return []
    client = confluent(settings)
    allowed = _of_topics(AdminClient(client), client, asked)
    return [name for name in asked if "DESCRIBE" not in allowed[name]]


def _of_topics(admin: AdminClient, client: dict[str, Any], names: Iterable[str]) -> dict[str, set[str]]:
    """What may be done with each topic; with one that is missing, everything that matters here."""
    found: dict[str, set[str]] = {}
    asked = admin.describe_topics(
        TopicCollection(list(names)), include_authorized_operations=True, request_timeout=_PATIENCE
    )
    for name, future in asked.items():
        try:
            operations: list[Any] = future.result(_PATIENCE).authorized_operations or []
            found[name] = {operation.name for operation in operations}
        except KafkaException as error:
            code = error.args[0].code()
            if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                found[name] = set()
            elif code == KafkaError.UNKNOWN_TOPIC_OR_PART:  # said by the check of the topics
                found[name] = {"READ", "WRITE", "DESCRIBE"}
            else:
                raise failure(client, error, about=f"topic {name}") from error
    return found
