"""Objects made of chunks, hashed from end to end: a chunk that such a hash went over needs none of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import field
from functools import partial

from stillrun_snapshot._ahead import results_ahead
from stillrun_snapshot._catalog import Held
from stillrun_snapshot._pack import RECIPE
from stillrun_snapshot._pack_files import PackFiles, recipe_rows
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["Whole", "hashed_whole"]


@dataclass
class Whole:
    """What was found to be as its name says."""

    objects: set[tuple[str, Digest]] = field(default_factory=set)  # with the pack of the recipe
    chunks: set[tuple[str, int, int]] = field(default_factory=set)  # pack, offset of the payload, place in its content


@dataclass(frozen=True)
class _Made:
    pack: str
    digest: Digest
    size: int
    chunks: list[Held]


def hashed_whole(store: Store, pool: Executor, told: Callable[[str, int], None]) -> Whole:
    """Hash every object of which the index knows the chunks; whatever is wrong with one, others find and name it."""
    found = Whole()
    for made, is_sound in results_ahead(pool, _made(store), partial(_is_sound, store)):
        told(made.digest.hex[:12], made.size)
        if is_sound:
            found.objects.add((made.pack, made.digest))
            found.chunks.update((name, entry.offset, entry.start) for name, entry in made.chunks)
    return found


def _made(store: Store) -> Iterator[_Made]:
    files = PackFiles(store.root)
    try:
        for name, entry in store.catalog.of_kind(RECIPE):
            chunks = [chunk for chunk, _ in recipe_rows(files.content(name, entry))]
            places = store.catalog.chunk_places(chunks)
            if chunks and len(places) == len(set(chunks)):
                yield _Made(name, entry.digest, entry.size, [places[chunk] for chunk in chunks])
    finally:
        files.close()


def _is_sound(store: Store, made: _Made) -> bool:
    files, state = PackFiles(store.root), hashlib.sha256()
    try:
        for name, entry in made.chunks:
            data = files.unchecked(name, entry)
            if data is None:
                return False
            state.update(data)
    finally:
        files.close()
    return state.digest() == made.digest.raw
