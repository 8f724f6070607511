"""Ed25519 keys: PKCS #8 and SubjectPublicKeyInfo in PEM, as openssl writes and reads them. Format: docs/spec/keys.md."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from stillrun_snapshot.errors import StillrunError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["KeyUnsound", "PrivateKey", "PublicKey"]


class KeyUnsound(StillrunError):
    """What should be a key is none, or one of another kind."""


class PublicKey:
    """A key that verifies."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self._key = key
        self.raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        self.keyid = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()

    @classmethod
    def of_pem(cls, pem: str, what: str = "the public key") -> PublicKey:
        """Return the key in ``pem``; raises KeyUnsound."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        try:
            key = load_pem_public_key(pem.encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyUnsound(f"{what} cannot be read: no public key in PEM stands there.") from error
        if not isinstance(key, Ed25519PublicKey):
            raise KeyUnsound(f"{what} is of another kind; Ed25519 keys are used here.")
        return cls(key)

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Return whether ``signature`` is this key's over ``data``."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


class PrivateKey:
    """A key that signs. It is never part of a store."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key())

    @classmethod
    def new(cls) -> PrivateKey:
        """Return a key that nobody has."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def of_pem(cls, pem: str, what: str = "the private key") -> PrivateKey:
        """Return the key in ``pem``; raises KeyUnsound."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(pem.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyUnsound(
                f"{what} cannot be read: no private key in PEM without a password stands there."
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyUnsound(f"{what} is of another kind; Ed25519 keys are used here.")
        return cls(key)

    @property
    def keyid(self) -> str:
        """The name of the key: SHA-256 of the public key in DER, in hexadecimal digits."""
        return self.public.keyid

    @property
    def pem(self) -> str:
        """The secret itself, PKCS #8 in PEM."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def sign(self, data: bytes) -> bytes:
        """Return the 64 bytes of the signature over ``data``."""
        return self._key.sign(data)
