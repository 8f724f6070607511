"""Built folders: made once from kept objects, published whole, checked before each use, never modified.

A folder is made beside its place under a file lock and renamed there, so that nobody ever sees half of one. Its
*tree* is a record of every file and digest; its *seal* says what the files looked like to the file system when the
tree was taken, so that a later check need not read them. Format: docs/spec/environment.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from pathlib import Path

from stillrun_envs import _seal
from stillrun_envs._holds import building, let_go, still, use
from stillrun_envs._seal import Changes, Extent, extent_of, files_below, seal_of
from stillrun_envs.errors import BuildError
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of, digest_of_file
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.store import Store

__all__ = [
    "Built",
    "Changes",
    "Entry",
    "built_folder",
    "changes_by_content",
    "clear_unused_leftovers",
    "discard",
    "discard_unused",
    "extent",
    "marked",
    "standing",
    "suspects",
    "work_folder",
]

SCHEMA = "stillrun/environment/1"
MARKER = "stillrun-env.json"  # says what the folder is; written when all else stands
_UNFINISHED = (".new-*", ".old*", ".work-*")  # what a killed builder may leave beside its folder's place
_BATCH = 64  # files that a thread is given at once
_AT_ONCE = 1 << 20  # bytes of a file that are read in one go
Entry = Mapping[str, object]  # of one file in a tree


@dataclass(frozen=True)
class Built:
    """A folder that is whole and unchanged."""

    path: Path
    tree: Digest  # record stillrun/environment/1, kind "built"
    notes: Mapping[str, object] = field(default_factory=dict)  # what its maker found out about it
    fresh: bool = False  # whether it was made just now


def built_folder(
    final: Path,
    store: Store,
    make: Callable[[Path], Mapping[str, object] | None],
    *,
    facts: Mapping[str, object],
    progress: Callable[[str], None],
    proof: Callable[[Sequence[Entry]], None] = lambda _: None,
) -> Built:
    """The folder at ``final``, made by ``make(temporary folder)`` when it is not there or not as it was built.

    facts: what its marker says that it is. ``make`` may return notes to keep in the marker. proof: is given every file
    that was made and raises when one is not as it must be. Two that ask at once get one folder; while this process
    lives ``discard_unused`` leaves it alone.
    """
    use(final)
    found = _usable(final, store, facts)
    if isinstance(found, Built):
        return found
    with building(final):
        found = _usable(final, store, facts)  # somebody else may have just made it
        if isinstance(found, Built):
            return found
        if found:
            progress(f"{final} is not as it was built ({found}); building it again.")
        return _make(final, store, make, facts, proof)


def standing(final: Path, facts: Mapping[str, object]) -> Built | None:
    """The folder as its marker tells of it, its files not looked at; None when there is none that is what ``facts`` say.

    While this process lives ``discard_unused`` leaves it alone.
    """
    use(final)
    found = _marked(final, facts)
    return found if isinstance(found, Built) else None


def marked(final: Path) -> Mapping[str, object]:
    """All that the marker of a folder says; nothing when it has none, or one that is not whole."""
    try:
        said = json.loads((final / MARKER).read_bytes())
        digest = said.pop("digest")
        return said if digest_of(canonical_bytes(said)) == digest else {}
    except (OSError, ValueError, KeyError, AttributeError, TypeError, StoreError):
        return {}


def suspects(final: Path) -> Changes:
    """What may have changed since the folder was sealed, by what the file system says; reads no file but the seal."""
    try:
        sealed = _seal_path(final).read_bytes()
    except FileNotFoundError:
        return Changes(missing=("its seal",))
    return _seal.suspects(final, sealed)


def extent(final: Path) -> Extent | None:
    """How much the folder holds, as it was sealed; None when it is not."""
    try:
        return extent_of(_seal_path(final).read_bytes())
    except OSError:
        return None


def changes_by_content(final: Path, tree: Mapping[str, object], *, only: frozenset[str] | None = None) -> Changes:
    """What reading the files says has changed since ``tree`` was recorded; ``only``: the paths to be read."""
    recorded = {str(entry["path"]): entry for entry in _entries(tree)}
    present = set(files_below(final)) - {MARKER}
    read = sorted((present & recorded.keys()) if only is None else (present & recorded.keys() & only))
    found = {str(entry["path"]): entry for entry in _described(final, read)}
    return Changes(
        added=tuple(sorted(present - recorded.keys())),
        changed=tuple(path for path in read if found[path] != recorded[path]),
        missing=tuple(sorted(recorded.keys() - present)),
    )


def discard(final: Path) -> None:
    """Remove a built folder and what stands beside it, whoever uses it."""
    let_go(final)
    with building(final):
        _discard(final)


def discard_unused(final: Path) -> bool:
    """Remove a folder, what stands beside it and what was left unfinished; False when it is in use or being built."""
    with still(final) as alone:
        if alone:
            _discard(final)
        return alone


def clear_unused_leftovers(final: Path) -> bool:
    """Remove what a killed builder left beside the folder's place; False when a living one works there."""
    with still(final, users=False) as alone:
        if alone:
            _clear_leftovers(final)
        return alone


