"""Built folders: made once from kept objects, published whole, checked before each use, never modified.

A folder is made beside its place under a file lock and renamed there, so that nobody ever sees half of one. Its
*tree* is a record of every file and digest; its *seal* says what the files looked like to the file system when the
tree was taken, so that a later check need not read them. Format: docs/spec/environment.md.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stillrun_envs.errors import BuildError
from stillrun_snapshot.digest import Digest, digest_of, digest_of_file
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.store import Store

__all__ = ["Built", "Changes", "built_folder", "changes_by_content", "discard", "suspects"]

SCHEMA = "stillrun/environment/1"
MARKER = "stillrun-env.json"  # says what the folder is; written when all else stands
_IGNORED = "__pycache__"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMED_MAX = 5  # files named in a message


@dataclass(frozen=True)
class Built:
    """A folder that is whole and unchanged."""

    path: Path
    tree: Digest  # record stillrun/environment/1, kind "built"


@dataclass(frozen=True)
class Changes:
    """How a folder differs from what was built."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.missing)

    def __str__(self) -> str:
        kinds = (("added", self.added), ("changed", self.changed), ("missing", self.missing))
        return "; ".join(f"{_some(paths)} {kind}" for kind, paths in kinds if paths)


def built_folder(
    final: Path,
    store: Store,
    make: Callable[[Path], None],
    *,
    facts: Mapping[str, object],
    progress: Callable[[str], None],
) -> Built:
    """The folder at ``final``, made by ``make(temporary folder)`` when it is not there or not as it was built.

    facts: what its marker says that it is. Two that ask at once get one folder.
    """
    found = _usable(final, store, facts)
    if isinstance(found, Built):
        return found
    with _only_builder(final):
        found = _usable(final, store, facts)  # somebody else may have just made it
        if isinstance(found, Built):
            return found
        if found:
            progress(f"{final} is not as it was built ({found}); building it again.")
        _clear_leftovers(final)
        return _make(final, store, make, facts)


def suspects(final: Path) -> Changes:
    """What may have changed since the folder was sealed, by what the file system says; reads no file but the seal.

    After a restart of the machine every file is suspect once: not all that was written may have reached the disk.
    """
    try:
        sealed = _seal_path(final).read_bytes()
    except FileNotFoundError:
        return Changes(missing=("its seal",))
    found = _seal(final)
    if found == sealed:
        return Changes()
    before, after = _parsed(sealed), _parsed(found)
    restarted = before.pop("", None) != after.pop("", None)  # then nothing is known of what reached the disk
    return Changes(
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(
            sorted(path for path in before.keys() & after.keys() if restarted or before[path] != after[path])
        ),
        missing=tuple(sorted(before.keys() - after.keys())),
    )


def changes_by_content(final: Path, tree: Mapping[str, object], *, only: frozenset[str] | None = None) -> Changes:
    """What reading the files says has changed since ``tree`` was recorded; ``only``: the paths to be read."""
    recorded = {str(entry["path"]): entry for entry in _entries(tree)}
    present = set(_paths(final)) - {MARKER}
    read = sorted((present & recorded.keys()) if only is None else (present & recorded.keys() & only))
    found = {str(entry["path"]): entry for entry in _described(final, read)}
    return Changes(
        added=tuple(sorted(present - recorded.keys())),
        changed=tuple(path for path in read if found[path] != recorded[path]),
        missing=tuple(sorted(recorded.keys() - present)),
    )


def discard(final: Path) -> None:
    """Remove a built folder and what stands beside it."""
    with _only_builder(final):
        _seal_path(final).unlink(missing_ok=True)
        if final.exists():
            _remove(final, final.with_name(final.name + ".old"))
        _clear_leftovers(final)


def _usable(final: Path, store: Store, facts: Mapping[str, object]) -> Built | Changes | None:
    """The folder when it may be used, how it differs when it may not, None when there is none."""
    try:
        said = json.loads((final / MARKER).read_bytes())
        tree = Digest.parse(said.pop("tree"))
    except FileNotFoundError:
        return Changes(missing=(MARKER,)) if final.exists() else None
    except (ValueError, KeyError, AttributeError, TypeError, StoreError):
        return Changes(changed=(MARKER,))
    if said != json.loads(canonical_bytes(facts)):
        return Changes(changed=(MARKER,))
    differs = suspects(final)
    if not differs:
        return Built(final, tree)
    return _looked_at_again(final, store, tree, differs) or Built(final, tree)


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
        _write_durably(_seal_path(final), _seal(final))
    return None


