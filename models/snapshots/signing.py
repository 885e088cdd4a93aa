"""Ed25519 (RFC 8032): who holds the private key signs, everybody who has the public one can verify."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_BYTES = 32  # of either half
SIGNATURE_BYTES = 64
ID_BYTES = 8


def key_id(public: bytes) -> bytes:
    """How a key is named beside what it signed: the first bytes of its SHA-256."""
    return hashlib.sha256(public).digest()[:ID_BYTES]


class TrustedKeys:
    """Public keys, by id: whatever one of them signed is trusted.

    Args:
        publics: 32 bytes each.

    Raises:
        ValueError: one of them is no public key.
    """

    def __init__(self, publics: Iterable[bytes]) -> None:
        self._keys = {key_id(each): Ed25519PublicKey.from_public_bytes(each) for each in publics}

    @property
    def ids(self) -> list[str]:
        """Their ids, hexadecimal."""
        return sorted(each.hex() for each in self._keys)

    def knows(self, name: bytes) -> bool:
        """Whether there is a key of that id."""
        return name in self._keys

    def verify(self, name: bytes, signature: bytes, message: bytes) -> bool:
        """Whether the key of that id signed the message."""
        key = self._keys.get(name)
        if key is None:
            return False
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """A private key.

    Args:
        seed: 32 random bytes, secret.

    Raises:
        ValueError: they are fewer or more.

    >>> key = SigningKey(bytes(32))
    >>> key.trusted.verify(key.id, key.sign(b"model"), b"model")
    True
    """

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()
        self.id = key_id(self.public)
        self.trusted = TrustedKeys([self.public])

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self._key.sign(message)
