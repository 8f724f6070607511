"""Runs as one file: everything that they stand on, in a plain tar. Format: docs/spec/bundle.md, version 1."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import BinaryIO

from stillrun_engine.archive import KeptRun
from stillrun_engine.bundle import CONTENTS, SUMS, Contents, LeftOut, member_name, sums_line
from stillrun_engine.closure import Kind, Needed
from stillrun_engine.run_refs import beside, refs_of_runs, whole_closure, whole_locks
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import BLOCK, Digest, digest_of
from stillrun_snapshot.plain_tar import END, member_header, padding
from stillrun_snapshot.store import LOOSE_MIN, Store

__all__ = ["Written", "write_bundle"]


@dataclass(frozen=True)
class Written:
    """A bundle that was written: what it says, and the digest of the whole file."""

    contents: Contents
    digest: Digest
    size: int


def write_bundle(
    store: Store,
    runs: list[KeptRun],
    out: BinaryIO,
    *,
    without: Collection[Kind] = (),
    told: Callable[[Needed, int], None] | None = None,
) -> Written:
    """Write ``runs`` to ``out``; every byte is hashed on the way, and no object is held in memory.

    without: kinds of objects to leave out; the bundle names each. Raises ObjectMissing or ObjectCorrupt for what is not whole.
    """
    needed = whole_closure(runs)
    names = sorted({run.pathspec for run in runs})
    given = refs_of_runs(store, names, set().union(*map(whole_locks, runs)))
    needed |= beside(given.refs)
    inside = sorted(digest for digest, one in needed.items() if one.kind not in without)
    sizes = {digest: len(given.made[digest]) if digest in given.made else store.size(digest) for digest in inside}
    left_out = (_left_out(store, one) for one in needed.values() if one.kind in without)
    contents = Contents(tuple(names), given.refs, len(inside), sum(sizes.values()), tuple(left_out))
    target = _Sealed(out)
    target.member(CONTENTS, contents.to_bytes())
    for digest in inside:
        target.stream(digest, sizes[digest], _content(store, digest, sizes[digest], given.made))
        if told:
            told(needed[digest], sizes[digest])
    return Written(contents, *target.end())


def _left_out(store: Store, needed: Needed) -> LeftOut:
    size = store.size(needed.digest) if needed.size is None else needed.size
    return LeftOut(needed.digest, needed.kind, needed.purpose, size)


def _content(store: Store, digest: Digest, size: int, made: Mapping[Digest, bytes]) -> Iterator[bytes]:
    """An object's bytes, checked; ObjectCorrupt also where there are more or fewer than its name has."""
    if digest in made:
        yield made[digest]
    elif size < LOOSE_MIN:
        yield store.get(digest)
    else:
        with store.open_object(digest) as stream:
            while block := stream.read(BLOCK):
                yield block


class _Sealed:
    """A tar file being written, and the digests of its members and of itself."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self._state, self._size = out, hashlib.sha256(), 0
        self._sums: list[bytes] = []

    def member(self, name: str, data: bytes) -> None:
        self._write(member_header(name, len(data)) + data + padding(len(data)))
        self._sums.append(sums_line(name, digest_of(data)))

    def stream(self, digest: Digest, size: int, blocks: Iterator[bytes]) -> None:
        name, written = member_name(digest), 0
        self._write(member_header(name, size))
        for block in blocks:
            self._write(block)
            written += len(block)
        assert written == size, "its bytes have its digest, and so its length"
        self._write(padding(size))
        self._sums.append(sums_line(name, digest))

    def end(self) -> tuple[Digest, int]:
        data = b"".join(self._sums)
        self._write(member_header(SUMS, len(data)) + data + padding(len(data)) + END)
        return Digest("sha256:" + self._state.hexdigest()), self._size

    def _write(self, data: bytes) -> None:
        self._out.write(data)
        self._state.update(data)
        self._size += len(data)
