"""Looking through a whole store for damage: every file in it that anything rests on. What needs what is found, others know.

A quick look reads names, sizes, headers, the log and the index; a full one hashes every byte. Nothing is changed but an index
that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path

from stillrun_snapshot._ahead import results_ahead
from stillrun_snapshot._catalog import Row
from stillrun_snapshot._inspected_chunks import ChunkDamage, made_of_chunks
from stillrun_snapshot._layout import FORMAT, expected_mark
from stillrun_snapshot._loose import LooseFolder
from stillrun_snapshot._marking import PackFile, pack_files
from stillrun_snapshot._pack import CHUNK, OBJECT, RECIPE, PackEntry
from stillrun_snapshot._pieces import PackScan, Piece, has_blocks, mapped, sound_data
from stillrun_snapshot._remembered import Remembered, remembered
from stillrun_snapshot._whole import Whole, hashed_whole
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of, digest_of_file
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.finding import Finding, FindingKind
from stillrun_snapshot.refs import RefEvent
from stillrun_snapshot.store import STORE_MARK, Store

__all__ = ["Finding", "FindingKind", "Inspection", "Remembered", "inspect", "remembered"]

_THREADS = 2
_ANEW = "; it was made anew"
_UNPACKED = "cache/unpacked"
_NAMES = 5  # objects that a sentence about many names
Told = Callable[[str, int], None]
Key = tuple[bytes, int]  # raw digest and kind


@dataclass
class Inspection:
    """What was found, and what is held."""

    findings: list[Finding] = field(default_factory=list)
    objects: int = 0
    size: int = 0  # bytes that were hashed, or would be
    sizes: dict[bytes, int] = field(
        default_factory=dict
    )  # of every object of which a copy was found that is not damaged
    lines: int = 0  # of the log
    refs: dict[str, Digest] = field(default_factory=dict)  # as the log says, up to a line that is damaged

    def has(self, digest: Digest) -> bool:
        """Return whether a copy of the object was found in which no damage was seen."""
        return digest.raw in self.sizes


def inspect(store: Store, before: Remembered, *, full: bool, told: Told = lambda _name, _size: None) -> Inspection:
    """Look through a store. before: what its index said when nobody had touched it; told: is told each file and its bytes.

    Writers may go on meanwhile; hold the store's upkeep, so that nothing is moved.
    """
    found = Inspection()
    found.findings += _marks(store.root)
    found.findings += _log(store, before, found)
    packs = pack_files(store.root)
    chunks, recipes, damages = set[bytes](), list[tuple[str, PackEntry]](), list[ChunkDamage]()
    with ThreadPoolExecutor(_THREADS) as pool:
        whole = hashed_whole(store, pool, told) if full else Whole()
        work: Iterator[_Packed | _File] = chain((_Packed(pack, full, whole) for pack in packs), _files(store, full))
        for each, look in results_ahead(pool, work, lambda each: each.look()):
            found.findings += look.findings
            damages += look.broken
            chunks |= look.chunks
            recipes += look.recipes
            found.sizes.update(look.sizes)
            told(each.name, each.size)
            found.size += each.size
    for one in made_of_chunks(store, recipes, chunks | found.sizes.keys(), damages, whole if full else None):
        if isinstance(one, Finding):
            found.findings.append(one)
        else:
            found.sizes.setdefault(one[0].raw, one[1])
    found.objects = len(found.sizes)
    if before.problem:
        found.findings.append(Finding("index", "catalog.sqlite", f"it is damaged ({before.problem}){_ANEW}"))
    else:
        found.findings += _index(store, packs, before, found)
    if store.writable and any(one.kind == "index" for one in found.findings):
        store.reindex()  # or what is asked for next might not be found
    return found


@dataclass
class _Look:
    """What a look at one file found; objects and chunks in which it saw damage are not among those that it names."""

    findings: list[Finding]
    sizes: dict[bytes, int]  # of objects
    chunks: set[bytes] = field(default_factory=set)
    broken: list[ChunkDamage] = field(default_factory=list)
    recipes: list[tuple[str, PackEntry]] = field(default_factory=list)  # with the names of their packs


@dataclass(frozen=True)
class _Packed:
    """One pack to be looked at."""

    pack: PackFile
    full: bool
    whole: Whole

    @property
    def name(self) -> str:
        return f"packs/{self.pack.path.name}"

    @property
    def size(self) -> int:
        return self.pack.size

    def look(self) -> _Look:
        scan = self.pack.scan()
        found = _Look(
            [*self._ends(scan)],
            {piece.raw: piece.size for piece in scan.pieces if piece.kind == OBJECT},
            {piece.raw for piece in scan.pieces if piece.kind == CHUNK},
            recipes=[(self.pack.name, piece.entry) for piece in scan.pieces if piece.kind == RECIPE],
        )
        if self.full and scan.size:
            with mapped(self.pack.now_at()) as view:
                for piece, data in sound_data(view, (piece for piece in scan.pieces if not self._is_known(piece))):
                    if data is None:
                        self._note(piece, found)
        return found

    def _is_known(self, piece: Piece) -> bool:
        """Whether the bytes of a chunk, where it stands here, were hashed as a part of an object."""
        return piece.kind == CHUNK and (self.pack.name, piece.offset, piece.start) in self.whole.chunks

    def _ends(self, scan: PackScan) -> Iterator[Finding]:
        for start, end in scan.damaged:
            problem = f"bytes {start:,} to {end:,} are no entry: what they held is unreadable"
            yield Finding("damaged", self.name, problem)
        if self.pack.sealed and scan.end < scan.size:
            rest = scan.size - scan.end
            problem = f"its last {rest:,} bytes are no whole entry: its writer was killed, or it was cut"
            yield Finding("stray", self.name, problem)

    def _note(self, piece: Piece, found: _Look) -> None:
        if piece.kind == CHUNK:
            found.broken.append(ChunkDamage(self.name, piece.digest))
            found.chunks.discard(piece.raw)
        elif piece.kind == OBJECT:  # of recipes others tell
            where = "the block" if piece.content else "its entry"
            problem = f"{where} at byte {piece.place:,} does not hold it any more"
            found.findings.append(Finding("damaged", self.name, problem, piece.digest))
            found.sizes.pop(piece.raw, None)


@dataclass(frozen=True)
class _File:
    """One loose object to be looked at."""

    folder: LooseFolder
    digest: Digest
    seen: int | None  # its size when it was last hashed
    full: bool
    size: int

    @property
    def name(self) -> str:
        return self.folder.name(self.digest)

    def look(self) -> _Look:
        findings = [*self._findings()]
        sound = not any(one.kind in ("damaged", "cache") for one in findings)
        counts = sound and self.folder.folder != _UNPACKED  # a copy, of which another may always be made
        return _Look(findings, {self.digest.raw: self.size} if counts else {})

    def _findings(self) -> Iterator[Finding]:
        kind: FindingKind = "damaged" if self.folder.folder == "objects" else "cache"
        try:
            if self.full:
                actual, size = digest_of_file(self.folder.path(self.digest))
                if actual != self.digest:
                    yield Finding(kind, self.name, f"its {size:,} bytes hash to {actual.hex[:12]}…", self.digest)
            elif self.seen not in (None, self.size):
                yield Finding(kind, self.name, f"it has {self.size:,} bytes, and had {self.seen:,}", self.digest)
        except FileNotFoundError:  # replaced or removed as unneeded this moment
            return
        except OSError as err:
            yield Finding(kind, self.name, f"it cannot be read ({err.strerror})", self.digest)


def _files(store: Store, full: bool) -> Iterator[_File]:
    for folder in (
        LooseFolder(store.root),
        LooseFolder(store.root, "cache/objects"),
        LooseFolder(store.root, _UNPACKED),
    ):
        for digest in folder.digests():
            identity = folder.identity(digest)
            known = store.catalog.seen(digest)
            if identity is not None:
                yield _File(folder, digest, None if known is None else known[2], full, identity[2])


def _marks(root: Path) -> Iterator[Finding]:
    blocks = any(pack.sealed and has_blocks(pack.path) for pack in pack_files(root))
    marks = [expected_mark(version) for version in range(FORMAT if blocks else 1, FORMAT + 1)]
    if (root / STORE_MARK).read_bytes() not in marks:
        yield Finding("damaged", STORE_MARK, f"it should be {marks[0].decode().strip()!r}")
    ignored = root / ".gitignore"
    if ignored.exists() and ignored.read_bytes() != b"*\n":
        yield Finding("stray", ".gitignore", "it should be '*': git might take the store for work")
    for path in sorted((root / "objects").iterdir()):
        names = sorted(path.iterdir()) if path.is_dir() else [path]
        for name in names:
            if not _is_object(name.relative_to(root / "objects")):
                yield Finding("stray", f"objects/{name.relative_to(root / 'objects')}", "it is no object")
    for path in sorted((root / "packs").iterdir()):
        if not path.name.endswith((".pack", ".pack.open")):
            yield Finding("stray", f"packs/{path.name}", "it is no pack")


def _is_object(path: Path) -> bool:
    try:
        return Digest("sha256:" + "".join(path.parts)).hex[:2] == path.parts[0]
    except StoreError:
        return False


# -- the log -------------------------------------------------------------------------------------------------------


def _log(store: Store, before: Remembered, found: Inspection) -> Iterator[Finding]:
    """Read all lines, compare the last one that was known with what was known of it, and refs with what the lines say."""
    if before.log is not None:
        yield from _known_line(store.root / "log", *before.log)
    try:
        for event in store.refs.events():
            found.lines = event.seq
            _apply(found.refs, event)
    except StoreError as err:
        yield Finding("log", "log", str(err))
        return
    if dict(store.refs.names()) != found.refs:
        yield Finding(
            "index", "catalog.sqlite", "it has other refs than the log says; 'stillrun store reindex' makes it anew"
        )


def _apply(state: dict[str, Digest], event: RefEvent) -> None:
    if event.new is None:
        state.pop(event.name, None)
    else:
        state[event.name] = event.new


def _known_line(log: Path, start: int, end: int, line: Digest) -> Iterator[Finding]:
    data = log.read_bytes() if log.exists() else b""
    if len(data) < end:
        yield Finding("log", "log", f"it ends at byte {len(data):,}, and went to byte {end:,}: its last lines are gone")
    elif digest_of(data[start : end - 1]) != line:
        yield Finding("log", "log", f"the line at byte {start:,} is another than when it was last read")


# -- the index -----------------------------------------------------------------------------------------------------


def _index(store: Store, packs: list[PackFile], before: Remembered, found: Inspection) -> Iterator[Finding]:
    """Compare the index with packs: what it knows and they do not hold is missing, if nothing else holds it."""
    there = {pack.name: pack for pack in packs}
    for name, digests in before.gone.items():
        place = f"packs/{name}.pack"
        yield from (
            Finding("missing", place, "the pack is gone", digest) for digest in digests if not found.has(digest)
        )
    unknown = dict(there)
    for name, rows in _indexed(store):
        if pack := unknown.pop(name, None):
            yield from _compared(pack, rows, before.packs.get(name, (0, False))[0], found)
    for pack in unknown.values():
        yield from _compared(pack, {}, before.packs.get(pack.name, (0, False))[0], found)


def _indexed(store: Store) -> Iterator[tuple[str, dict[Key, Row]]]:
    for name, rows in groupby(store.catalog.all_rows(), key=itemgetter(0)):
        yield name, {(row[1][0], row[1][5]): row[1] for row in rows}


def _compared(pack: PackFile, known: dict[Key, Row], before_end: int, found: Inspection) -> Iterator[Finding]:
    """What the index knows and the pack has not is lost if the pack has less than it had; else the index is wrong.

    before_end: how far the pack went when the index was last brought up to date.
    """
    scan, place = pack.scan(), f"packs/{pack.path.name}"
    if scan.size < before_end:
        yield Finding("damaged", place, f"it ends at byte {scan.size:,}, and went to byte {before_end:,}")
    elif scan.end < before_end:
        yield Finding("damaged", place, f"it is unreadable from byte {scan.end:,} on")
    shorter = bool(scan.damaged) or scan.end < before_end
    there: dict[Key, set[Row]] = {}
    for piece in scan.pieces:
        there.setdefault((piece.raw, piece.kind), set()).add(piece[:8])
    wrong = len(there.keys() - known.keys()) if pack.sealed and scan.whole else 0
    for key, row in known.items():
        if not pack.sealed and row[4] >= before_end:  # others write it meanwhile
            continue
        if key in there:
            wrong += row not in there[key]
        elif row[5] != CHUNK:  # of those is told with the objects that are made of them
            digest = Digest.of_raw(row[0])
            if not shorter:
                wrong += 1
            elif not found.has(digest):
                yield Finding("missing", place, f"it stood at byte {row[4]:,} and is not there", digest)
    if wrong:
        problem = f"it is wrong about {wrong:,} entries of {pack.path.name}{_ANEW}"
        yield Finding("index", "catalog.sqlite", problem)
