"""Signed envelopes: DSSE v1, which cosign, in-toto and a few lines of openssl read. Format: docs/spec/signature.md."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Protocol

from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.errors import StillrunError

__all__ = ["EnvelopeUnsound", "Opened", "Signer", "Verifier", "envelope", "open_envelope", "pre_authentication"]


class EnvelopeUnsound(StillrunError):
    """An envelope is none, or no signature in it is that of a key it is checked with."""


class Signer(Protocol):
    """Whoever signs. ``keyid`` names the key that verifies: SHA-256 of its public key (DER), 64 hexadecimal digits."""

    @property
    def keyid(self) -> str:
        """The name of the key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Return the signature over ``data``."""
        ...


class Verifier(Protocol):
    """A public key."""

    @property
    def keyid(self) -> str:
        """The name of the key."""
        ...

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Return whether ``signature`` is this key's over ``data``."""
        ...


@dataclass(frozen=True)
class Opened:
    """What an envelope holds, and the keys whose signatures over it are sound."""

    payload: bytes
    keyids: tuple[str, ...]


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: type and payload with their lengths, so that neither can pass for the other."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def envelope(payload_type: str, payload: bytes, *signers: Signer) -> dict[str, Any]:
    """Return ``payload`` in an envelope that each of ``signers`` has signed."""
    signed = pre_authentication(payload_type, payload)
    signatures = [{"keyid": each.keyid, "sig": base64.b64encode(each.sign(signed)).decode()} for each in signers]
    return {"payload": base64.b64encode(payload).decode(), "payloadType": payload_type, "signatures": signatures}


def open_envelope(
    held: Mapping[str, Any], payload_type: str, verifiers: Mapping[str, Verifier], what: str = "the envelope"
) -> Opened:
    """Return the payload and the keys of ``verifiers`` that signed it; signatures of other keys are passed over.

    what: how messages name it. Raises EnvelopeUnsound when it is of another type, when a signature of a known key is wrong,
    or when none of the known keys has signed.
    """
    try:
        payload = base64.b64decode(held["payload"], validate=True)
        signatures = [(str(each["keyid"]), base64.b64decode(each["sig"], validate=True)) for each in held["signatures"]]
        kind = held["payloadType"]
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise EnvelopeUnsound(
            f"{what} is no signed envelope (DSSE): {error!r}. Get it anew from whoever made it."
        ) from error
    if kind != payload_type:
        raise EnvelopeUnsound(f"{what} holds {str(kind)[:100]!r}; {payload_type!r} was expected.")
    signed, good = pre_authentication(payload_type, payload), []
    for keyid, signature in signatures:
        verifier = verifiers.get(keyid)
        if verifier is None:
            continue
        if not verifier.verifies(signature, signed):
            raise EnvelopeUnsound(
                f"the signature of key {keyid[:16]} in {what} is wrong: what was signed was changed, or the signature was. "
                "Do not rely on it; ask its signer to sign again."
            )
        good.append(keyid)
    if not good:
        told = ", ".join(keyid[:16] for keyid, _ in signatures) or "nobody"
        raise EnvelopeUnsound(f"{what} is signed by {told}, and that is no key that is known here.")
    return Opened(payload, tuple(good))
