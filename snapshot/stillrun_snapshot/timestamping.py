"""Time stamps of an authority over a few bytes (RFC 3161): asked for over HTTP, checked with its certificate.

Where they stand: docs/spec/checkpoint.md, section 5. `openssl ts -verify` checks the same files.
"""

from __future__ import annotations

import hashlib
import secrets
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from stillrun_snapshot._der import Value, encode, integer, object_identifier, parse
from stillrun_snapshot.clock import timestamp
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.errors import StillrunError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

__all__ = ["Stamp", "StampRefused", "StampUnsound", "authorities_of", "check_stamp", "request_stamp"]

_SHA256 = "2.16.840.1.101.3.4.2.1"
_HASHES = {
    object_identifier("2.16.840.1.101.3.4.2.1"): "sha256",
    object_identifier("2.16.840.1.101.3.4.2.2"): "sha384",
    object_identifier("2.16.840.1.101.3.4.2.3"): "sha512",
}
_TST_INFO = object_identifier("1.2.840.113549.1.9.16.1.4")
_CONTENT_TYPE = object_identifier("1.2.840.113549.1.9.3")
_MESSAGE_DIGEST = object_identifier("1.2.840.113549.1.9.4")
_ANSWER_MAX = 1 << 20
_SECONDS = 30


class StampRefused(StillrunError):
    """The authority cannot be reached, or gives no time stamp."""


class StampUnsound(StillrunError):
    """A time stamp is none, is over other bytes, or its signature is wrong."""


@dataclass(frozen=True)
class Stamp:
    """When an authority saw the bytes. signer: as its certificate says; known: whether a handed authority issued that."""

    time: str
    signer: str
    known: bool


def request_stamp(url: str, data: bytes) -> bytes:
    """Return the authority's answer over ``data``, a TimeStampResp. Only a hash is sent. Raises StampRefused, StampUnsound."""
    if not url.startswith(("http://", "https://")):
        raise StampRefused(f"{url[:100]!r} is no address of a time stamp authority: http:// or https:// is.")
    nonce = secrets.randbits(64)
    query = encode(0x30, [integer(1), _imprint(hashlib.sha256(data).digest()), integer(nonce), encode(0x01, b"\xff")])
    headers = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}
    asked = urllib.request.Request(url, query, headers)  # noqa: S310 - its scheme was looked at
    try:
        with urllib.request.urlopen(asked, timeout=_SECONDS) as answer:  # noqa: S310 - likewise
            reply: bytes = answer.read(_ANSWER_MAX)
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise StampRefused(
            f"the time stamp authority {url} does not answer: {getattr(error, 'reason', error)}. "
            "Try again later; the checkpoint is good without it."
        ) from error
    if _told(reply).nonce != nonce:
        raise StampUnsound(f"the time stamp authority {url} answered another question. Nothing was written.")
    check_stamp(reply, data)
    return reply


def check_stamp(reply: bytes, data: bytes, authorities: Sequence[Certificate] = ()) -> Stamp:
    """Return what a TimeStampResp says of ``data``. authorities: certificates of those that the caller relies on.

    Raises StampUnsound when it is over other bytes, its signature is wrong, or its certificate is not one for time stamps.
    """
    from cryptography.exceptions import UnsupportedAlgorithm

    told = _told(reply)
    if told.imprint != _imprint(hashlib.sha256(data).digest()):
        raise StampUnsound("the time stamp is over other bytes: the file was changed, or the stamp is that of another.")
    try:
        certificate = told.signer()
    except (ValueError, IndexError, TypeError, UnsupportedAlgorithm) as error:
        raise StampUnsound(f"the time stamp is none: {error}. Ask the authority again.") from error
    known = any(_issued(certificate, [*told.certificates], authority, told.time) for authority in authorities)
    return Stamp(timestamp(told.time), certificate.subject.rfc4514_string(), known)


def authorities_of(pem: bytes, what: str) -> list[Certificate]:
    """Return the certificates in ``pem``; raises StampUnsound."""
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(pem)
    except ValueError as error:
        raise StampUnsound(f"{what} cannot be read: no certificate in PEM stands there.") from error


def _imprint(digest: bytes) -> bytes:
    return encode(0x30, [encode(0x30, [object_identifier(_SHA256), encode(0x05, b"")]), encode(0x04, digest)])


