"""Digests: the names of objects, ``sha256:`` and 64 hexadecimal digits of the content's SHA-256."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from stillrun_snapshot.errors import StoreError

__all__ = ["BLOCK", "Digest", "digest_of", "digest_of_file"]

BLOCK = 1 << 20  # bytes read at a time: large enough to keep SHA-256 busy, small enough for the CPU's cache
_FORM = re.compile(r"sha256:[0-9a-f]{64}")


class Digest(str):
    """The name of an object. Text that is none raises StoreError, so that a digest is safe to make a path of."""

    __slots__ = ()

    def __new__(cls, text: str) -> Digest:
        """Return ``text`` as a digest."""
        if type(text) is cls:
            return text
        if not isinstance(text, str) or not _FORM.fullmatch(text):
            shown = repr(text)[:90]
            raise StoreError(f"{shown} is not a digest: 'sha256:' and 64 lower-case hexadecimal digits are expected.")
        return str.__new__(cls, text)

    @property
    def hex(self) -> str:
        """The 64 digits without the algorithm."""
        return self[7:]

    @property
    def raw(self) -> bytes:
        """The 32 bytes of the hash."""
        return bytes.fromhex(self[7:])

    @classmethod
    def parse(cls, text: object) -> Digest:
        """Return ``text`` as a digest; raises StoreError when it is none."""
        return cls(text)  # type: ignore[arg-type]  # the constructor refuses what is no text

    @classmethod
    def of_raw(cls, raw: bytes) -> Digest:
        """Return the digest whose 32 hash bytes are ``raw``."""
        return str.__new__(cls, "sha256:" + raw.hex())


def digest_of(data: bytes | bytearray | memoryview) -> Digest:
    """Return the digest of ``data``."""
    return Digest.of_raw(hashlib.sha256(data).digest())


def digest_of_file(path: Path) -> tuple[Digest, int]:
    """Return the digest and the size in bytes of what is read from ``path``, in blocks of 1 MiB."""
    state, size = hashlib.sha256(), 0
    block = memoryview(bytearray(BLOCK))
    with open(path, "rb", buffering=0) as stream:
        while count := stream.readinto(block):
            state.update(block[:count])
            size += count
    return Digest.of_raw(state.digest()), size
