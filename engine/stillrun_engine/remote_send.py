"""Objects to a remote: small ones side by side, large ones in pieces, and only what is not there. docs/spec/remote.md §2."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice

from stillrun_engine.closure import Needed
from stillrun_engine.errors import RunDamaged
from stillrun_engine.remote_manifest import Packed, Place, Whole, pieces_of
from stillrun_engine.remote_work import Crew, Progress
from stillrun_snapshot.bucket import Bucket
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import ObjectCorrupt
from stillrun_snapshot.segments import SMALL_MAX, segments_of
from stillrun_snapshot.store import Store

__all__ = ["LATER", "Sender"]

LATER = frozenset({"artifact", "input", "package"})
"""Kinds of objects that a run is walked and shown without."""


class Sender:
    """Sends objects of a store. again: without asking whether the remote has them. sent: those that went over the wire."""

    def __init__(self, store: Store, bucket: Bucket, crew: Crew, progress: Progress, *, again: bool) -> None:
        self._store, self._bucket, self._crew, self._progress = store, bucket, crew, progress
        self._again = again
        self._lock = threading.Lock()
        self.sent: set[Digest] = set()

    def send(
        self, needed: Mapping[Digest, Needed], made: Mapping[Digest, bytes], held: Mapping[Digest, Place]
    ) -> dict[Digest, Place]:
        """Where each object stands, once those that were not there have been sent.

        made: bytes of objects that the store does not hold. held: where objects are known to stand.
        Raises ObjectMissing, RunDamaged for what this store has lost itself.
        """
        places = {digest: held[digest] for digest in needed if digest in held}
        rest = sorted(needed.keys() - places.keys())
        sizes = {digest: len(made[digest]) if digest in made else self._store.size(digest) for digest in rest}
        self._progress.expect(sum(sizes.values()))
        small = [digest for digest in rest if sizes[digest] < SMALL_MAX]
        for later in (False, True):
            places.update(self._small([digest for digest in small if (needed[digest].kind in LATER) == later], made))
        large = [needed[digest] for digest in rest if sizes[digest] >= SMALL_MAX]
        places.update((one.digest, Whole(sizes[one.digest], one.kind not in LATER)) for one in large)
        self._large(large, sizes, made)
        return places

    def _small(self, digests: Sequence[Digest], made: Mapping[Digest, bytes]) -> Iterator[tuple[Digest, Place]]:
        for segment in segments_of(
            (digest, made[digest] if digest in made else self._store.get(digest)) for digest in digests
        ):
            key, size = f"segments/{segment.digest.hex}", sum(entry.size for entry in segment.entries)
            inside = [entry.digest for entry in segment.entries]
            self._crew.submit(partial(self._file, key, segment.data, "small objects", size, inside, self._again))
            yield from ((entry.digest, Packed(segment.digest, len(segment.data), entry)) for entry in segment.entries)
        self._crew.finish()

    def _large(self, objects: Sequence[Needed], sizes: Mapping[Digest, int], made: Mapping[Digest, bytes]) -> None:
        """Send large ones in pieces. Where one of the first is there, an earlier try has begun it, and each is asked for.

        The first: as many as are sent at once. Of those that come after them nothing is there when none of them is.
        """
        begun: set[Digest] = set()

        def ask(digest: Digest, key: str, length: int) -> None:
            if digest not in begun and self._bucket.size(key) == length:
                begun.add(digest)

        if not self._again:
            firsts = (
                (one.digest, piece)
                for one in objects
                for piece in islice(pieces_of(one.digest, sizes[one.digest]), self._crew.jobs)
            )
            self._crew.run(partial(ask, digest, key, length) for digest, (key, _, length) in firsts)
        for one in objects:
            pieces = list(pieces_of(one.digest, sizes[one.digest]))
            if one.digest in begun and len(pieces) == 1:
                self._progress.expect(-sizes[one.digest])
            else:
                self._object(one, pieces, made, anew=one.digest not in begun)
        self._crew.finish()

    def _object(
        self, needed: Needed, pieces: list[tuple[str, int, int]], made: Mapping[Digest, bytes], *, anew: bool
    ) -> None:
        try:
            for (key, _, length), data in zip(pieces, self._read(needed.digest, pieces, made), strict=True):
                self._crew.submit(partial(self._file, key, data, needed.purpose, length, [needed.digest], anew))
        except ObjectCorrupt as err:  # at its end: what was sent of it must not be found there by the next
            self._crew.finish()
            for key, _, _ in pieces:
                self._bucket.delete(key)
            raise RunDamaged(f"{err} Nothing of the run was pushed.") from err

    def _read(
        self, digest: Digest, pieces: Iterable[tuple[str, int, int]], made: Mapping[Digest, bytes]
    ) -> Iterator[bytes]:
        """An object's pieces, read in order and hashed on the way."""
        if digest in made:
            for _, start, length in pieces:
                yield made[digest][start : start + length]
            return
        with self._store.open_object(digest) as stream:
            for _, _, length in pieces:
                yield stream.read(length)
            if stream.read(1):
                raise ObjectCorrupt(digest, self._store.root, "its file is longer than it was")

    def _file(self, key: str, data: bytes, purpose: str, size: int, inside: Sequence[Digest], anew: bool) -> None:
        """Send one file. anew: without asking whether it is there."""
        if not anew and self._bucket.size(key) == len(data):
            self._progress.expect(-size)
            return
        self._bucket.put(key, data)
        self._progress.moved(purpose, size)
        with self._lock:
            self.sent.update(inside)
