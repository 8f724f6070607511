"""The face: the `stillrun` package that step hosts run, kept with each run as a tree."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

from stillrun_engine.errors import EngineError
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store
from stillrun_snapshot.tree import Entry, FileEntry, put_tree

__all__ = ["keep_face"]


def keep_face(store: Store) -> Digest:
    """The tree of the `stillrun` package installed beside this engine. Nothing of it is imported."""
    folder = _package_folder()
    entries: dict[str, Entry] = {}
    for path in sorted(p for p in folder.rglob("*") if _belongs(p)):
        data = path.read_bytes()
        entries[path.relative_to(folder.parent).as_posix()] = FileEntry(store.put(data, compress=True), len(data))
    return put_tree(store, entries)


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
