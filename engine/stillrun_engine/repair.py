"""Mending a store: sound copies of damaged and missing objects are taken from other stores and from bundles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from stillrun_engine.bundle import CONTENTS, SUMS
from stillrun_engine.errors import EngineError
from stillrun_engine.remote import opened_folder
from stillrun_engine.soundness import Soundness, ask_runs
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import BLOCK, Digest
from stillrun_snapshot.errors import ObjectCorrupt, ObjectMissing, StillrunError
from stillrun_snapshot.intake import take_in
from stillrun_snapshot.plain_tar import TarDamage, read_header
from stillrun_snapshot.store import Store
from stillrun_snapshot.sweeping import drop_damaged

__all__ = ["Repaired", "Source", "opened_sources", "repair_store"]


class Source(Protocol):
    """Where objects can be had from, one by one."""

    def open(self, digest: Digest) -> BinaryIO:
        """An object, to be read once; ObjectMissing. Its bytes are hashed by who reads them."""


@dataclass(frozen=True)
class Repaired:
    """Objects that are sound again, those that no source has, and damaged ones that nothing needs and that were dropped."""

    mended: tuple[Digest, ...]
    left: tuple[Digest, ...]
    dropped: tuple[Digest, ...]


def repair_store(
    store: Store,
    found: Soundness,
    sources: Sequence[Source],
    told: Callable[[str, int], None] = lambda _what, _size: None,
) -> Repaired:
    """Mend what was found to be lost, as far as sources have it; then drop damaged copies and make the index anew."""
    mended: list[Digest] = []
    while new := _mended(store, found, sources, told):
        mended += new
        ask_runs(store, found)  # what a record names is known when it can be read again
    lost = found.lost
    left = [digest for digest, problem in lost.items() if problem.needed_by]
    dropped = [] if left else list(lost)  # while a record cannot be read, what it needs may be any of them
    store.sync()
    drop_damaged(store, [one.finding for one in found.problems], set(lost) if left else ())
    store.reindex()
    return Repaired(tuple(mended), tuple(left), tuple(dropped))


@contextmanager
def opened_sources(paths: Sequence[Path], here: Store) -> Iterator[list[Source]]:
    """Folders of stores, and bundles, as sources while they are open; EngineError for what is neither."""
    with ExitStack() as stack:
        sources: list[Source] = []
        for path in paths:
            opened = opened_folder(path, here) if path.is_dir() else _opened_bundle(path, here)
            sources.append(stack.enter_context(opened))
        yield sources


def _mended(
    store: Store, found: Soundness, sources: Sequence[Source], told: Callable[[str, int], None]
) -> list[Digest]:
    """Take what is lost now from the sources that have it; which objects they had."""
    new: list[Digest] = []
    for digest in list(found.lost):
        size = _fetched(store, digest, sources)
        if size is not None:
            found.inspection.sizes[digest.raw] = size
            new.append(digest)
            told(str(digest), size)
    return new


def _fetched(store: Store, digest: Digest, sources: Sequence[Source]) -> int | None:
    """Take the object from the first source that has it whole; its length, None when none has."""
    for source in sources:
        try:
            with source.open(digest) as stream:
                return take_in(store, _blocks(stream), digest, lambda found, _: _Other(found), new=True)
        except (ObjectMissing, ObjectCorrupt, TarDamage, _Other):
            continue
    return None


class _Other(StillrunError):
    """A source gave other bytes than it was asked for."""


def _blocks(stream: BinaryIO) -> Iterator[memoryview]:
    while block := stream.read(BLOCK):
        yield memoryview(block)


class _BundleSource:
    """A bundle whose members are read where they stand; only its headers are read before."""

    def __init__(self, stream: BinaryIO, here: Store, path: Path) -> None:
        self._stream, self._here = stream, here
        self._places: dict[str, tuple[int, int]] = {}
        try:
            while True:
                name, size = read_header(stream)
                if name == SUMS:
                    break
                if name != CONTENTS:
                    self._places[name.removeprefix("objects/").replace("/", "")] = (stream.tell(), size)
                stream.seek(size + -size % 512, 1)
        except TarDamage as err:
            raise EngineError(f"{path} is no bundle that objects can be taken from: {err}.") from err

    def open(self, digest: Digest) -> BinaryIO:
        """A member of the bundle."""
        place = self._places.get(digest.hex)
        if place is None:
            raise ObjectMissing(digest, self._here.root)
        self._stream.seek(place[0])
        return _Part(self._stream, place[1])  # type: ignore[return-value]  # of a stream only what is asked here


class _Part:
    """So many bytes of a stream, from where it stands."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._left = stream, size

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *exc: object) -> None:
        """The stream stays open."""

    def read(self, count: int) -> bytes:
        """At most so many of the bytes that are left."""
        data = self._stream.read(min(count, self._left))
        self._left -= len(data)
        return data


@contextmanager
def _opened_bundle(path: Path, here: Store) -> Iterator[Source]:
    if not path.is_file():
        raise EngineError(f"there is neither a store nor a bundle at {path}; give the folder of one, or the file.")
    with open(path, "rb") as stream:
        yield _BundleSource(stream, here, path)
