"""Trees back in folders: shared checkouts for runs, and exports for people. Rules: docs/spec/tree.md, section 4."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from stillrun_snapshot._disk import fresh_name, write_all, write_atomically, writing
from stillrun_snapshot.digest import Digest, digest_of_file
from stillrun_snapshot.errors import ObjectCorrupt, StoreError
from stillrun_snapshot.store import LOOSE_MIN, Store
from stillrun_snapshot.tree import Entry, FileEntry, LinkEntry, tree_files

__all__ = ["FIXED_TIME", "changed_checkout", "checkout", "checkouts", "drop_checkout", "export_tree"]

FIXED_TIME = 315_532_800  # 1980-01-01 UTC: byte code is valid for a source file's time, so that has to stay the same
_CACHE = "__pycache__"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
Manifest = dict[str, list[int]]  # path -> [size, mtime_ns, inode, ctime_ns] of what was written


def checkout(store: Store, tree: Digest) -> Path:
    """Return the shared folder that holds the tree, made when it is not there and made anew when it was changed."""
    folder = store.cache_dir("trees") / tree.hex
    if _is_intact(store, tree, folder):
        return folder
    with writing(store.root), _only_builder(folder.with_suffix(".lock")):
        if not _is_intact(store, tree, folder):
            _build(store, tree, folder)
    return folder


def checkouts(store: Store) -> list[Digest]:
    """Return the trees that are checked out in the store."""
    found = (path.name for path in store.cache_dir("trees").iterdir() if path.is_dir())
    return sorted(Digest(f"sha256:{name}") for name in found if len(name) == 64)


def changed_checkout(store: Store, tree: Digest, *, full: bool) -> str | None:
    """Return what is another in the shared folder of a tree, None when nothing is.

    full: read every file; otherwise those that look different to the file system than when they were written.
    """
    folder = store.cache_dir("trees") / tree.hex
    entries = dict(tree_files(store, tree))
    present = _stamps(folder)
    try:
        manifest = json.loads(_manifest_path(folder).read_bytes())[1]
    except (OSError, ValueError, LookupError, TypeError):
        manifest = {}
    for path in sorted(present.keys() | entries.keys()):
        if path not in entries or path not in present:
            return f"{path} is {'missing' if path in entries else 'not of it'}"
        if (full or present[path] != manifest.get(path)) and not _holds(folder / path, entries[path]):
            return f"{path} was changed"
    return None


def drop_checkout(store: Store, tree: Digest) -> int:
    """Remove the shared folder of a tree; the bytes of the files that were in it. It is made anew when it is needed."""
    folder = store.cache_dir("trees") / tree.hex
    with writing(store.root), _only_builder(folder.with_suffix(".lock")):
        size = sum(status[0] for status in _stamps(folder).values())
        _manifest_path(folder).unlink(missing_ok=True)
        old = store.root / "tmp" / fresh_name("old-tree")
        folder.rename(old)
        shutil.rmtree(old, ignore_errors=True)
    return size


def export_tree(store: Store, tree: Digest, out: Path, *, beside: Collection[str] = ()) -> None:
    """Write the tree to the folder ``out``, which must be empty or not exist; beside: names that may be there already."""
    _require_empty(out, beside)
    with writing(out, "folder"):
        out.mkdir(parents=True, exist_ok=True)
        for path, entry in tree_files(store, tree):
            _write_entry(store, out / path, entry, read_only=False)


def _build(store: Store, tree: Digest, folder: Path) -> None:
    """Write the tree beside its place, then put it there; what was there before is moved away first."""
    fresh = store.scratch("tree")
    try:
        for path, entry in tree_files(store, tree):
            _write_entry(store, fresh / path, entry, read_only=True)
        manifest = {path: _stamp(os.lstat(fresh / path)) for path, _ in tree_files(store, tree)}
        if os.path.lexists(folder):
            folder.rename(store.root / "tmp" / fresh_name("old-tree"))
        fresh.rename(folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    _write_manifest(folder, manifest)
    for old in (store.root / "tmp").glob("old-tree-*"):
        shutil.rmtree(old, ignore_errors=True)


def _is_intact(store: Store, tree: Digest, folder: Path) -> bool:
    """Return whether the folder holds the tree and nothing else, going by the stamps of its files.

    After the machine was started anew they are hashed once: what was not yet on the disk may have been lost.
    """
    try:
        boot, manifest = json.loads(_manifest_path(folder).read_bytes())
        found = _stamps(folder)
    except (OSError, ValueError):
        return False
    if found != manifest:
        return False
    if boot != _boot():
        if any(not _holds(folder / path, entry) for path, entry in tree_files(store, tree)):
            return False
        with writing(store.root):
            _write_manifest(folder, manifest)
    return True


def _stamps(folder: Path) -> Manifest:
    """Return the stamps of all that is in the folder but byte code caches."""
    stamps: Manifest = {}
    waiting = [("", str(folder))]
    while waiting:
        prefix, current = waiting.pop()
        with os.scandir(current) as found:
            for item in found:
                if item.is_dir(follow_symlinks=False):
                    if item.name != _CACHE:
                        waiting.append((f"{prefix}{item.name}/", item.path))
                else:
                    stamps[prefix + item.name] = _stamp(item.stat(follow_symlinks=False))
    return stamps


def _stamp(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns]


def _holds(path: Path, entry: Entry) -> bool:
    if isinstance(entry, LinkEntry):
        return path.is_symlink() and os.readlink(path) == entry.target  # noqa: PTH115  # compared as text
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and digest_of_file(path) == (entry.digest, entry.size)


def _write_entry(store: Store, path: Path, entry: Entry, *, read_only: bool) -> None:
    """Write one file or link; nothing that is there already is followed or replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(entry, LinkEntry):
        path.symlink_to(entry.target)
        return
    mode = (0o555 if entry.executable else 0o444) if read_only else (0o755 if entry.executable else 0o644)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        for block in content_of(store, entry):
            write_all(descriptor, block)
        if read_only:
            os.utime(descriptor, (FIXED_TIME, FIXED_TIME))
    finally:
        os.close(descriptor)


def content_of(store: Store, entry: FileEntry) -> Iterator[bytes]:
    """Yield the bytes of a file of a tree, hashed; raises ObjectCorrupt when they are not as long as it says."""
    if entry.size < LOOSE_MIN:
        data = store.get(entry.digest)
        size = len(data)
        yield data
    else:
        size = 0
        with store.open_object(entry.digest) as stream:
            while block := stream.read(1 << 20):
                size += len(block)
                yield block
    if size != entry.size:
        raise ObjectCorrupt(entry.digest, store.root, f"a tree says {entry.size:,} bytes, found {size:,}")


def _require_empty(out: Path, beside: Collection[str]) -> None:
    if os.path.lexists(out) and (not out.is_dir() or any(each.name not in beside for each in out.iterdir())):
        raise StoreError(f"{out} is there already and not an empty folder. Name another place; nothing was written.")


@contextmanager
def _only_builder(lock: Path) -> Iterator[None]:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _manifest_path(folder: Path) -> Path:
    return folder.with_suffix(".manifest")


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    data = json.dumps([_boot(), manifest], separators=(",", ":")).encode()
    write_atomically(_manifest_path(folder), data, durable=False)


def _boot() -> str:
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
