"""Looking through a whole store for damage: every file in it that anything rests on. What needs what is found, others know.

A quick look reads names, sizes, headers, the log and the index; a full one hashes every byte. Nothing is changed but an index
that is wrong.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from itertools import groupby
from pathlib import Path

from stillrun_snapshot._inspected_chunks import ChunkDamage, made_of_chunks, recipes_among
from stillrun_snapshot._layout import FORMAT, expected_mark
from stillrun_snapshot._loose import LooseFolder
from stillrun_snapshot._marking import PackFile, pack_files
from stillrun_snapshot._pack import CHUNK, OBJECT, RAW, PackEntry, PackScan, payload_content
from stillrun_snapshot._pieces import has_blocks, pieces, sound_data
from stillrun_snapshot._remembered import Remembered, remembered
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
    scans: list[tuple[PackFile, PackScan]] = []
    for pack in pack_files(store.root):
        scans.append((pack, pack.scan()))
    work: list[_Packed | _File] = [*(_Packed(pack, scan, full) for pack, scan in scans), *_files(store, full)]
    chunks, damages = set[bytes](), list[ChunkDamage]()
    with ThreadPoolExecutor(_THREADS) as pool:
        for each, (findings, broken) in zip(work, pool.map(_looked_at, work), strict=True):
            found.findings += findings
            damages += broken
            chunks.update(each.chunks() - {damage.digest.raw for damage in broken})
            bad = {finding.digest for finding in findings if finding.kind in ("damaged", "cache")}
            found.sizes.update((digest.raw, size) for digest, size in each.holds() if digest not in bad)
            told(each.name, each.size)
            found.size += each.size
    recipes = recipes_among((pack.name, scan.entries) for pack, scan in scans)
    for one in made_of_chunks(store, recipes, chunks | found.sizes.keys(), damages, full=full):
        if isinstance(one, Finding):
            found.findings.append(one)
        else:
            found.sizes.setdefault(one[0].raw, one[1])
    found.objects = len(found.sizes)
    if before.problem:
        found.findings.append(Finding("index", "catalog.sqlite", f"it is damaged ({before.problem}){_ANEW}"))
    else:
        found.findings += _index(store, scans, before, found)
    if store.writable and any(one.kind == "index" for one in found.findings):
        store.reindex()  # or what is asked for next might not be found
    return found


def _looked_at(work: _Packed | _File) -> tuple[list[Finding], list[ChunkDamage]]:
    found = list(work.findings())
    return (
        [one for one in found if isinstance(one, Finding)],
        [one for one in found if isinstance(one, ChunkDamage)],
    )


@dataclass(frozen=True)
class _Packed:
    """One pack to be looked at."""

    pack: PackFile
    scan: PackScan
    full: bool

    @property
    def name(self) -> str:
        return f"packs/{self.pack.path.name}"

    @property
    def size(self) -> int:
        return self.pack.size

    def holds(self) -> Iterator[tuple[Digest, int]]:
        return ((entry.digest, entry.size) for entry in self.scan.entries if entry.kind == OBJECT)

    def chunks(self) -> set[bytes]:
        """The chunks that stand here."""
        return {entry.digest.raw for entry in self.scan.entries if entry.kind == CHUNK}

    def findings(self) -> Iterator[Finding | ChunkDamage]:
        for start, end in self.scan.damaged:
            yield Finding(
                "damaged", self.name, f"bytes {start:,} to {end:,} are no entry: what they held is unreadable"
            )
        if self.pack.sealed and self.scan.end < self.scan.size:
            rest = self.scan.size - self.scan.end
            yield Finding(
                "stray", self.name, f"its last {rest:,} bytes are no whole entry: its writer was killed, or it was cut"
            )
        if self.full and self.scan.size:
            with (
                open(self.pack.now_at(), "rb") as stream,
                mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view,
            ):
                yield from self._contents(view)

    def _contents(self, view: mmap.mmap) -> Iterator[Finding | ChunkDamage]:
        blocks = (piece for piece in pieces(self.scan.entries) if piece.entry.content)
        for piece, data in sound_data(view, blocks):
            if data is None and piece.entry.kind == CHUNK:
                yield ChunkDamage(self.name, piece.entry.digest)
            elif data is None and piece.entry.kind == OBJECT:  # of recipes others tell
                problem = f"the block at byte {piece.place:,} does not hold it any more"
                yield Finding("damaged", self.name, problem, piece.entry.digest)
        with memoryview(view) as whole:
            for entry in self.scan.entries:
                if entry.content:
                    continue
                with whole[entry.offset : entry.offset + entry.stored] as payload:
                    if not _holds(entry, payload):
                        problem = f"its entry at byte {entry.offset:,} does not hold it any more"
                        yield Finding("damaged", self.name, problem, entry.digest)


def _holds(entry: PackEntry, payload: memoryview) -> bool:
    if entry.codec == RAW:
        return hashlib.sha256(payload).digest() == entry.digest.raw
    return payload_content(entry, bytes(payload)) is not None


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

    def holds(self) -> Iterator[tuple[Digest, int]]:
        if self.folder.folder != _UNPACKED:  # a copy, of which another may always be made
            yield self.digest, self.size

    def chunks(self) -> set[bytes]:
        """None stand in files."""
        return set()

    def findings(self) -> Iterator[Finding]:
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


def _index(
    store: Store, scans: list[tuple[PackFile, PackScan]], before: Remembered, found: Inspection
) -> Iterator[Finding]:
    """Compare the index with packs: what it knows and they do not hold is missing, if nothing else holds it."""
    there = {pack.name: (pack, scan) for pack, scan in scans}
    for name, digests in before.gone.items():
        place = f"packs/{name}.pack"
        yield from (
            Finding("missing", place, "the pack is gone", digest) for digest in digests if not found.has(digest)
        )
    for name, (end, _) in before.packs.items():
        scan = there[name][1] if name in there else None
        if scan is not None and scan.size < end:
            yield Finding("damaged", f"packs/{name}.pack", f"it ends at byte {scan.size:,}, and went to byte {end:,}")
        elif scan is not None and scan.end < end:
            yield Finding("damaged", f"packs/{name}.pack", f"it is unreadable from byte {scan.end:,} on")
    for name, rows in _indexed(store):
        if name in there:
            pack, scan = there[name]
            end = before.packs.get(name, (0, False))[0]
            known = [row for row in rows if pack.sealed or row.offset < end]  # others write it meanwhile
            yield from _compared(pack, scan, known, end, found)


def _indexed(store: Store) -> Iterator[tuple[str, list[PackEntry]]]:
    for name, rows in groupby(store.catalog.all_entries(), key=lambda row: row[0]):
        yield name, [row[1] for row in rows]


def _compared(
    pack: PackFile, scan: PackScan, rows: Iterable[PackEntry], before_end: int, found: Inspection
) -> Iterator[Finding]:
    """What the index knows and the pack has not is lost if the pack has less than it had; else the index is wrong."""
    stand = {(entry.digest, entry.kind): entry for entry in scan.entries}
    shorter = bool(scan.damaged) or scan.end < before_end
    place, wrong = f"packs/{pack.path.name}", 0
    known = set()
    for row in rows:
        key = (row.digest, row.kind)
        known.add(key)
        if key in stand:
            wrong += row != stand[key] and row not in scan.entries
        elif row.kind == CHUNK:  # told of the objects that are made of it
            continue
        elif shorter and not found.has(row.digest):
            yield Finding("missing", place, f"it stood at byte {row.offset:,} and is not there", row.digest)
        else:
            wrong += 1
    if pack.sealed and scan.whole:
        wrong += len(stand.keys() - known)
    if wrong:
        problem = f"it is wrong about {wrong:,} entries of {pack.path.name}{_ANEW}"
        yield Finding("index", "catalog.sqlite", problem)
