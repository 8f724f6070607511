"""The catalog: an SQLite index over packs and refs. A cache: it may be deleted, stale or damaged at any time."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from stillrun_snapshot._disk import remove_quietly
from stillrun_snapshot._pack import CHUNK, OPEN_SUFFIX, RECIPE, SEALED_SUFFIX, PackEntry, pack_path
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest

__all__ = ["Catalog", "Held", "Row"]

_VERSION = 2
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS packs (id INTEGER PRIMARY KEY, name TEXT UNIQUE, scanned INTEGER, sealed INTEGER);
CREATE TABLE IF NOT EXISTS entries (digest BLOB, pack INTEGER, codec INTEGER, size INTEGER, stored INTEGER, offset INTEGER,
  kind INTEGER, start INTEGER, content INTEGER, PRIMARY KEY (digest, pack, kind)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (digest BLOB PRIMARY KEY, device INTEGER, inode INTEGER, size INTEGER,
  mtime_ns INTEGER, ctime_ns INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refs (name TEXT PRIMARY KEY, digest TEXT) WITHOUT ROWID;
"""
_PLACE = "codec, size, stored, offset, kind, start, content"  # the fields of a PackEntry behind its digest
_ENTRIES = f"FROM entries JOIN packs ON packs.id = pack WHERE kind != {CHUNK} AND digest"  # chunks are no objects
_HELD = f"SELECT name, {_PLACE} {_ENTRIES} = ?"
_CHUNK = f"SELECT name, {_PLACE} FROM entries JOIN packs ON packs.id = pack WHERE digest = ? AND kind != {RECIPE}"  # noqa: S608
_CHUNK_PACKS = f"SELECT digest, name FROM entries JOIN packs ON packs.id = pack WHERE kind != {RECIPE} AND digest"  # noqa: S608
_CHUNK_PLACES = f"""SELECT digest, name, {_PLACE} FROM entries JOIN packs ON packs.id = pack
  WHERE kind != {RECIPE} AND content > 0 AND digest"""  # noqa: S608
_OBJECTS = f"""SELECT count(*), total(size) FROM
  (SELECT max(size) AS size FROM entries WHERE kind != {CHUNK} GROUP BY digest)"""  # noqa: S608
_CHUNKED = f"SELECT count(DISTINCT digest) FROM entries WHERE kind = {RECIPE}"  # noqa: S608
_ALONE = "SELECT total(stored) FROM (SELECT min(stored) AS stored FROM entries WHERE content = 0 GROUP BY digest)"
_IN_BLOCKS = "SELECT total(stored) FROM (SELECT DISTINCT pack, offset, stored FROM entries WHERE content > 0)"
_SETTLED_NS = 100_000_000  # a folder changed less than this ago may change again under the same time stamp

Held = tuple[str, PackEntry]  # pack name and the entry in it
Row = tuple[bytes, int, int, int, int, int, int, int]  # raw digest, and the fields of a PackEntry behind it
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Scanned:
    name: str
    rows: list[Row]
    end: int
    done: bool  # sealed and without damage: need not be looked at again
    anew: bool  # what was indexed of it before is to be forgotten