def _make(final: Path, store: Store, make: Callable[[Path], None], facts: Mapping[str, object]) -> Built:
    temporary = Path(tempfile.mkdtemp(prefix=f"{final.name}.new-", dir=final.parent))
    try:
        temporary.chmod(0o755)
        make(temporary)
        tree = store.put_record(
            {"schema": SCHEMA, "kind": "built", "files": list(_described(temporary, _paths(temporary)))}
        )
        _write_durably(temporary / MARKER, canonical_bytes({**facts, "tree": str(tree)}))
        _sync_folder(temporary)
        seal = _seal(temporary)
        if final.exists():
            _remove(final, final.with_name(final.name + ".old"))
        _write_durably(_seal_path(final), seal)
        temporary.rename(final)
        _sync_folder(final.parent)
    except OSError as err:
        raise BuildError(
            f"{final} could not be built: {err}. Free space or change permissions, then try again."
        ) from err
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)
    return Built(final, tree)


@contextmanager
def _only_builder(final: Path) -> Iterator[None]:
    """Hold the file lock of one folder; the system releases it when its holder dies."""
    final.parent.mkdir(parents=True, exist_ok=True)
    with open(final.with_name(final.name + ".lock"), "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _clear_leftovers(final: Path) -> None:
    """Remove what a killed builder left; only the holder of the lock may."""
    for left in (*final.parent.glob(f"{final.name}.new-*"), *final.parent.glob(f"{final.name}.old*")):
        shutil.rmtree(left)


def _remove(final: Path, aside: Path) -> None:
    """Remove a folder so that it is gone at once for everybody who looks for it."""
    if aside.exists():
        shutil.rmtree(aside)
    final.rename(aside)
    shutil.rmtree(aside)


def _paths(root: Path) -> list[str]:
    """Every file and link below ``root``, bytecode folders left out."""
    found = []
    for folder, folders, files in os.walk(root):
        linked = [name for name in folders if os.path.islink(f"{folder}/{name}")]  # noqa: PTH114 - thousands of them
        folders[:] = [name for name in folders if name != _IGNORED and name not in linked]
        found += [os.path.relpath(f"{folder}/{name}", root) for name in (*files, *linked)]
    return sorted(found)


def _described(root: Path, paths: list[str]) -> Iterator[dict[str, object]]:
    with ThreadPoolExecutor(max_workers=2) as pool:  # hashing and reading leave the interpreter lock
        yield from pool.map(lambda path: _description(root, path), paths, chunksize=64)


def _description(root: Path, path: str) -> dict[str, object]:
    file = root / path
    found = file.lstat()
    if stat.S_ISLNK(found.st_mode):
        return {"path": path, "link": str(file.readlink())}
    if found.st_size <= 1 << 20:
        data = file.read_bytes()
        digest, size = digest_of(data), len(data)
    else:
        digest, size = digest_of_file(file)
    return {"path": path, "mode": f"{stat.S_IMODE(found.st_mode):o}", "size": size, "digest": str(digest)}


def _entries(tree: Mapping[str, object]) -> list[Mapping[str, object]]:
    files = tree.get("files")
    if tree.get("kind") != "built" or not isinstance(files, list):
        raise BuildError(
            "the record of this environment does not list its files; drop the environment and build again."
        )
    return files


def _seal_path(final: Path) -> Path:
    return final.with_name(final.name + ".seal")


def _seal(root: Path) -> bytes:
    """One line for each file; the same bytes while nothing was touched. ctime is in it because it cannot be set."""
    top = os.fspath(root)
    cut = len(top) + 1
    folders, lines = [top], []
    while folders:  # written out, and with %: this runs for thousands of files before each use
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    found = entry.stat(follow_symlinks=False)
                    facts = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_mode)
                    lines.append("%s\0%d %d %d %d %o" % (entry.path[cut:], *facts))  # noqa: UP031 - see above
                elif entry.name != _IGNORED:
                    folders.append(entry.path)
    lines.sort()
    lines.insert(0, f"\0{_boot()}")
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def _boot() -> str:
    """Tells one start of the machine from another; what was written before may not have reached the disk whole."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return "unknown"


def _parsed(seal: bytes) -> dict[str, str]:
    text = seal.decode("utf-8", "surrogateescape")
    return dict(line.partition("\0")[::2] for line in text.split("\n"))


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


def _some(paths: tuple[str, ...]) -> str:
    shown = ", ".join(paths[:_NAMED_MAX])
    return shown if len(paths) <= _NAMED_MAX else f"{shown} and {len(paths) - _NAMED_MAX:,} more"
