"""What Kafka's errors mean: what passes and is waited for, and what a person must end.

librdkafka's own sentence is kept. Where it says only that there is no answer, the brokers are asked why: what
their listeners speak, what they answer to these credentials, and whether the addresses they name are reached.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from stream.adapters.kafka.listener import address, spoken_by, unreachable
from stream.ports import DependencyDown, DependencyRefused

_PATIENCE = 3.0  # seconds in which a broker says why it does not serve

_SILENT = (
    KafkaError._TRANSPORT,  # noqa: SLF001 - their only names, here and below
    KafkaError._TIMED_OUT,  # noqa: SLF001
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    KafkaError._RESOLVE,  # noqa: SLF001
    KafkaError._TIMED_OUT_QUEUE,  # noqa: SLF001
    KafkaError._MSG_TIMED_OUT,  # noqa: SLF001
    KafkaError._DESTROY,  # noqa: SLF001
    KafkaError._WAIT_COORD,  # noqa: SLF001
)
"""Codes that tell no cause."""

_GRANT = "grant it with `kafka-acls --add`"
_RIGHTS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "READ, WRITE or DESCRIBE of a topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "READ of a consumer group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "a right on the cluster (IDEMPOTENT_WRITE, CREATE or ALTER)",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "a transactional id",
}

_MECHANISM = re.compile(r"unsupported sasl mechanism", re.IGNORECASE)
_CERTIFICATE = re.compile(r"certificate|unknown ca|hostname mismatch", re.IGNORECASE)
_AGES = re.compile(r" ?\(after \d+ms in state \w+[^)]*\)")

_quiet = logging.getLogger(__name__)
_quiet.setLevel(logging.CRITICAL)


def failure(
    client: Mapping[str, Any], failed: KafkaException | KafkaError, *, about: str = ""
) -> DependencyDown | DependencyRefused:
    """The exception that an error of Kafka's is raised as: `DependencyRefused` where waiting mends nothing.

    Args:
        client: configuration of the confluent-kafka client that had it.
        failed: what it had.
        about: what was wanted, such as `topic scores`.
    """
    error: KafkaError = failed.args[0] if isinstance(failed, KafkaException) else failed
    place = client.get("bootstrap.servers")
    text = f"{about}: {error.str()}" if about else error.str()
    if (right := _RIGHTS.get(error.code())) is not None:
        return DependencyRefused(f"Kafka ({place}) refuses {right} ({text}) to {_who(client)}; {_GRANT}")
    if error.code() not in _SILENT:
        return DependencyDown(f"Kafka ({place}): {text}")
    lasting, why = _cause(client)
    if lasting:
        return DependencyRefused(f"Kafka ({place}): {why}")
    return DependencyDown(f"Kafka ({place}): {text}{f' ({why})' if why else ''}")


def metadata(client: Mapping[str, Any], admin: AdminClient, *, timeout: float) -> Any:
    """What the brokers say of themselves and their topics, once they are reached at the addresses they name.

    Args:
        client: configuration of the confluent-kafka client.
        admin: that client.
        timeout: seconds, > 0.

    Raises:
        DependencyDown, DependencyRefused: no answer.
    """
    found: Any = None
    for wait in (min(_PATIENCE, timeout), timeout):
        try:
            found = admin.list_topics(timeout=wait)
            break
        except KafkaException as error:  # it waits for the whole of its time, whatever the brokers refuse
            why = failure(client, error)
            if isinstance(why, DependencyRefused) or wait == timeout:
                raise why from error
    if why_not := _not_advertised(client, found.brokers):
        raise DependencyRefused(f"Kafka ({client.get('bootstrap.servers')}): {why_not}")
    return found


def lasting_cause(client: Mapping[str, Any]) -> str | None:
    """Why brokers do not serve this client and will not; None where waiting may help, or they do serve.

    Args:
        client: configuration of a confluent-kafka client.
    """
    lasting, why = _cause(client)
    return f"Kafka ({client.get('bootstrap.servers')}): {why}" if lasting else None


def _not_advertised(client: Mapping[str, Any], brokers: Mapping[int, Any]) -> str:
    places = {(broker.host, broker.port) for broker in brokers.values()}
    missing = unreachable(places)
    if not places or len(missing) < len(places):
        return ""
    named = ", ".join(f"{host}:{port} ({why})" for (host, port), why in sorted(missing.items()))
    return (
        f"it answers at {client.get('bootstrap.servers')} and says that its brokers are at {named}, which "
        "cannot be reached from here: set advertised.listeners of the brokers to addresses that clients "
        "reach, or RIVERWATCH_KAFKA_BOOTSTRAP to the listener that is meant for this network"
    )


def _who(client: Mapping[str, Any]) -> str:
    name = client.get("sasl.username")
    return f"the user {name} (RIVERWATCH_KAFKA_SASL_USERNAME)" if name else "whoever comes without a name"


def _cause(client: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether the cause of a silence lasts, and the cause, empty where none is known."""
    protocol = str(client.get("security.protocol", "PLAINTEXT")).upper()
    bootstrap = str(client.get("bootstrap.servers", "")).split(",")
    missing = unreachable({address(text) for text in bootstrap})
    if len(missing) == len({address(text) for text in bootstrap}):
        return False, ", ".join(f"connect to {host}:{port}: {why}" for (host, port), why in missing.items())
    for text in bootstrap:
        speaks = spoken_by(address(text))
        if speaks not in (None, protocol):
            return True, (
                f"the listener at {text.strip()} speaks {speaks} and RIVERWATCH_KAFKA_SECURITY_PROTOCOL says "
                f"{protocol}: set it to {speaks}, or RIVERWATCH_KAFKA_BOOTSTRAP to a listener for {protocol}"
            )
    return _answer_to(client)


