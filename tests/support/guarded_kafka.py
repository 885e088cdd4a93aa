"""An Apache Kafka with a listener of each kind and rights (ACLs), for what clients are refused."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
)
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from infra.apache_kafka import ApacheKafka
from infra.process import HOST, free_port

__all__ = ["PASSWORD", "USER", "AclOperation", "GuardedKafka", "ResourceType", "guarded_kafka"]

USER, PASSWORD = "worker", "right and secret"
_STORE = "changeit"  # guards a key that lives for a test


class GuardedKafka(NamedTuple):
    """Where it listens.

    Attributes:
        plain: for everybody, without limits.
        sasl: for `USER` with `PASSWORD`, who may do what was granted.
        tls: with a certificate that `ca` vouches for.
        lost: it answers, and names an address where nobody listens.
        gone: that address.
        ca: a PEM file.
    """

    plain: str
    sasl: str
    tls: str
    lost: str
    gone: str
    ca: Path

    def grant(self, *rights: tuple[ResourceType, str, AclOperation]) -> None:
        """Allow `USER` operations on resources by their prefix; what was granted before is gone."""
        admin = AdminClient({"bootstrap.servers": self.plain})
        whatever = AclBindingFilter(
            ResourceType.ANY,
            None,  # type: ignore[arg-type] # any name
            ResourcePatternType.ANY,
            f"User:{USER}",
            None,  # type: ignore[arg-type] # any host
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        for gone in admin.delete_acls([whatever]).values():
            gone.result(30)
        bindings = [
            AclBinding(
                kind,
                name,
                ResourcePatternType.PREFIXED,
                f"User:{USER}",
                "*",
                operation,
                AclPermissionType.ALLOW,
            )
            for kind, name, operation in rights
        ]
        for made in (admin.create_acls(bindings) if bindings else {}).values():
            made.result(30)


@contextmanager
def guarded_kafka(folder: Path) -> Iterator[GuardedKafka]:
    """One that ends with the block."""
    plain, sasl, tls, lost, gone, controller = (free_port() for _ in range(6))
    store, ca = folder / "broker.p12", folder / "ca.pem"
    key = ["-alias", "kafka", "-keystore", str(store), "-storepass", _STORE]
    made = ["-genkeypair", "-keyalg", "RSA", "-dname", f"CN={HOST}", "-ext", f"SAN=ip:{HOST}"]
    for command in ([*made, "-storetype", "PKCS12", *key], ["-exportcert", "-rfc", "-file", str(ca), *key]):
        subprocess.run(["keytool", *command], check=True, capture_output=True, timeout=60)
    named = {"SASL": sasl, "TLS": tls, "LOST": lost}
    listening = {"PLAINTEXT": plain, "CONTROLLER": controller, **named}
    advertised = {"PLAINTEXT": plain, **named, "LOST": gone}
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    settings = {
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in listening.items()),
        "advertised.listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in advertised.items()),
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,"
        "TLS:SSL,LOST:PLAINTEXT",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl.plain.sasl.jaas.config": f'{login} user_{USER}="{PASSWORD}";',
        "listener.name.tls.ssl.keystore.type": "PKCS12",
        "listener.name.tls.ssl.keystore.location": str(store),
        "listener.name.tls.ssl.keystore.password": _STORE,
        "listener.name.tls.ssl.key.password": _STORE,
    }
    with ApacheKafka(folder, plain, heap_mb=512, settings=settings):
        at = {"plain": plain, "sasl": sasl, "tls": tls, "lost": lost, "gone": gone}
        yield GuardedKafka(**{name: f"{HOST}:{port}" for name, port in at.items()}, ca=ca)