class Catalog:
    """The index of one store. Every method works, at worst in memory, whatever becomes of the file."""

    def __init__(self, root: Path, *, writable: bool) -> None:
        self._root = root
        self._path = root / "catalog.sqlite"
        self._folder_seen = 0  # mtime of packs/ at the last complete look, 0 when it must be looked at again
        self.connection = self._connect(writable)

    def _connect(self, writable: bool) -> sqlite3.Connection:
        if writable:
            try:
                return _opened(str(self._path))
            except sqlite3.DatabaseError as error:
                self._discard(error)
            try:
                return _opened(str(self._path))
            except sqlite3.DatabaseError as error:
                self._discard(error)
        return _opened(":memory:")

    def _discard(self, error: sqlite3.DatabaseError) -> None:
        if isinstance(error, sqlite3.OperationalError) and not str(error).startswith("no such"):
            return  # locked, full, unreadable: no reason to delete it
        for suffix in ("", "-wal", "-shm"):
            remove_quietly(self._path.with_name(self._path.name + suffix))

    def attempt(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Return what ``work`` returns; when the file fails it, it runs again on a new index in memory."""
        try:
            return work(self.connection)
        except sqlite3.DatabaseError as error:
            self.connection.close()
            self._discard(error)
            self.connection = _opened(":memory:")
            self._folder_seen = 0
            self._refresh(self.connection, None)
            return work(self.connection)

    def close(self) -> None:
        """Let go of the file."""
        self.connection.close()

    def refresh(self, own: str | None = None, *, anew: bool = False) -> bool:
        """Take in packs that are new or grew, drop those that are gone; returns whether anything was looked at.

        own: a pack that this process is writing, which needs no reading. anew: look, whatever is remembered of the folder.
        """
        if anew:
            self._folder_seen = 0
        folder = (self._root / "packs").stat().st_mtime_ns
        if folder == self._folder_seen:
            return False
        self.attempt(lambda connection: self._refresh(connection, own))
        return True

    def _refresh(self, connection: sqlite3.Connection, own: str | None) -> None:
        now, folder = time.time_ns(), (self._root / "packs").stat().st_mtime_ns
        settled = folder + _SETTLED_NS < now
        if settled and _meta(connection, "packs_seen") == folder:
            self._folder_seen = folder
            return
        present = _present(self._root)
        known = {row[0]: (row[1], row[2]) for row in connection.execute("SELECT name, scanned, sealed FROM packs")}
        grown = [name for name, sealed in present.items() if name != own and not (name in known and known[name][1])]
        gone = known.keys() - present.keys()
        scans = [self._scan(name, known.get(name, (0, 0))[0]) for name in grown]
        quiet = settled and all(present.values()) and all(scan.done for scan in scans)
        scans = [scan for scan in scans if scan.rows or scan.done or scan.end != known.get(scan.name, (0, 0))[0]]
        if not (scans or gone or quiet):
            return
        with transaction(connection):
            if gone:  # not one that was made and indexed by others between our look at the folder and at the index
                gone -= _present(self._root).keys()
            forget_packs(connection, {*gone, *(scan.name for scan in scans if scan.anew)})
            for scan in scans:
                add_pack(connection, scan.name, scan.rows, scan.end, sealed=scan.done)
            if quiet:
                set_meta(connection, "packs_seen", folder)
        self._folder_seen = folder if quiet else 0

    def _scan(self, name: str, start: int) -> _Scanned:
        from stillrun_snapshot._pieces import scan_pack  # most processes find everything indexed

        for sealed in (True, False, True):  # it may be sealed between the two looks
            path = pack_path(self._root, name, sealed=sealed)
            try:
                anew = path.stat().st_size < start  # the end that was indexed is lost
                scan = scan_pack(path, 0 if anew else start)
            except FileNotFoundError:
                continue
            rows = [piece[:8] for piece in scan.pieces]
            if sealed and not scan.whole:  # to be looked at again: it may have been restored from a copy by then
                return _Scanned(name, rows, 0, done=False, anew=anew)
            return _Scanned(name, rows, scan.end, done=sealed, anew=anew)
        return _Scanned(name, [], start, done=False, anew=False)

    def rebuild(self) -> None:
        """Forget everything and read every pack anew; refs are taken from the log when they are next asked for."""

        def empty(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                for table in ("meta", "packs", "entries", "seen", "refs"):
                    connection.execute(f"DELETE FROM {table}")  # noqa: S608  # our own names

        self._folder_seen = 0
        self.attempt(empty)
        self.refresh()

    def rescan(self, name: str) -> None:
        """Read a pack anew from its beginning: what the index said of it was wrong."""
        scan = self._scan(name, 0)

        def replace(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                forget_packs(connection, [name])
                add_pack(connection, name, scan.rows, scan.end, sealed=scan.done)
                connection.execute("DELETE FROM meta WHERE key = 'packs_seen'")

        self._folder_seen = 0
        self.attempt(replace)

    def exchange(self, gone: Iterable[str]) -> None:
        """Forget packs that were removed, all in one go, and take in what stands for them."""
        self.forget(set(gone))
        self.refresh(anew=True)

    def forget_seen(self, digests: Iterable[Digest]) -> None:
        """Forget the identities of loose files that are gone."""
        rows = [(digest.raw,) for digest in digests]

        def work(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                connection.executemany("DELETE FROM seen WHERE digest = ?", rows)

        self.attempt(work)

    def add(self, name: str, entries: Iterable[PackEntry], end: int, *, sealed: bool) -> None:
        """Take in the entries of a pack that this process wrote."""
        found = [(e.digest.raw, e.codec, e.size, e.stored, e.offset, e.kind, e.start, e.content) for e in entries]

        def work(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                add_pack(connection, name, found, end, sealed=sealed)

        self.attempt(work)

    def forget(self, names: Collection[str]) -> None:
        """Drop packs that are about to be removed."""

        def work(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                forget_packs(connection, names)

        self.attempt(work)

    def held(self, digest: Digest) -> list[Held]:
        """Return every place in packs where the object is said to stand."""
        rows = self.attempt(lambda connection: connection.execute(_HELD, (digest.raw,)).fetchall())
        return [(row[0], PackEntry(digest, *row[1:])) for row in rows]

    def chunk(self, digest: Digest) -> list[Held]:
        """Return every place in packs where bytes of this digest stand whole, be they a chunk or an object."""
        rows = self.attempt(lambda connection: connection.execute(_CHUNK, (digest.raw,)).fetchall())
        return [(row[0], PackEntry(digest, *row[1:])) for row in rows]

    def packs_with(self, digest: Digest) -> list[str]:
        """Return the packs in which the object is said to stand."""
        query = f"SELECT name {_ENTRIES} = ?"
        return [row[0] for row in self.attempt(lambda connection: connection.execute(query, (digest.raw,)).fetchall())]

    def packs_of(self, digests: list[Digest]) -> dict[Digest, tuple[str, int]]:
        """Return a pack for each of the objects that stands in one, and as what kind."""
        rows = self._rows_of(digests, f"SELECT digest, name, kind {_ENTRIES}")
        return {digest: (name, kind) for digest, (name, kind) in rows}

    def chunk_packs(self, chunks: list[Digest]) -> dict[Digest, str]:
        """Return a pack for each chunk that stands in one, as a chunk or as an object."""
        return {digest: name for digest, (name,) in self._rows_of(chunks, _CHUNK_PACKS)}

    def chunk_places(self, chunks: list[Digest]) -> dict[Digest, Held]:
        """Return a place in a block for each chunk that stands in one, as a chunk or as an object."""
        rows = self._rows_of(chunks, _CHUNK_PLACES)
        return {digest: (name, PackEntry(digest, *place)) for digest, (name, *place) in rows}

    def places_of(self, digests: list[Digest]) -> dict[str, list[PackEntry]]:
        """Return for each pack the entries that it is said to have of these objects, each object in one pack."""
        found: dict[str, list[PackEntry]] = {}
        rows = dict(self._rows_of(digests, f"SELECT digest, name, {_PLACE} {_ENTRIES}"))
        for digest, (name, *place) in rows.items():
            found.setdefault(name, []).append(PackEntry(digest, *place))
        return found

    def _rows_of(self, digests: list[Digest], select: str) -> list[tuple[Digest, list[Any]]]:
        """Return what is known of each of many digests, by a query that ends where their list stands."""

        def work(connection: sqlite3.Connection) -> list[tuple[Digest, list[Any]]]:
            found: list[tuple[Digest, list[Any]]] = []
            for start in range(0, len(digests), 500):
                part = {digest.raw: digest for digest in digests[start : start + 500]}
                rows = connection.execute(f"{select} IN ({','.join('?' * len(part))})", list(part))
                found += [(part[raw], row) for raw, *row in rows]
            return found

        return self.attempt(work)

    def of_kind(self, kind: int) -> list[Held]:
        """Return every place where a member of the kind stands: all recipes, or all chunks."""
        query = f"SELECT name, digest, {_PLACE} FROM entries JOIN packs ON packs.id = pack WHERE kind = ?"  # noqa: S608
        rows = self.attempt(lambda connection: connection.execute(query, (kind,)).fetchall())
        return [(row[0], PackEntry(Digest.of_raw(row[1]), *row[2:])) for row in rows]

    def digests(self) -> list[Digest]:
        """Return the name of every object in a known pack."""
        query = f"SELECT DISTINCT digest FROM entries WHERE kind != {CHUNK}"  # noqa: S608  # our own number
        rows = self.attempt(lambda connection: connection.execute(query).fetchall())
        return [Digest.of_raw(row[0]) for row in rows]

    def all_rows(self) -> Iterator[tuple[str, Row]]:
        """Yield all that is known of packs, pack by pack."""
        query = f"SELECT name, digest, {_PLACE} FROM entries JOIN packs ON packs.id = pack ORDER BY pack"  # noqa: S608
        for name, *row in self.attempt(lambda connection: connection.execute(query)):
            yield name, tuple(row)

    def totals(self) -> tuple[int, int, int]:
        """Return objects in packs, their bytes, and the bytes they take there."""

        def work(connection: sqlite3.Connection) -> tuple[int, int, int]:
            count, size = connection.execute(_OBJECTS).fetchone()
            stored = sum(connection.execute(query).fetchone()[0] for query in (_ALONE, _IN_BLOCKS))
            return int(count), int(size), int(stored)

        return self.attempt(work)

    def chunked(self) -> int:
        """Return how many objects are made of chunks."""
        row = self.attempt(lambda connection: connection.execute(_CHUNKED).fetchone())
        return int(row[0])

    def seen(self, digest: Digest) -> tuple[int, ...] | None:
        """Return the identity that a loose file had when it was last hashed."""
        query = "SELECT device, inode, size, mtime_ns, ctime_ns FROM seen WHERE digest = ?"
        row = self.attempt(lambda connection: connection.execute(query, (digest.raw,)).fetchone())
        return None if row is None else tuple(row)

    def add_seen(self, identities: Mapping[Digest, tuple[int, ...]]) -> None:
        """Remember the identities of loose files that were hashed."""
        rows = [(digest.raw, *identity) for digest, identity in identities.items()]

        def work(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                connection.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?, ?)", rows)

        self.attempt(work)


def _opened(name: str) -> sqlite3.Connection:
    connection = sqlite3.connect(name, isolation_level=None, timeout=10, check_same_thread=False)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version not in (0, _VERSION):
        raise sqlite3.DatabaseError(f"a catalog of version {version}")
    if not version:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(_TABLES + f"PRAGMA user_version = {_VERSION};")
    connection.execute("PRAGMA synchronous=NORMAL")


def _present(root: Path) -> dict[str, bool]:
    packs: dict[str, bool] = {}
    with os.scandir(root / "packs") as found:
        for item in found:
            if item.name.endswith(SEALED_SUFFIX):
                packs[item.name[: -len(SEALED_SUFFIX)]] = True
            elif item.name.endswith(OPEN_SUFFIX):
                packs.setdefault(item.name[: -len(OPEN_SUFFIX)], False)
    return packs


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Do the block's changes all together or not at all; nobody else writes meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def add_pack(connection: sqlite3.Connection, name: str, rows: list[Row], end: int, *, sealed: bool) -> None:
    """Index what stands in a pack up to offset ``end``."""
    connection.execute(
        "INSERT INTO packs (name, scanned, sealed) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE "
        "SET scanned = max(scanned, excluded.scanned), sealed = max(sealed, excluded.sealed)",
        (name, end, int(sealed)),
    )
    (pack,) = connection.execute("SELECT id FROM packs WHERE name = ?", (name,)).fetchone()
    query = f"INSERT OR REPLACE INTO entries (digest, {_PLACE}, pack) VALUES (?, ?, ?, ?, ?, ?, ?, ?, {pack})"  # noqa: S608
    connection.executemany(query, rows)


def forget_packs(connection: sqlite3.Connection, names: Collection[str]) -> None:
    """Drop all that is known of packs; every entry is looked at once, however many they are."""
    if not names:
        return
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS gone (name TEXT PRIMARY KEY) WITHOUT ROWID")
    connection.execute("DELETE FROM gone")
    connection.executemany("INSERT INTO gone VALUES (?)", [(name,) for name in names])
    connection.execute("DELETE FROM entries WHERE pack IN (SELECT id FROM packs JOIN gone USING (name))")
    connection.execute("DELETE FROM packs WHERE name IN (SELECT name FROM gone)")


def _meta(connection: sqlite3.Connection, key: str) -> Any:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]


def set_meta(connection: sqlite3.Connection, key: str, value: object) -> None:
    """Remember a value under a name."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
