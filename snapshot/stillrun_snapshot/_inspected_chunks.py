"""Objects made of chunks, when a store is looked through: sound when every chunk is; damage to a chunk is theirs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from stillrun_snapshot._found import FoundChunks
from stillrun_snapshot._pack import PackEntry
from stillrun_snapshot._pack_files import PackFiles, recipe_rows
from stillrun_snapshot._whole import Whole
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import ObjectCorrupt
from stillrun_snapshot.finding import Finding
from stillrun_snapshot.store import Store

__all__ = ["ChunkDamage", "made_of_chunks"]


@dataclass(frozen=True)
class ChunkDamage:
    """A chunk that does not hash to its name where it stands."""

    place: str
    digest: Digest


def made_of_chunks(
    store: Store,
    recipes: Iterable[tuple[str, PackEntry]],
    sound: Collection[bytes],
    damages: Iterable[ChunkDamage],
    whole: Whole | None,
) -> Iterator[Finding | tuple[Digest, int]]:
    """Yield what is wrong with objects made of chunks, and those that are sound with their sizes.

    recipes: with the names of their packs. sound: chunks, and objects that may stand for one.
    whole: objects that were hashed; None when nothing is to be.
    """
    users: dict[Digest, list[Digest]] = {}
    told: set[tuple[str, Digest]] = set()
    files = PackFiles(store.root)
    try:
        for name, entry in recipes:
            data = files.content(name, entry)
            rows = recipe_rows(data)
            lacking = list(dict.fromkeys(chunk for chunk, _ in rows if chunk.raw not in sound))
            for chunk in lacking:
                users.setdefault(chunk, []).append(entry.digest)
            if lacking:
                told.add((f"packs/{name}.pack", entry.digest))
            problem = _problem(entry, data, rows, lacking)
            if problem is None and whole is not None and (name, entry.digest) not in whole.objects:
                problem = _whole_problem(store, entry, data or b"")
            yield (
                (entry.digest, entry.size)
                if problem is None
                else Finding("damaged", f"packs/{name}.pack", problem, entry.digest)
            )
    finally:
        files.close()
    for damage in damages:
        short = f"its chunk {damage.digest.hex[:12]}… does not hash to that name"
        needing = [] if damage.digest.raw in sound else users.get(damage.digest, [])
        for digest in needing:
            if (damage.place, digest) not in told:
                told.add((damage.place, digest))
                yield Finding("damaged", damage.place, short, digest)
        if not needing:
            yield Finding(
                "damaged", damage.place, f"a chunk that no object needs from here is damaged ({damage.digest})"
            )


def _problem(entry: PackEntry, data: bytes | None, rows: list[tuple[Digest, int]], lacking: list[Digest]) -> str | None:
    if data is None or not rows:
        return f"what says of which chunks it is made, near byte {entry.offset + entry.start:,}, cannot be read"
    if lacking:
        return f"of {len(rows):,} chunks that it is made of, {len(lacking):,} are damaged or missing: {lacking[0].hex[:12]}…"
    return None


def _whole_problem(store: Store, entry: PackEntry, recipe: bytes) -> str | None:
    try:
        FoundChunks(recipe, entry.digest, store.root, store.chunk).verify()
    except ObjectCorrupt:
        return "the chunks that are said to make it make something else"
    return None