def _answer_to(client: Mapping[str, Any]) -> tuple[bool, str]:
    """What the brokers answer to a client with these credentials, and whether that lasts."""
    heard: list[KafkaError] = []
    kept: dict[str, Any] = {
        name: value for name, value in client.items() if name.split(".")[0] in ("bootstrap", "security")
    }
    kept |= {name: value for name, value in client.items() if name.split(".")[0] in ("sasl", "ssl")}
    try:
        asking: Any = {**kept, "logger": _quiet, "error_cb": heard.append}
        admin = AdminClient(asking)
    except KafkaException as error:  # a file that cannot be read, a mechanism that this client lacks
        return True, str(error.args[0].str())
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        try:
            brokers = admin.list_topics(timeout=0.5).brokers
        except KafkaException:
            admin.poll(0.1)
        else:
            why = _not_advertised(client, brokers)
            return bool(why), why
        for told in heard:
            if (remedy := _remedy(client, told)) is not None:
                return True, remedy
    telling = [told for told in heard if told.code() != KafkaError._ALL_BROKERS_DOWN]  # noqa: SLF001
    return False, _AGES.sub("", telling[-1].str()) if telling else ""


def _remedy(client: Mapping[str, Any], error: KafkaError) -> str | None:
    """What librdkafka says and what to do, where it is something that lasts."""
    said = _AGES.sub("", error.str())
    if error.code() == KafkaError._AUTHENTICATION:  # noqa: SLF001
        if _MECHANISM.search(said):
            return f"{said}: set RIVERWATCH_KAFKA_SASL_MECHANISM to one of the broker's"
        return (
            f"{said}: check RIVERWATCH_KAFKA_SASL_USERNAME ({client.get('sasl.username') or 'not set'}) and "
            "RIVERWATCH_KAFKA_SASL_PASSWORD"
        )
    if error.code() == KafkaError._SSL and _CERTIFICATE.search(said):  # noqa: SLF001
        return (
            f"{said}: set RIVERWATCH_KAFKA_SSL_CA_FILE to the certificate authority that signed the brokers' "
            "certificates, and RIVERWATCH_KAFKA_BOOTSTRAP to a name that they carry"
        )
    return None
