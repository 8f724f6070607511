"""Objects out of a remote: each compared with its name before it is kept, and fetched again when it does not match.

What is large comes in pieces, side by side, into a file that an interrupted fetch goes on with. Rules: docs/spec/remote.md §6.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from stillrun_engine.errors import RunDamaged
from stillrun_engine.remote_manifest import Packed, Place, pieces_of
from stillrun_engine.remote_work import Crew, Progress
from stillrun_snapshot.bucket import Bucket, FileTooLong, KeyMissing
from stillrun_snapshot.digest import BLOCK, Digest, digest_of
from stillrun_snapshot.intake import kept_part
from stillrun_snapshot.segments import Entry, unpacked
from stillrun_snapshot.store import Store

__all__ = ["LargeObject", "fetched_entries", "fetched_small", "streamed_digest"]

_TRIES = 3
_AHEAD = 4  # pieces that are held until those before them were hashed; further ones are read again
_NEAR = 64 << 10  # bytes between two entries that are rather read than asked around


def fetched_small(bucket: Bucket, digest: Digest, place: Place) -> bytes:
    """One object of at most a piece; RunDamaged when what comes is another."""
    if isinstance(place, Packed):
        return next(fetched_entries(bucket, place.segment, place.length, [place.entry]))[1]
    key = next(pieces_of(digest, place.size))[0]
    for _ in range(_TRIES):
        try:
            data = bucket.get(key, place.size)
        except FileTooLong:
            break
        except KeyMissing:
            raise _gone(bucket, digest) from None
        if len(data) == place.size and digest_of(data) == digest:
            return data
    raise _other(bucket, digest)


def fetched_entries(
    bucket: Bucket, segment: Digest, length: int, entries: Sequence[Entry]
) -> Iterator[tuple[Digest, bytes]]:
    """The objects of some entries of a segment, in few requests; RunDamaged for what does not match its name."""
    ordered = sorted(entries, key=lambda entry: entry.offset)
    if sum(entry.stored for entry in ordered) * 2 >= length:
        yield from _fetched_stretch(bucket, segment, 0, length, ordered)
        return
    for stretch in _stretches(ordered):
        begin, last = stretch[0].offset, stretch[-1]
        yield from _fetched_stretch(bucket, segment, begin, last.offset + last.stored - begin, stretch)


def streamed_digest(bucket: Bucket, digest: Digest, size: int) -> None:
    """Hash an object of many pieces without keeping it; RunDamaged when it is another."""
    state = hashlib.sha256()
    for key, _, length in pieces_of(digest, size):
        try:
            state.update(bucket.get_range(key, 0, length))
        except KeyMissing:
            raise _gone(bucket, digest) from None
    if state.hexdigest() != digest.hex:
        raise _other(bucket, digest)


def _stretches(ordered: Sequence[Entry]) -> Iterator[list[Entry]]:
    stretch: list[Entry] = []
    for entry in ordered:
        if stretch and entry.offset - (stretch[-1].offset + stretch[-1].stored) > _NEAR:
            yield stretch
            stretch = []
        stretch.append(entry)
    if stretch:
        yield stretch


def _fetched_stretch(
    bucket: Bucket, segment: Digest, begin: int, length: int, entries: Sequence[Entry]
) -> Iterator[tuple[Digest, bytes]]:
    waiting = list(entries)
    for _ in range(_TRIES):
        try:
            data = memoryview(bucket.get_range(f"segments/{segment.hex}", begin, length)) if length else memoryview(b"")
        except KeyMissing:
            raise _gone(bucket, waiting[0].digest) from None
        bad = []
        for entry in waiting:
            found = unpacked(data[entry.offset - begin :][: entry.stored], entry)
            if found is None:
                bad.append(entry)
            else:
                yield entry.digest, found
        if not bad:
            return
        waiting = bad
    raise _other(bucket, waiting[0].digest)


class LargeObject:
    """An object of several pieces on its way here. Pieces come in any order; what is there without a gap is hashed meanwhile."""

    def __init__(self, store: Store, folder: Path, bucket: Bucket, digest: Digest, size: int) -> None:
        """folder: below ``tmp/`` of the store, nobody else's for now."""
        self._store, self._bucket, self._digest, self._size = store, bucket, digest, size
        self._path, self._list = folder / digest.hex, folder / f"{digest.hex}.pieces"
        self._pieces = list(pieces_of(digest, size))
        self._lock, self._hashing = threading.Lock(), threading.Lock()
        self._begin(anew=False)

    @property
    def left(self) -> int:
        """Bytes that are still to come."""
        return self._size - sum(length for number, (_, _, length) in enumerate(self._pieces) if number in self._there)

    def tasks(self, progress: Progress, purpose: str) -> Iterator[Callable[[], None]]:
        """What is to be done, in any order, before ``end``."""
        for number in range(len(self._pieces)):
            if number not in self._there:
                yield partial(self._fetch, number, progress, purpose)

    def end(self, crew: Crew, progress: Progress, purpose: str) -> None:
        """Keep the object when it is the one; fetch it again when it is not; RunDamaged at last."""
        for attempt in range(_TRIES):
            if self._hashed_to_end() == self._digest:
                self._store.adopt(self._path, self._digest, self._size)
                self._list.unlink(missing_ok=True)
                return
            self._begin(anew=True)
            if attempt + 1 < _TRIES:
                progress.expect(self._size)
                crew.run(self.tasks(progress, purpose))
        self._forget()
        raise _other(self._bucket, self._digest)

    def _begin(self, *, anew: bool) -> None:
        if anew:
            self._forget()
        self._there = self._noted()
        self._held: dict[int, bytes | memoryview] = {}
        self._state, self._next = hashlib.sha256(), 0

    def _noted(self) -> set[int]:
        """Pieces that an earlier try has written whole."""
        try:
            told = self._list.read_bytes().split(b"\n")[:-1]
            length = self._path.stat().st_size
        except FileNotFoundError:
            return set()
        noted = {int(line) for line in told if line.isdigit() and int(line) < len(self._pieces)}
        return {number for number in noted if self._pieces[number][1] + self._pieces[number][2] <= length}

    def _forget(self) -> None:
        self._path.unlink(missing_ok=True)
        self._list.unlink(missing_ok=True)

    def _fetch(self, number: int, progress: Progress, purpose: str) -> None:
        key, start, length = self._pieces[number]
        try:
            data = self._bucket.get_range(key, 0, length)
        except KeyMissing:
            raise _gone(self._bucket, self._digest) from None
        kept_part(self._store, self._path, start, data)
        with self._lock:
            kept_part(self._store, self._list, None, b"%d\n" % number)
            if len(self._held) < _AHEAD:
                self._held[number] = data
            self._there.add(number)
        progress.moved(purpose, length)
        if self._hashing.acquire(blocking=False):
            try:
                self._hash_on()
            finally:
                self._hashing.release()

    def _hash_on(self) -> None:
        """Hash what is there behind what was hashed, without a gap."""
        while self._next in self._there:
            with self._lock:
                held = self._held.pop(self._next, None)
            if held is None:
                self._hash_again(self._next)
            else:
                self._state.update(held)
            self._next += 1

    def _hash_again(self, number: int) -> None:
        """Hash a piece that an earlier try has written, or that came long before those it follows."""
        _, start, length = self._pieces[number]
        with open(self._path, "rb", buffering=0) as file:
            file.seek(start)
            rest = length
            while rest and (block := file.read(min(rest, BLOCK))):
                self._state.update(block)
                rest -= len(block)

    def _hashed_to_end(self) -> Digest | None:
        with self._hashing:
            self._hash_on()
        whole = self._next == len(self._pieces) and os.stat(self._path).st_size == self._size  # noqa: PTH116
        return Digest("sha256:" + self._state.hexdigest()) if whole else None


def _gone(bucket: Bucket, digest: Digest) -> RunDamaged:
    return RunDamaged(
        f"{digest} is gone from {bucket.name}. Have somebody who has the run push it again with --again; what was fetched stays."
    )


def _other(bucket: Bucket, digest: Digest) -> RunDamaged:
    return RunDamaged(
        f"what {bucket.name} gives as {digest} is something else: it is damaged there, or was replaced. Nothing was kept of it. "
        "Have somebody who has the run push it again with --again."
    )
