"""Trees: folders as records, for code. Format: docs/spec/tree.md, version 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import RecordError, StoreError
from stillrun_snapshot.store import Store

__all__ = ["Entry", "FileEntry", "LinkEntry", "link_stays_inside", "put_tree", "tree_files", "tree_objects"]

_SCHEMA = "stillrun/tree/1"
_UNSOUND = frozenset({"", ".", ".."})
_DEPTH = 100  # folders below each other


@dataclass(frozen=True)
class FileEntry:
    """A regular file; of its mode only whether it is executable is kept."""

    digest: Digest
    size: int
    executable: bool = False


@dataclass(frozen=True)
class LinkEntry:
    """A symbolic link whose target stays inside the tree."""

    target: str


@dataclass(frozen=True)
class _Folder:
    """A folder of a tree, met before what is in it."""

    digest: Digest


Entry = FileEntry | LinkEntry


def put_tree(store: Store, files: Mapping[str, Entry], put: list[Digest] | None = None) -> Digest:
    """Keep the folder that holds ``files`` (relative path with '/' to entry) and return its record's digest.

    put: gets the digests of all records of folders, the tree's own among them.
    """
    root: dict[str, Any] = {}
    folders: dict[str, dict[str, Any]] = {"": root}
    for path, entry in files.items():
        above, _, name = path.rpartition("/")
        if not _name_is_sound(name) or path.startswith("/"):
            raise StoreError(f"{path!r} cannot be a path in a tree.")
        if isinstance(entry, LinkEntry) and not link_stays_inside(path, entry.target):
            raise StoreError(f"the link {path!r} -> {entry.target!r} leaves the tree.")
        folder = folders.get(above)
        if folder is None:
            folder = folders[above] = _folder_at(root, above)
        if name in folder:
            raise StoreError(f"{path!r} is both a file and a folder of the same tree.")
        folder[name] = entry
    return _put_folder(store, root, [] if put is None else put)


def tree_files(store: Store, tree: Digest) -> Iterator[tuple[str, Entry]]:
    """Yield every file and link of a tree as (relative path, entry), sorted by folder and name.

    Raises RecordError for a record that could lead out of the folder it is written to.
    """
    for path, entry in _walk(store, tree, "", 0):
        if not isinstance(entry, _Folder):
            yield path, entry


def tree_objects(store: Store, tree: Digest) -> Iterator[tuple[str, Digest]]:
    """Yield every object that a tree consists of as (relative path, digest), the records of its folders included.

    A folder's record is yielded before it is read. Raises RecordError like ``tree_files``.
    """
    yield "", tree
    for path, entry in _walk(store, tree, "", 0):
        if not isinstance(entry, LinkEntry):
            yield path, entry.digest


def link_stays_inside(path: str, target: str) -> bool:
    """Return whether a link at ``path`` leads nowhere but inside, whatever other such links stand on the way.

    '..' is allowed only at the beginning: behind a name that is itself a link it would go up from elsewhere.
    """
    parts = target.split("/")
    up = 0
    while up < len(parts) and parts[up] == "..":
        up += 1
    rest = parts[up:]
    return (
        up <= path.count("/") and all(part not in ("", "..") for part in rest) and "\0" not in target and target != ""
    )


def _folder_at(root: dict[str, Any], path: str) -> dict[str, Any]:
    parts = path.split("/")
    if len(parts) > _DEPTH or not all(map(_name_is_sound, parts)):
        raise StoreError(f"{path!r} cannot be a folder in a tree.")
    folder = root
    for part in parts:
        folder = folder.setdefault(part, {})
        if not isinstance(folder, dict):
            raise StoreError(f"{path!r} lies below a file of the same tree.")
    return folder


def _put_folder(store: Store, folder: dict[str, Any], put: list[Digest]) -> Digest:
    entries = []
    for name, entry in sorted(folder.items(), key=lambda item: item[0].encode()):
        if isinstance(entry, dict):
            entries.append({"name": name, "type": "tree", "digest": _put_folder(store, entry, put)})
        else:
            entries.append({"name": name, **_entry_record(entry)})
    put.append(store.put_record({"schema": _SCHEMA, "entries": entries}))
    return put[-1]


def _entry_record(entry: Entry) -> dict[str, Any]:
    if isinstance(entry, LinkEntry):
        return {"type": "link", "target": entry.target}
    return {"type": "file", "digest": entry.digest, "size": entry.size, "executable": entry.executable}


def _walk(store: Store, tree: Digest, prefix: str, depth: int) -> Iterator[tuple[str, Entry | _Folder]]:
    record = store.get_record(tree, "tree")
    entries = record.get("entries")
    if not isinstance(entries, list) or depth > _DEPTH:
        raise RecordError(f"tree {tree} is not sound: its entries are no list, or it is nested too deeply.")
    last = b""
    for item in entries:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or not _name_is_sound(name) or name.encode() <= last:
            raise RecordError(f"tree {tree} is not sound: the entry {name!r} is unsafe, doubled, or out of order.")
        last = name.encode()
        path = prefix + name
        if item.get("type") == "tree":
            folder = _Folder(Digest.parse(item.get("digest")))
            yield path, folder
            yield from _walk(store, folder.digest, path + "/", depth + 1)
        else:
            yield path, _entry(tree, path, item)


def _entry(tree: Digest, path: str, item: dict[str, Any]) -> Entry:
    size, executable, target = item.get("size"), item.get("executable"), item.get("target")
    if item.get("type") == "file" and type(size) is int and size >= 0 and isinstance(executable, bool):
        return FileEntry(Digest.parse(item.get("digest")), size, executable)
    if item.get("type") == "link" and isinstance(target, str) and link_stays_inside(path, target):
        return LinkEntry(target)
    raise RecordError(f"tree {tree} is not sound: {path!r} is neither a file nor a link that stays inside.")


def _name_is_sound(name: str) -> bool:
    return name not in _UNSOUND and "/" not in name and "\0" not in name and name.lower() != ".git"
