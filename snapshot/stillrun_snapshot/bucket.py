"""Buckets: files by name in a place that others write to as well. What a remote is made of; docs/spec/remote.md."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.errors import StoreError

__all__ = [
    "Bucket",
    "BucketError",
    "FileTooLong",
    "KeyMissing",
    "Listed",
    "PromiseBroken",
    "checked_key",
    "prove_promise",
]

_KEY = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*")
_RACERS = 4


class BucketError(StoreError):
    """A bucket cannot be used as asked: it is not reached, it refuses, or it is none."""


class FileTooLong(BucketError):
    """A file of a bucket has more bytes than it may have; they were not read."""


class KeyMissing(BucketError):
    """There is no file of that name in the bucket."""


class PromiseBroken(BucketError):
    """A bucket does not keep the promise that changes of the log rest on."""


@dataclass(frozen=True)
class Listed:
    """A file as a bucket lists it. written: when, in seconds by the bucket's clock, which may be off."""

    key: str
    size: int
    written: float


class Bucket(Protocol):
    """Files by name. All methods may be called from any thread, and try again by themselves what may be mended by that."""

    @property
    def name(self) -> str:
        """What to call it in messages; never a credential."""

    def get(self, key: str, limit: int) -> bytes:
        """A whole file; KeyMissing, FileTooLong when it has more than ``limit`` bytes."""

    def get_range(self, key: str, start: int, length: int) -> bytes | memoryview:
        """``length`` bytes from ``start``; KeyMissing, BucketError when the file ends before."""

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write a file, whatever was there."""

    def create(self, key: str, data: bytes) -> bool:
        """Write a file when there is none; False when there is one, which may be ours where an answer was lost."""

    def size(self, key: str) -> int | None:
        """Its length in bytes, None when there is none."""

    def delete(self, key: str) -> None:
        """Remove a file that may be gone already."""

    def written(self, key: str) -> float | None:
        """When it was written, by the bucket's clock, None when there is none."""

    def keys(self, prefix: str) -> Iterator[Listed]:
        """What is below ``prefix``, as the bucket tells it: nothing may rest on it."""


def checked_key(key: str) -> str:
    """``key`` itself; ValueError when it could lead anywhere but below the prefix."""
    if not _KEY.fullmatch(key) or any(part in (".", "..") for part in key.split("/")):
        raise ValueError(f"{key!r} is no name of a file in a bucket")
    return key


def prove_promise(bucket: Bucket) -> None:
    """Raise PromiseBroken unless a file is created once only, whoever tries (docs/spec/remote.md §8)."""
    key = f"probes/{os.urandom(16).hex()}"
    contents = [os.urandom(16).hex().encode() for _ in range(_RACERS)]
    with ThreadPoolExecutor(_RACERS) as racers:
        won = list(racers.map(lambda content: bucket.create(key, content), contents))
    again = bucket.create(key, b"another")
    found = bucket.get(key, 1024)
    try:
        bucket.delete(key)
    except BucketError:  # one may be allowed to write and not to delete: a few bytes stay
        return _judge(bucket, won, again, found, contents)
    return _judge(bucket, won, again, found, contents)


def _judge(bucket: Bucket, won: list[bool], again: bool, found: bytes, contents: list[bytes]) -> None:
    first = [content for content, first in zip(contents, won, strict=True) if first]
    # none: the answer to the one that won was lost, and it found its own file
    if again or len(first) > 1 or found not in (first or contents):
        raise PromiseBroken(
            f"{bucket.name} lets two writers create the same file ('If-None-Match' is not heeded), so that runs of "
            f"others could be "
            "lost. Use a service that supports conditional writes; nothing was pushed."
        )
