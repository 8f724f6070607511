"""The store: objects named by their digest, written once, never changed. Format: docs/spec/store.md, version 1."""

from __future__ import annotations

import io
import json
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from stillrun_snapshot._catalog import Catalog
from stillrun_snapshot._disk import fresh_name, remove_quietly, sync_file, write_atomically, write_failure, writing
from stillrun_snapshot._loose import (
    Identity,
    LooseFolder,
    VerifiedStream,
    blocks_of,
    blocks_of_file,
    mismatch,
)
from stillrun_snapshot._pack import (
    ENTRY_LIMIT,
    HEADER_SIZE,
    RAW,
    ZSTD,
    PackEntry,
    PackWriter,
    compressed,
    pack_path,
    parse_header,
    payload_content,
    seal_abandoned,
)
from stillrun_snapshot.clock import Clock, utc_now
from stillrun_snapshot.digest import Digest, digest_of, digest_of_file
from stillrun_snapshot.errors import ObjectCorrupt, ObjectMissing, StoreError, StoreReadOnly, StoreVersion
from stillrun_snapshot.record import canonical_bytes, parse_record, require_schema
from stillrun_snapshot.refs import RefLog

__all__ = ["FORMAT", "LOOSE_MIN", "STORE_MARK", "Location", "Store", "StoreStats"]

FORMAT = 1
LOOSE_MIN = ENTRY_LIMIT  # from here on an object is a file of its own
COMPRESS_MIN = 8 * 1024  # importing zstandard takes longer than smaller objects are worth
STORE_MARK = "stillrun-store.json"
_FOLDERS = ("objects", "packs", "tmp", "locks")
_CACHES = frozenset({"trees", "envs", "pythons", "cache"})
_OVERLAP_MIN = 4 * 1024 * 1024  # below, starting a thread costs more than hashing beside writing saves
_OPEN_PACKS = 32  # descriptors kept for reading


@dataclass(frozen=True)
class Location:
    """Where an object's bytes can be read: in a file, or here when no file holds them raw.

    A path into a pack that is being written is good while this Store is open.
    """

    path: Path | None
    offset: int
    size: int
    data: bytes | None = None


@dataclass(frozen=True)
class StoreStats:
    """Sizes of a store. ``stored`` counts what objects take, without headers, log and caches."""

    objects: int
    size: int
    stored: int
    packs: int
    loose: int
    refs: int
    log_bytes: int