def work_folder(final: Path) -> Path:
    """A new folder for what is needed while ``final`` is built; on one file system with it, and found if left behind."""
    return Path(tempfile.mkdtemp(prefix=f"{final.name}.work-", dir=final.parent))


def _usable(final: Path, store: Store, facts: Mapping[str, object]) -> Built | Changes | None:
    """The folder when it may be used, how it differs when it may not, None when there is none."""
    marked = _marked(final, facts)
    if not isinstance(marked, Built):
        return marked
    differs = suspects(final)
    if not differs:
        return marked
    return _looked_at_again(final, store, marked.tree, differs) or marked


def _marked(final: Path, facts: Mapping[str, object]) -> Built | Changes | None:
    said = dict(marked(final))
    if not said:
        return Changes(changed=(MARKER,)) if final.exists() else None
    tree, notes = said.pop("tree", None), said.pop("notes", None)
    if said != json.loads(canonical_bytes(facts)) or not isinstance(tree, str) or not isinstance(notes, dict):
        return Changes(changed=(MARKER,))
    return Built(final, Digest.parse(tree), notes)


def _looked_at_again(final: Path, store: Store, tree: Digest, differs: Changes) -> Changes | None:
    """The changes that are left when the suspects are read; a folder that was only touched or copied is sealed anew."""
    try:
        record = store.get_record(tree, "environment")
    except StoreError:
        return differs
    everything = "its seal" in differs.missing
    found = changes_by_content(final, record, only=None if everything else frozenset(differs.changed))
    if found:
        return found
    with contextlib.suppress(OSError):  # a store on a read-only disk is read again each time
        _write_durably(_seal_path(final), seal_of(final))
    return None


def _make(
    final: Path,
    store: Store,
    make: Callable[[Path], Mapping[str, object] | None],
    facts: Mapping[str, object],
    proof: Callable[[Sequence[Entry]], None],
) -> Built:
    temporary = final
    try:
        _clear_leftovers(final)
        temporary = Path(tempfile.mkdtemp(prefix=f"{final.name}.new-", dir=final.parent))
        temporary.chmod(0o755)
        notes = dict(make(temporary) or {})
        files = list(_described(temporary, files_below(temporary)))
        proof(files)
        tree = store.put_record({"schema": SCHEMA, "kind": "built", "files": files})
        _mark(temporary, {**facts, "tree": str(tree), "notes": notes})
        _sync_folder(temporary)
        seal = seal_of(temporary)
        if final.exists():
            _remove(final)
        _write_durably(_seal_path(final), seal)
        temporary.rename(final)
        _sync_folder(final.parent)
    except (OSError, shutil.Error) as err:
        raise BuildError(
            f"{final} could not be built: {err}. Free space or change permissions, then try again."
        ) from err
    finally:
        if temporary != final and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)
    return Built(final, tree, notes, fresh=True)


def _mark(folder: Path, said: Mapping[str, object]) -> None:
    _write_durably(folder / MARKER, canonical_bytes({**said, "digest": str(digest_of(canonical_bytes(said)))}))


def _discard(final: Path) -> None:
    _seal_path(final).unlink(missing_ok=True)
    if final.exists():
        _remove(final)
    _clear_leftovers(final)


def _clear_leftovers(final: Path) -> None:
    """Remove what a killed builder left; only the holder of the lock may."""
    for pattern in _UNFINISHED:
        for left in final.parent.glob(final.name + pattern):
            shutil.rmtree(left)


def _remove(final: Path) -> None:
    """Remove a folder so that it is gone at once for everybody who looks for it."""
    aside = final.with_name(final.name + ".old")
    if aside.exists():
        shutil.rmtree(aside)
    final.rename(aside)
    shutil.rmtree(aside)


def _described(root: Path, paths: Sequence[str]) -> Iterator[dict[str, object]]:
    """What a tree says of each file; hashing and reading leave the interpreter lock, so that two threads gain."""
    batches = [paths[place : place + _BATCH] for place in range(0, len(paths), _BATCH)]
    with ThreadPoolExecutor(max_workers=2) as pool:
        for batch in pool.map(lambda batch: [_description(root, path) for path in batch], batches):
            yield from batch


def _description(root: Path, path: str) -> dict[str, object]:
    file = f"{root}/{path}"
    found = os.lstat(file)
    if stat.S_ISLNK(found.st_mode):
        return {"path": path, "link": os.readlink(file)}  # noqa: PTH115 - thousands of them
    if not stat.S_ISREG(found.st_mode):
        return {"path": path, "mode": f"{found.st_mode:o}", "size": 0, "digest": str(digest_of(b""))}  # like no file
    if found.st_size <= _AT_ONCE:
        with open(file, "rb", buffering=0) as stream:
            data = stream.read()
        digest, size = digest_of(data), len(data)
    else:
        digest, size = digest_of_file(Path(file))
    return {"path": path, "mode": f"{stat.S_IMODE(found.st_mode):o}", "size": size, "digest": str(digest)}


def _entries(tree: Mapping[str, object]) -> list[Entry]:
    files = tree.get("files")
    if tree.get("kind") != "built" or not isinstance(files, list):
        raise BuildError(
            "the record of this environment does not list its files; drop the environment and build again."
        )
    return files


def _seal_path(final: Path) -> Path:
    return final.with_name(final.name + ".seal")


def _write_durably(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".part")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
