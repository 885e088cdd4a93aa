"""How this installation's Kafka is reached: one place for addresses and credentials, for both clients."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

from stream.config.settings import Settings, SettingsError

MAX_MESSAGE = 8_000_000  # bytes: room for a model
# librdkafka says each lost connection on its own; workers say once what is missing.
_quiet = logging.getLogger(__name__)
_quiet.setLevel(logging.CRITICAL)


def confluent(settings: Settings, **more: Any) -> dict[str, Any]:
    """The configuration of a confluent-kafka client.

    Args:
        settings: addresses and credentials.
        more: further keys, underscores for dots.
    """
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap,
        "security.protocol": settings.kafka_security_protocol,
        "logger": _quiet,
        "reconnect.backoff.max.ms": 1000,
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        config |= {
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.username": settings.kafka_sasl_username,
            "sasl.password": str(settings.kafka_sasl_password),
        }
    if settings.kafka_ssl_ca_file:
        if not Path(settings.kafka_ssl_ca_file).is_file():
            raise SettingsError(f"kafka_ssl_ca_file = {settings.kafka_ssl_ca_file}: there is no such file")
        config["ssl.ca.location"] = settings.kafka_ssl_ca_file
    return config | {key.replace("_", "."): value for key, value in more.items()}


def faust_credentials(settings: Settings) -> Any:
    """The same for Faust; None where the brokers speak plain text."""
    protocol = settings.kafka_security_protocol
    if protocol == "PLAINTEXT":
        return None
    import faust  # noqa: PLC0415 - slow to import, and most installations of a tool need none of it

    context = ssl.create_default_context(cafile=settings.kafka_ssl_ca_file or None)
    if protocol == "SSL":
        return faust.SSLCredentials(context)
    return faust.SASLCredentials(
        username=settings.kafka_sasl_username,
        password=str(settings.kafka_sasl_password),
        mechanism=settings.kafka_sasl_mechanism,
        ssl_context=context if protocol == "SASL_SSL" else None,
    )