class Store:
    """A folder of objects, and the refs that name some of them. Its methods may be called from any thread."""

    def __init__(self, root: Path, *, writable: bool, clock: Clock) -> None:
        """Use ``Store.open``."""
        self.root = root
        self._writable = writable
        self._lock = threading.RLock()
        self._loose = LooseFolder(root)
        self._catalog = Catalog(root, writable=writable)
        self._writer: PackWriter | None = None
        self._written: dict[Digest, PackEntry] = {}
        self._shared: set[str] = set()  # packs of other writers that hold what was put here
        self._seen: dict[Digest, Identity] = {}
        self._new_seen: dict[Digest, Identity] = {}
        self._readers: dict[str, int] = {}
        self._catalog.refresh()
        self.refs = RefLog(root, self._catalog, self._lock, before=self.sync, holds=self.has, clock=clock)

    @classmethod
    def open(cls, root: Path, *, create: bool = True, clock: Clock = utc_now) -> Store:
        """Return the store at ``root``, made there first when nothing is there and ``create`` is true."""
        root = Path(root).absolute()
        if not _check_mark(root):
            if not create:
                raise StoreError(f"there is no Stillrun store at {root}. Give the folder of one, or make a run first.")
            with writing(root):
                _create(root)
        return cls(root, writable=os.access(root, os.W_OK), clock=clock)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Seal the pack of this writer, write what was learnt to the catalog, and let go of all files."""
        with self._lock:
            for descriptor in self._readers.values():
                os.close(descriptor)
            self._readers.clear()
            try:
                if self._writer is not None:
                    with writing(self.root):
                        self._close_writer(self._writer)
                if self._new_seen and self._writable:
                    self._catalog.add_seen(self._new_seen)
                    self._new_seen = {}
            finally:
                self._catalog.close()

    def put(self, data: bytes | bytearray | memoryview, *, compress: bool = False) -> Digest:
        """Keep ``data`` and return its name.

        compress: for text; done to objects of 8 to 64 KiB, and only when it saves a tenth.
        """
        view = memoryview(data).cast("B")
        if len(view) >= _OVERLAP_MIN:
            self._require_writable()
            with writing(self.root):
                return self._put_blocks(blocks_of(view), None)
        digest = digest_of(view)
        if self._hit(digest, len(view)):
            return digest
        self._require_writable()
        if len(view) < LOOSE_MIN:
            self._append(digest, bytes(view), compress=compress)
        else:
            with writing(self.root):
                self._remember(digest, self._loose.write_known(view, digest))
        return digest

    def put_file(self, path: Path, *, expect: Digest | None = None, limit: int | None = None) -> Digest:
        """Keep the bytes of a file and return their name; the file is read once, in blocks.

        limit: most bytes to take. Raises StoreError when there are more, or when the digest is not ``expect``.
        """
        status = path.stat()
        size = status.st_size
        if not stat.S_ISREG(status.st_mode):  # a device may never end
            raise StoreError(f"{path} cannot be kept: it is not a regular file.")
        if limit is not None and size > limit:
            raise StoreError(
                f"{path} is {size:,} bytes, more than the {limit:,} allowed for it; nothing was kept of it."
            )
        if size < LOOSE_MIN:
            with open(path, "rb", buffering=0) as stream:
                data = stream.read(LOOSE_MIN)
            if len(data) <= size:  # else it is growing, and goes the way of large ones
                _require_digest(path, digest_of(data), len(data), expect)
                return self.put(data)
        if expect is not None and self._hit(expect, size):
            _require_digest(path, *digest_of_file(path), expect)
            return expect
        self._require_writable()
        with open(path, "rb", buffering=0) as source, writing(self.root):
            blocks = blocks_of_file(source, limit)
            return self._put_blocks(blocks, lambda digest, count: _require_digest(path, digest, count, expect))

    def adopt(self, path: Path, digest: Digest, size: int) -> None:
        """Take a finished file below ``tmp/`` whose writer named its digest: rename it to its place.

        Raises StoreError when it is not a plain file of that size there. It is gone from ``tmp/`` in any case.
        """
        digest = Digest(digest)
        if (self.root / "tmp") not in path.parents:
            raise StoreError(f"{path} cannot be adopted: it is not below {self.root / 'tmp'}.")
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            raise StoreError(
                f"{path} cannot be adopted as {digest}: {size:,} bytes were announced, found {status.st_size:,}."
            )
        with writing(self.root):
            if self._hit(digest, size):
                remove_quietly(path)
            else:
                self._remember(digest, self._loose.take(path, digest))

    def get(self, digest: Digest) -> bytes:
        """Return the object's bytes, hashed; raises ObjectMissing or ObjectCorrupt."""
        digest = Digest(digest)
        found = self._find(digest)
        if isinstance(found, bytes):
            return found
        data = found.read_bytes()
        if (actual := digest_of(data)) != digest:
            raise ObjectCorrupt(digest, self.root, mismatch(actual.hex, len(data)))
        return data

    def open_object(self, digest: Digest) -> BinaryIO:
        """Return a stream of the object, for reading once; at its end it raises ObjectCorrupt if it must."""
        digest = Digest(digest)
        found = self._find(digest)
        if isinstance(found, bytes):
            return io.BytesIO(found)
        return io.BufferedReader(VerifiedStream(open(found, "rb", buffering=0), digest, self.root), 1 << 18)

    def has(self, digest: Digest) -> bool:
        """Return whether the object is held; it is not read."""
        digest = Digest(digest)
        return self._size(digest) is not None

    def absent(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those that are not held; for the others the next sync vouches, as if they had been put again."""
        with self._lock:
            rest = [Digest(digest) for digest in set(digests) if digest not in self._written]
            packs = self._catalog.packs_of(rest)
            self._shared.update(packs.values())
        missing = set()
        for digest in rest:
            if digest not in packs:
                if self._loose.identity(digest) is None:
                    missing.add(digest)
                else:
                    self._loose.note_hit(digest)
        return missing

    def size(self, digest: Digest) -> int:
        """Return the object's length in bytes as it was recorded; raises ObjectMissing."""
        digest = Digest(digest)
        size = self._size(digest)
        if size is None:
            raise ObjectMissing(digest, self.root)
        return size

    def locate(self, digest: Digest) -> Location:
        """Return where the object's bytes can be read raw; loose files are not hashed (see ``checked``)."""
        digest = Digest(digest)
        with self._lock:
            identity = self._loose.identity(digest)
            if identity is not None and digest not in self._written:
                return Location(self._loose.path(digest), 0, identity[2])
            data, place = self._packed(digest)
            if data is None:
                raise ObjectMissing(digest, self.root)
            if place is None or place[1].codec != RAW:
                return Location(None, 0, len(data), data)
            return Location(self._pack_file(place[0]), place[1].offset, place[1].size)

    def checked(self, digest: Digest) -> Location:
        """Return ``locate(digest)`` with the bytes hashed, now or when the file was as it is now."""
        digest = Digest(digest)
        location = self.locate(digest)
        identity = self._loose.identity(digest)
        if location.path is None or identity is None or location.path != self._loose.path(digest):
            return location  # small objects are hashed each time, on the way here
        if self._seen.get(digest) == identity or self._known_identity(digest) == identity:
            return location
        self.verify(digest)
        if self._loose.identity(digest) != identity:
            raise ObjectCorrupt(digest, self.root, "its file was replaced while it was hashed")
        self._remember(digest, identity)
        return location

    def verify(self, digest: Digest) -> int:
        """Return the object's length after hashing all of it; raises ObjectMissing or ObjectCorrupt."""
        digest = Digest(digest)
        found = self._find(digest)
        if isinstance(found, bytes):
            return len(found)
        actual, size = digest_of_file(found)
        if actual != digest:
            raise ObjectCorrupt(digest, self.root, mismatch(actual.hex, size))
        return size

    def put_record(self, record: Mapping[str, Any]) -> Digest:
        """Keep a record in its canonical form and return its name."""
        data = canonical_bytes(record)
        require_schema(record)
        return self.put(data, compress=True)

    def get_record(self, digest: Digest, name: str) -> dict[str, Any]:
        """Return the record called ``name``, such as ``run``, at the version this Stillrun reads."""
        return parse_record(self.get(digest), f"stillrun/{name}/1")

    def digests(self) -> Iterator[Digest]:
        """Yield the name of every object held, sorted."""
        with self._lock:
            self._catalog.refresh(self._own)
            names = {*self._catalog.digests(), *self._written}
        yield from sorted(names.union(self._loose.digests()))

    def stats(self) -> StoreStats:
        """Return how much is kept."""
        with self._lock:
            self._index_written()
            self._catalog.refresh(self._own)
            objects, size, stored = self._catalog.totals()
        loose = [identity[2] for digest in self._loose.digests() if (identity := self._loose.identity(digest))]
        packs = sum(1 for path in (self.root / "packs").iterdir() if ".pack" in path.name)
        return StoreStats(
            objects=objects + len(loose),
            size=size + sum(loose),
            stored=stored + sum(loose),
            packs=packs,
            loose=len(loose),
            refs=sum(1 for _ in self.refs.names()),
            log_bytes=self.refs.length(),
        )

    def scratch(self, name: str) -> Path:
        """Return a new folder below ``tmp/`` for unfinished work; the caller removes it."""
        path = self.root / "tmp" / fresh_name(name)
        with writing(self.root):
            path.mkdir()
        return path

    def sync(self) -> None:
        """Make all that was put or adopted since the last sync durable, what was there already included."""
        with writing(self.root):
            self._loose.sync()
            with self._lock:
                if self._writer is not None:
                    self._writer.sync()
                for name in sorted(self._shared):
                    self._sync_pack(name)
                self._shared.clear()

    def cache_dir(self, name: str) -> Path:
        """Return the folder for one kind of soft state: ``trees``, ``envs``, ``pythons`` or ``cache``."""
        if name.split("/")[0] not in _CACHES:
            raise ValueError(f"{name!r} is no cache of a store")
        path = self.root / name
        with writing(self.root):
            path.mkdir(parents=True, exist_ok=True)
        return path

    # -- finding -------------------------------------------------------------------------------------------------

    def _find(self, digest: Digest) -> bytes | Path:
        """Return the checked bytes of a packed object or the path of a loose one."""
        with self._lock:
            if digest not in self._written and self._loose.identity(digest) is not None:
                return self._loose.path(digest)
            data, _ = self._packed(digest)
        if data is not None:
            return data
        if self._loose.identity(digest) is not None:
            return self._loose.path(digest)
        raise ObjectMissing(digest, self.root)

    def _packed(self, digest: Digest) -> tuple[bytes | None, tuple[str, PackEntry] | None]:
        """Return the checked bytes of a packed object and where they stand; raises ObjectCorrupt."""
        if self._writer is not None and (entry := self._written.get(digest)):
            data = payload_content(entry, self._writer.read(entry))
            if data is not None:
                return data, (self._writer.name, entry)
        places = self._catalog.held(digest)
        if not places and self._catalog.refresh(self._own):
            places = self._catalog.held(digest)
        for name, entry in places:
            data = self._content(name, entry)
            if data is not None:
                return data, (name, entry)
        if not places:
            return None, None
        return self._packed_anew(digest, [name for name, _ in places])

    def _packed_anew(self, digest: Digest, names: list[str]) -> tuple[bytes | None, tuple[str, PackEntry] | None]:
        """Read packs again whose index may be wrong; what still does not match is damaged."""
        for name in names:
            self._drop_reader(name)
            self._catalog.rescan(name)
        places = self._catalog.held(digest)
        for name, entry in places:
            data = self._content(name, entry)
            if data is not None:
                return data, (name, entry)
        if places:
            where = ", ".join(self._pack_file(name).name for name, _ in places)
            raise ObjectCorrupt(digest, self.root, f"its entry in {where} does not hold it any more")
        return None, None

    def _content(self, name: str, entry: PackEntry) -> bytes | None:
        try:
            descriptor = self._reader(name)
        except FileNotFoundError:
            return None
        whole = os.pread(descriptor, HEADER_SIZE + entry.stored, entry.offset - HEADER_SIZE)
        found = parse_header(whole, 0)
        if found is None or found.digest != entry.digest or found.codec != entry.codec:
            return None
        return payload_content(entry, whole[HEADER_SIZE:])

    def _size(self, digest: Digest) -> int | None:
        with self._lock:
            if digest in self._written:
                return self._written[digest].size
            places = self._catalog.held(digest)
            if places:
                return places[0][1].size
            identity = self._loose.identity(digest)
            if identity is not None:
                return identity[2]
            if self._catalog.refresh(self._own) and (places := self._catalog.held(digest)):
                return places[0][1].size
            return None

    def _hit(self, digest: Digest, size: int) -> bool:
        """Return whether the object is held already at that size, and have the next sync cover it."""
        with self._lock:
            if digest in self._written:
                return True
            places = self._catalog.held(digest)
            if places:
                self._shared.update(name for name, _ in places)
                return True
        identity = self._loose.identity(digest)
        if identity is None or identity[2] != size:  # a short file is replaced by the whole one
            return False
        self._loose.note_hit(digest)
        return True

    # -- packs ---------------------------------------------------------------------------------------------------

    @property
    def _own(self) -> str | None:
        return None if self._writer is None else self._writer.name

    def _append(self, digest: Digest, data: bytes, *, compress: bool) -> None:
        payload = compressed(data) if compress and len(data) >= COMPRESS_MIN else None
        with self._lock:
            try:
                if self._writer is None:
                    seal_abandoned(self.root)
                    self._writer = PackWriter(self.root)
                codec = RAW if payload is None else ZSTD
                self._written[digest] = self._writer.append(digest, codec, len(data), payload or data)
            except OSError as error:
                raise write_failure(self.root, error) from error

    def _close_writer(self, writer: PackWriter) -> None:
        self._writer = None
        writer.close()
        if self._written:
            self._catalog.add(writer.name, self._written.values(), writer.end, sealed=True)
        self._written = {}

    def _index_written(self) -> None:
        if self._writer is not None and self._written:
            self._catalog.add(self._writer.name, self._written.values(), self._writer.end, sealed=False)

    def _pack_file(self, name: str) -> Path:
        sealed = pack_path(self.root, name, sealed=True)
        return sealed if sealed.exists() else pack_path(self.root, name, sealed=False)

    def _reader(self, name: str) -> int:
        descriptor = self._readers.pop(name, None)
        if descriptor is None:
            descriptor = self._open_pack(name)
            if len(self._readers) >= _OPEN_PACKS:
                self._drop_reader(next(iter(self._readers)))
        self._readers[name] = descriptor
        return descriptor

    def _open_pack(self, name: str) -> int:
        for sealed in (True, False):
            try:
                return os.open(pack_path(self.root, name, sealed=sealed), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # sealed between the two looks, at worst; the last one tells
        return os.open(pack_path(self.root, name, sealed=True), os.O_RDONLY | os.O_CLOEXEC)

    def _drop_reader(self, name: str) -> None:
        descriptor = self._readers.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)

    def _sync_pack(self, name: str) -> None:
        """Make another writer's open pack durable; a sealed one is by construction."""
        path = self._pack_file(name)
        if path.name.endswith(".open"):
            sync_file(path)
            sync_file(path.parent)

    # -- loose objects -------------------------------------------------------------------------------------------

    def _put_blocks(self, blocks: Iterator[memoryview], check: Callable[[Digest, int], None] | None) -> Digest:
        path, digest, size = self._loose.write(blocks)
        try:
            if check is not None:
                check(digest, size)
            if self._hit(digest, size):
                remove_quietly(path)
            else:
                self._remember(digest, self._loose.take(path, digest))
        except BaseException:
            remove_quietly(path)
            raise
        return digest

    def _remember(self, digest: Digest, identity: Identity) -> None:
        with self._lock:
            self._seen[digest] = self._new_seen[digest] = identity

    def _known_identity(self, digest: Digest) -> tuple[int, ...] | None:
        with self._lock:
            return self._catalog.seen(digest)

    def _require_writable(self) -> None:
        if not self._writable:
            raise StoreReadOnly(
                f"the store {self.root} cannot be written. Make its folder writable for this user, or choose another store."
            )


def _check_mark(root: Path) -> bool:
    """Return whether a store is at ``root``; raises when something else is, or a newer one."""
    try:
        text = (root / STORE_MARK).read_bytes()
    except FileNotFoundError:
        if root.is_dir() and not all(_belongs(path.name) for path in root.iterdir()):
            raise StoreError(
                f"{root} is not a Stillrun store and not empty. Give an empty folder, or one that does not exist yet."
            ) from None
        return False
    except NotADirectoryError:
        raise StoreError(f"{root} is a file; a store is a folder. Give another path.") from None
    try:
        version = json.loads(text)["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{root / STORE_MARK} cannot be read ({error}). Restore it: {_mark_bytes().decode()!r}."
        ) from error
    if not isinstance(version, int) or version > FORMAT:
        raise StoreVersion(
            f"the store {root} has format {version}, and this Stillrun reads format {FORMAT}. Upgrade Stillrun to use it."
        )
    return True


def _belongs(name: str) -> bool:
    return name in _FOLDERS or name.startswith(
        ("." + STORE_MARK, ".gitignore", "..gitignore")
    )  # another process may be making the store right now


def _mark_bytes() -> bytes:
    return canonical_bytes({"format": FORMAT, "schema": "stillrun/store/1"}) + b"\n"


def _create(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name in _FOLDERS:
        (root / name).mkdir(exist_ok=True)
    write_atomically(root / ".gitignore", b"*\n", durable=False)  # a store in a work tree is not part of it
    write_atomically(root / STORE_MARK, _mark_bytes(), durable=True)


def _require_digest(path: Path, found: Digest, size: int, expect: Digest | None) -> None:
    if expect is not None and found != expect:
        raise StoreError(
            f"{path} is not what was expected: its {size:,} bytes are {found}, and {expect} was asked for. "
            "Nothing was kept of it; fetch it again or find out who changed it."
        )
