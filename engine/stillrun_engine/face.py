"""The face: the `stillrun` package that step hosts run, kept with each run as a tree."""

from __future__ import annotations

import importlib.util
import time
from functools import lru_cache
from pathlib import Path

from stillrun_engine.errors import EngineError
from stillrun_engine.launching import remember_face
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.statcache import StatCache
from stillrun_snapshot.store import Store
from stillrun_snapshot.tree import Entry, FileEntry, put_tree

__all__ = ["keep_face"]


def keep_face(store: Store) -> Digest:
    """The tree of the `stillrun` package installed beside this engine. Nothing of it is imported, or read while unchanged."""
    folder = _package_folder()
    cache = StatCache.load(store.root / "cache" / "stat", folder)
    found = {path: path.stat() for path in sorted(p for p in folder.rglob("*") if _belongs(p))}
    known = {path: cache.digest(path.name, status) for path, status in found.items() if path.parent == folder}
    absent = store.absent(digest for digest in known.values() if digest is not None)
    entries: dict[str, Entry] = {}
    for path, status in found.items():
        digest = known.get(path)
        if digest is None or digest in absent:
            digest = store.put(path.read_bytes(), compress=True)
            cache.add(path.name, status, digest, time.time_ns())
        entries[path.relative_to(folder.parent).as_posix()] = FileEntry(digest, status.st_size)
    cache.save()
    tree = put_tree(store, entries)
    folders = {path.parent for path in found}
    remember_face(store.root, [*sorted(folders), *found], tree.hex)
    return tree


def _belongs(path: Path) -> bool:
    return (path.suffix in {".py", ".pyi"} and "__pycache__" not in path.parts) or path.name == "py.typed"


@lru_cache(maxsize=1)
def _package_folder() -> Path:
    spec = importlib.util.find_spec("stillrun")
    if spec is None or spec.origin is None:
        raise EngineError(
            "the package 'stillrun' is not installed beside its engine; reinstall it with 'pip install stillrun'."
        )
    return Path(spec.origin).parent
