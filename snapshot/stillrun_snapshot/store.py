"""The store: objects named by their digest, written once, never changed. Format: docs/spec/store.md, version 1."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from stillrun_snapshot._answers import Location, StoreStats
from stillrun_snapshot._disk import fresh_name, remove_quietly, writing
from stillrun_snapshot._layout import FORMAT, STORE_MARK, create_store, is_store, mend_store
from stillrun_snapshot._loose import blocks_of, blocks_of_file
from stillrun_snapshot._objects import Objects
from stillrun_snapshot._pack import ENTRY_LIMIT
from stillrun_snapshot.clock import Clock, utc_now
from stillrun_snapshot.digest import Digest, digest_of, digest_of_file
from stillrun_snapshot.errors import ObjectMissing, RecordError, StoreError, StoreReadOnly
from stillrun_snapshot.lease import take_over
from stillrun_snapshot.record import RECORD_MAX, canonical_bytes, require_schema
from stillrun_snapshot.refs import RefChange, RefLog

__all__ = ["FORMAT", "LOOSE_MIN", "STORE_MARK", "Location", "Store", "StoreStats"]

LOOSE_MIN = ENTRY_LIMIT  # from here on an object is a file of its own
_CACHES = frozenset({"trees", "envs", "pythons", "cache"})
_OVERLAP_MIN = 4 * 1024 * 1024  # below, starting a thread costs more than hashing beside writing saves


class Store(Objects):
    """A folder of objects, and the refs that name some of them. Its methods may be called from any thread."""

    def __init__(self, root: Path, *, writable: bool, clock: Clock) -> None:
        """Use ``Store.open``."""
        super().__init__(root, writable=writable)
        self._catalog.refresh()
        self.refs = RefLog(root, self._catalog, self._lock, before=self.sync, holds=self._is_kept, clock=clock)
        if writable:
            take_over(root, self._set_for_others)

    @classmethod
    def open(cls, root: Path, *, create: bool = True, clock: Clock = utc_now) -> Store:
        """Return the store at ``root``, made there first when nothing is there and ``create`` is true."""
        root = Path(root).absolute()
        if not is_store(root):
            if not create:
                raise StoreError(f"there is no Stillrun store at {root}. Give the folder of one, or make a run first.")
            with writing(root):
                create_store(root)
        return cls(root, writable=mend_store(root), clock=clock)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Seal the pack of this writer, write what was learnt to the catalog, and let go of all files."""
        with self._lock:
            try:
                with writing(self.root):
                    self._packs.close()
                self.refs.settle()
                self._settle_seen()
            finally:
                self._presence.end()
                self._catalog.close()

    def _settle_seen(self) -> None:
        """Have the index vouch for files that were hashed; of those that are not durable the power may leave other bytes."""
        new, self._new_seen = self._new_seen, {}
        loose, spare = self._loose, self._spare
        seen = {one: each for one, each in new.items() if not loose.is_unsynced(one) and not spare.is_unsynced(one)}
        if seen and self._writable:
            self._catalog.add_seen(seen)

    def put(self, data: bytes | bytearray | memoryview, *, compress: bool = False, new: bool = False) -> Digest:
        """Keep ``data`` and return its name.

        compress: for text; done to objects of 8 to 64 KiB, and only when it saves a tenth.
        new: nobody can have kept it before, or what is held is damaged, so that it need not be looked for.
        """
        view = memoryview(data).cast("B")
        if len(view) >= _OVERLAP_MIN:
            return self.put_blocks(blocks_of(view), None)
        digest = digest_of(view)
        if self._packs.wrote(digest) or (not new and self._hit(digest, len(view))):
            return digest
        self._require_writable()
        if len(view) < LOOSE_MIN:
            with self._lock:
                self._packs.append(digest, bytes(view), compress=compress)
        else:
            self._presence.begin()
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
                data = stream.read(size + 1)
            if len(data) <= size:  # else it is growing, and goes the way of large ones
                _require_digest(path, digest_of(data), len(data), expect)
                return self.put(data)
        if expect is not None and self._hit(expect, size):
            _require_digest(path, *digest_of_file(path), expect)
            return expect
        with open(path, "rb", buffering=0) as source:
            blocks = blocks_of_file(source, limit)
            return self.put_blocks(blocks, lambda digest, count: _require_digest(path, digest, count, expect))

    def put_blocks(
        self, blocks: Iterator[memoryview], check: Callable[[Digest, int], None] | None, *, new: bool = False
    ) -> Digest:
        """Keep a stream of LOOSE_MIN bytes or more; what ``check`` raises of its digest and size is raised and nothing kept.

        new: as of ``put``.
        """
        self._require_writable()
        self._presence.begin()
        with writing(self.root):
            path, digest, size = self._loose.write(blocks)
            try:
                if check is not None:
                    check(digest, size)
                if not new and self._hit(digest, size):
                    remove_quietly(path)
                else:
                    self._remember(digest, self._loose.take(path, digest))
            except BaseException:
                remove_quietly(path)
                raise
        return digest

    def adopt(self, path: Path, digest: Digest, size: int, *, spare: bool = False, new: bool = False) -> None:
        """Take a finished file below ``tmp/`` whose writer named its digest: rename it to its place.

        spare: it can be had again elsewhere, and may be deleted at any time (see ``is_spare``). new: as of ``put``.
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
        self._presence.begin()
        with writing(self.root):
            if not new and self._hit(digest, size):
                remove_quietly(path)
            else:
                self._remember(digest, (self._spare if spare else self._loose).take(path, digest))

    def keep_spare(self, digest: Digest) -> None:
        """Keep for good an object that is held for now; nothing happens to others. Raises ObjectCorrupt."""
        digest = Digest(digest)
        if self.is_spare(digest):
            self.put_file(self._spare.path(digest), expect=digest)
            remove_quietly(self._spare.path(digest))

    def put_record(self, record: Mapping[str, Any], *, new: bool = False) -> Digest:
        """Keep a record in its canonical form and return its name. new: as of ``put``."""
        data = canonical_bytes(record)
        require_schema(record)
        if len(data) > RECORD_MAX:
            raise RecordError(f"a record may have {RECORD_MAX:,} bytes; this one has {len(data):,}.")
        return self.put(data, compress=True, new=new)

    def stats(self) -> StoreStats:
        """Return how much is kept."""
        with self._lock:
            self._packs.index()
            self._packs.look_again()
            objects, size, stored = self._catalog.totals()
            chunked = self._catalog.chunked()
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
            chunked=chunked,
            unpacked_bytes=self._unpacked.total(),
        )

    def reindex(self) -> None:
        """Make the catalog anew from packs and log; nothing else is read or changed."""
        self._require_writable()
        with self._lock:
            self._catalog.rebuild()

    def expunge(self, digests: Iterable[Digest]) -> None:
        """Take the bytes of objects out of every place; the caller holds the store's upkeep, and no run is in progress."""
        from stillrun_snapshot._expunge import expunge_loose, expunge_packed

        self._require_writable()
        gone = frozenset(map(Digest, digests))
        with self._lock, writing(self.root):
            self._packs.close()
            self._packs.forget(gone)
            expunge_loose(self.root, gone)
            expunge_packed(self.root, self._catalog, gone)

    def scratch(self, name: str) -> Path:
        """Return a new folder below ``tmp/`` for unfinished work; the caller removes it."""
        path = self.root / "tmp" / fresh_name(name)
        self._presence.begin()
        with writing(self.root):
            path.mkdir()
        return path

    def sync(self) -> None:
        """Make all that was put or adopted since the last sync durable, what was there already included."""
        with writing(self.root):
            moved = self._loose.sync()
            with self._lock:
                self._packs.sync()
        for digest in moved:
            if not self._is_kept(digest):
                raise ObjectMissing(digest, self.root)

    def cache_dir(self, name: str) -> Path:
        """Return the folder for one kind of soft state: ``trees``, ``envs``, ``pythons`` or ``cache``."""
        if name.split("/")[0] not in _CACHES:
            raise ValueError(f"{name!r} is no cache of a store")
        path = self.root / name
        with writing(self.root):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def _set_for_others(self, changes: list[RefChange]) -> None:
        """Set what a process that died had noted, as far as its objects are here."""
        self.refs.set([change for change in changes if change.to is not None and self._is_kept(change.to)])

    def _hit(self, digest: Digest, size: int) -> bool:
        """Return whether the object is held already, and have the next sync cover it; a file that was changed is none."""
        with self._lock:
            if self._packs.hit(digest):
                return True
        if size < LOOSE_MIN:  # the few that are files all the same may be in a pack as well
            return False
        identity = self._loose.identity(digest)
        if identity is None or identity[2] != size or not self._is_sound(digest, identity):
            return False  # and so the file is replaced
        if not self._presence.count_on([self._loose.name(digest)]):
            return False  # removed this moment
        self._loose.note_hit(digest)
        return True

    def _require_writable(self) -> None:
        if not self._writable:
            raise StoreReadOnly(
                f"the store {self.root} cannot be written. Make its folder writable for this user, or choose another store."
            )


def _require_digest(path: Path, found: Digest, size: int, expect: Digest | None) -> None:
    if expect is not None and found != expect:
        raise StoreError(
            f"{path} is not what was expected: its {size:,} bytes are {found}, and {expect} was asked for. "
            "Nothing was kept of it; fetch it again or find out who changed it."
        )
