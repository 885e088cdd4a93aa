"""What a broker's listener speaks, asked of it in a few bytes and without a credential."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterable

_WAIT = 2.0  # seconds for a connection, and for an answer
_MECHANISM = b"none of these"  # that no broker knows: a listener with SASL names its own, another refuses
_NOT_SASL = 34  # ILLEGAL_SASL_STATE: what a listener without SASL says of a handshake
_LONGEST = 1 << 16


def address(text: str) -> tuple[str, int]:
    """Host and port of `host:port`; 9092 where none is said, as clients have it.

    >>> address(" kafka:9093"), address("[::1]:9092"), address("kafka")
    (('kafka', 9093), ('::1', 9092), ('kafka', 9092))
    """
    text = text.strip().rpartition("://")[2]
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal():
        return text.strip("[]"), 9092
    return host.strip("[]"), int(port)


def unreachable(places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """The addresses to which no connection can be made now, and why."""
    found = {}
    for place in places:
        try:
            socket.create_connection(place, _WAIT).close()
        except OSError as error:
            found[place] = error.strerror or str(error)
    return found


def spoken_by(place: tuple[str, int]) -> str | None:
    """The security protocol of a listener; None where it does not say: it is away, silent, or no Kafka."""
    try:
        with socket.create_connection(place, _WAIT) as plain:
            sasl = _has_sasl(plain)
        if sasl is not None:
            return "SASL_PLAINTEXT" if sasl else "PLAINTEXT"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # nothing that matters is sent: it is only asked what it speaks
        with (
            socket.create_connection(place, _WAIT) as plain,
            context.wrap_socket(plain, server_hostname=place[0]) as secured,
        ):
            sasl = _has_sasl(secured)
    except OSError:
        return None
    return None if sasl is None else "SASL_SSL" if sasl else "SSL"


def _has_sasl(connection: socket.socket) -> bool | None:
    """What the answer to a SASL handshake says; None where no broker's answer comes."""
    # SaslHandshake, version 1: key, version, correlation, client's name, mechanism.
    request = struct.pack(">hhih4sh", 17, 1, 1, 4, b"rw-?", len(_MECHANISM)) + _MECHANISM
    try:
        connection.settimeout(_WAIT)
        connection.sendall(struct.pack(">i", len(request)) + request)
        (length,) = struct.unpack(">i", _read(connection, 4))
        if not 6 <= length <= _LONGEST:  # noqa: PLR2004 - correlation and error code
            return None
        correlation, code = struct.unpack(">ih", _read(connection, 6))
    except (OSError, struct.error):
        return None
    return None if correlation != 1 else code != _NOT_SASL


def _read(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count and (part := connection.recv(count - len(found))):
        found += part
    return found