@dataclass(frozen=True)
class _Token:
    """The parts of a time stamp token that are looked at."""

    imprint: bytes
    time: datetime
    nonce: int | None
    content: bytes  # what the attributes hold a digest of
    certificates: tuple[Certificate, ...]
    attributes: Value
    hash_name: str
    signature: bytes

    def signer(self) -> Certificate:
        """The certificate whose key signed the token."""
        from cryptography.x509 import ExtendedKeyUsage, ExtensionNotFound
        from cryptography.x509.oid import ExtendedKeyUsageOID

        attributes = {each.children[0].whole: each.children[1].children[0] for each in self.attributes.children}
        digest = attributes.get(_MESSAGE_DIGEST)
        kind = attributes.get(_CONTENT_TYPE)
        if digest is None or digest.content != hashlib.new(self.hash_name, self.content).digest():
            raise StampUnsound("the time stamp was changed: its content is not what was signed.")
        if kind is None or kind.whole != _TST_INFO:
            raise StampUnsound("the time stamp was changed: it was signed as something else.")
        signed = b"\x31" + self.attributes.whole[1:]  # as a SET, whatever its tag is where it stands
        for certificate in self.certificates:
            if not _verifies(certificate.public_key(), self.signature, signed, self.hash_name):
                continue
            try:
                usage = certificate.extensions.get_extension_for_class(ExtendedKeyUsage).value
            except ExtensionNotFound:
                usage = ExtendedKeyUsage([])
            if ExtendedKeyUsageOID.TIME_STAMPING not in usage:
                raise StampUnsound("the time stamp is signed by a certificate that is not one for time stamps.")
            return certificate
        raise StampUnsound("the signature of the time stamp is wrong, or its certificate is not in it.")


def _told(reply: bytes) -> _Token:
    """What an answer holds; its signature is not checked."""
    try:
        status, *rest = parse(reply).children
        granted = int.from_bytes(status.children[0].content, "big")
        if granted not in (0, 1) or not rest:
            raise StampRefused(f"the time stamp authority refused (status {granted}). Ask its keepers why.")
        return _token(rest[0])
    except (ValueError, IndexError, KeyError, StopIteration) as error:
        raise StampUnsound(f"the time stamp is none: {error!r}. Ask the authority again.") from error


def _token(content_info: Value) -> _Token:
    from cryptography.x509 import load_der_x509_certificate

    signed = content_info.children[1].children[0].children
    kind, wrapped = signed[2].children
    if kind.whole != _TST_INFO:
        raise ValueError("it holds something else")
    content = wrapped.children[0].content
    info = parse(content).children
    certificates = [each for field in signed[3:] if field.tag == 0xA0 for each in field.children]
    signer = signed[-1].children[0].children
    attributes = next(each for each in signer if each.tag == 0xA0 and each.whole != signer[1].whole)
    place = signer.index(attributes)
    nonces = [int.from_bytes(each.content, "big") for each in info[5:] if each.tag == 0x02]
    return _Token(
        imprint=info[2].whole,
        time=_time(info[4].content.decode("ascii")),
        nonce=nonces[0] if nonces else None,
        content=content,
        certificates=tuple(load_der_x509_certificate(each.whole) for each in certificates if each.tag == 0x30),
        attributes=attributes,
        hash_name=_HASHES[signer[place - 1].children[0].whole],
        signature=signer[place + 2].content,
    )


def _time(text: str) -> datetime:
    form = "%Y%m%d%H%M%S.%fZ" if "." in text else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text, form).replace(tzinfo=timezone.utc)


def _verifies(key: Any, signature: bytes, data: bytes, hash_name: str) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    algorithm: hashes.HashAlgorithm = {"sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512}[
        hash_name
    ]()  # type: ignore[abstract]  # each of the three is a whole one
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(algorithm))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _issued(certificate: Certificate, between: list[Certificate], authority: Certificate, when: datetime) -> bool:
    """Whether a chain of certificates, each valid then, leads from the authority to the certificate."""
    if not certificate.not_valid_before_utc <= when <= certificate.not_valid_after_utc:
        return False
    if certificate == authority or _is_issuer(authority, certificate):
        return True
    rest = [each for each in between if each != certificate]
    return any(_is_issuer(each, certificate) and _issued(each, rest, authority, when) for each in rest)


def _is_issuer(issuer: Certificate, certificate: Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
