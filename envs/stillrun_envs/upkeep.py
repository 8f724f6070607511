"""Upkeep of built environments: what there is, and removing what was not used for long. Kept objects are not touched.

All that is removed here is built again from its lock at its next use. What a living process uses is never removed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from stillrun_envs._holds import in_use, still, use_path
from stillrun_envs._seal import on_disk
from stillrun_envs.built import changes_by_content, clear_unused_leftovers, discard_unused, extent, marked, suspects
from stillrun_snapshot.clock import Clock, utc_now
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StillrunError, StoreError
from stillrun_snapshot.store import Store

__all__ = [
    "BuiltEnvironment",
    "Collected",
    "Kept",
    "Removed",
    "built_trees",
    "changed_folders",
    "collect",
    "environments",
]

State = Literal["ready", "changed", "outdated"]
Kind = Literal["environment", "python", "unfinished", "bytecode"]
Reason = Literal["pinned", "in use", "recent", "needed", "not removable"]


@dataclass(frozen=True)
class BuiltEnvironment:
    """One built environment of a store."""

    path: Path
    env_id: str  # the name of its folder
    lock: Digest | None  # None: its marker is damaged
    python: str  # version; empty when its marker is damaged
    size: int  # bytes on disk
    files: int
    last_used: datetime  # UTC
    pinned: bool
    in_use: bool  # by a living process, or being built
    state: State  # "changed": built again at its next use; "outdated": never used again by this Stillrun


@dataclass(frozen=True)
class Removed:
    """One thing that was, or with ``dry_run`` would be, removed."""

    path: Path
    kind: Kind
    size: int


@dataclass(frozen=True)
class Kept:
    """One environment or Python that stays, and why."""

    path: Path
    size: int
    reason: Reason


@dataclass(frozen=True)
class Collected:
    """What ``collect`` did."""

    removed: tuple[Removed, ...]
    kept: tuple[Kept, ...]

    @property
    def size(self) -> int:
        """Bytes on disk that were freed."""
        return sum(one.size for one in self.removed)


def environments(store: Store, *, keep: Collection[Digest] = (), look: bool = True) -> list[BuiltEnvironment]:
    """The built environments, last used first. keep: pinned locks.

    look: compare every file with the seal, 5 to 10 microseconds each; otherwise a whole marker counts as "ready".
    """
    found = [_described(path, store, keep, look=look) for path in _folders(store, "envs")]
    return sorted(found, key=lambda one: one.last_used, reverse=True)


def built_trees(store: Store) -> Iterator[Digest]:
    """The records of what is in built environments and Pythons: needed as long as those are there."""
    for place in ("envs", "pythons"):
        for path in _folders(store, place):
            try:
                yield Digest.parse(marked(path).get("tree"))
            except StoreError:  # a marker that is damaged: it is built again at its next use
                continue


def changed_folders(store: Store, *, full: bool) -> Iterator[tuple[Path, str]]:
    """Built environments and Pythons that are not as they were built, and what is another; each is built again when it is used.

    full: read every file; otherwise those that look different to the file system than when they were built.
    """
    for place in ("envs", "pythons"):
        for path in _folders(store, place):
            try:
                changes = suspects(path)
                if full or changes:
                    tree = store.get_record(Digest.parse(marked(path).get("tree")), "environment")
                    changes = changes_by_content(path, tree, only=None if full else frozenset(changes.changed))
            except (StillrunError, OSError) as err:
                yield path, f"what it should be is not known ({err})"
                continue
            if changes:
                yield path, str(changes)


def collect(
    store: Store,
    *,
    unused_for_s: int | None = None,
    keep_bytes: int | None = None,
    keep: Collection[Digest] = (),
    going: Callable[[Digest], bool] = lambda _lock: False,
    dry_run: bool = False,
    clock: Clock = utc_now,
) -> Collected:
    """Remove environments that were not used for that long, and beyond ``keep_bytes`` those not used the longest.

    keep: locks whose environments stay. going: whether a lock is about to be removed from the store. In any case goes what
    nobody can use: environments of other versions or of locks that are no longer kept, Pythons that no environment needs,
    leftovers of killed builders, bytecode without a source. Two at once, or one beside builders, are harmless.
    """
    from stillrun_envs.prefix import bytecode_folder  # a look at what is built imports nothing that builds

    found = environments(store, keep=keep, look=False)
    found = [replace(one, state="outdated") if one.lock and going(one.lock) else one for one in found]
    chosen = _chosen(found, unused_for_s, keep_bytes, clock())
    removed: list[Removed] = []
    kept: list[Kept] = []
    for one in found:
        if one not in chosen:
            kept.append(Kept(one.path, one.size, _reason(one)))
        elif _goes(one.path, dry_run=dry_run):
            removed.append(Removed(one.path, "environment", one.size))
        else:
            kept.append(Kept(one.path, one.size, "in use" if in_use(one.path) else "not removable"))
    removed += _pythons(store, {one.path for one in removed}, kept, dry_run=dry_run)
    for place in ("envs", "pythons"):
        removed += _unfinished(store, place, dry_run=dry_run)
    gone = {one.path for one in removed}
    removed += _bytecode(bytecode_folder(store), gone, dry_run=dry_run)
    return Collected(tuple(removed), tuple(kept))


def _described(path: Path, store: Store, keep: Collection[Digest], *, look: bool) -> BuiltEnvironment:
    from stillrun_envs.prefix import usable_here

    said = marked(path)
    try:
        lock = Digest.parse(said.get("lock"))
    except StoreError:
        lock = None
    notes = said.get("notes")
    sealed = extent(path)
    size, files = (sealed.size, sealed.files) if sealed else _extent_by_walk(path)
    state: State = "changed" if lock is None else "ready" if usable_here(said, path, store) else "outdated"
    if state == "ready" and look and suspects(path):
        state = "changed"
    return BuiltEnvironment(
        path=path,
        env_id=path.name,
        lock=lock,
        python=str(notes.get("python", "")) if isinstance(notes, dict) else "",
        size=size,
        files=files,
        last_used=_last_used(path),
        pinned=lock in keep,
        in_use=in_use(path),
        state=state,
    )


def _chosen(
    found: Sequence[BuiltEnvironment], unused_for_s: int | None, keep_bytes: int | None, now: datetime
) -> list[BuiltEnvironment]:
    """Which environments to remove, by what is known of them; in use and pinned ones count for the total."""
    free = [one for one in reversed(found) if not one.pinned and not one.in_use]  # not used the longest first
    chosen = [one for one in free if one.state != "ready"]
    if unused_for_s is not None:
        chosen += [one for one in free if one not in chosen and (now - one.last_used).total_seconds() > unused_for_s]
    if keep_bytes is not None:
        total = sum(one.size for one in found) - sum(one.size for one in chosen)
        for one in free:
            if total > keep_bytes and one not in chosen:
                chosen.append(one)
                total -= one.size
    return chosen


def _reason(one: BuiltEnvironment) -> Reason:
    return "pinned" if one.pinned else "in use" if one.in_use else "recent"


def _goes(path: Path, *, dry_run: bool) -> bool:
    """Remove a folder; whether it is, or would be, gone."""
    if dry_run:
        return not in_use(path)
    try:
        return discard_unused(path)
    except OSError:  # a folder of somebody else's, or a store that cannot be written to: told as "not removable"
        return False


def _pythons(store: Store, gone: Collection[Path], kept: list[Kept], *, dry_run: bool) -> Iterator[Removed]:
    needed = {_python_of(path) for path in _folders(store, "envs") if path not in gone}
    for path in _folders(store, "pythons"):
        sealed = extent(path)
        size = sealed.size if sealed else _extent_by_walk(path)[0]
        if path in needed:
            kept.append(Kept(path, size, "needed"))
        elif _goes(path, dry_run=dry_run):
            yield Removed(path, "python", size)
        else:
            kept.append(Kept(path, size, "in use" if in_use(path) else "not removable"))


def _python_of(path: Path) -> Path | None:
    """The unpacked Python that an environment's interpreter is a link to."""
    try:
        return Path(os.readlink(path / "bin" / "python")).parent.parent  # noqa: PTH115 - as it is written
    except OSError:
        return None


def _unfinished(store: Store, place: str, *, dry_run: bool) -> Iterator[Removed]:
    """Remove what killed builders and removers left, where no living one is at work."""
    top = store.cache_dir(place).resolve()
    left: dict[str, list[Path]] = {}
    for path in sorted(top.iterdir()):
        name, dot, _ = path.name.partition(".")
        if dot:
            left.setdefault(name, []).append(path)
    for name, paths in left.items():
        final = top / name
        told = [Removed(path, "unfinished", _extent_by_walk(path)[0]) for path in paths if path.is_dir()]
        if told and (not in_use(final) if dry_run else _tried(clear_unused_leftovers, final)):
            yield from told
        if not dry_run and not final.exists():
            _tried(_without_seal, final)


def _without_seal(final: Path) -> bool:
    """Remove the files beside a folder that is gone."""
    with still(final) as alone:
        if alone and not final.exists():
            for end in (".seal", ".seal.part"):
                final.with_name(final.name + end).unlink(missing_ok=True)
        return alone


def _tried(act: Callable[[Path], bool], path: Path) -> bool:
    try:
        return act(path)
    except OSError:  # cannot be removed by this user
        return False


def _bytecode(top: Path, gone: Collection[Path], *, dry_run: bool) -> Iterator[Removed]:
    """Remove the folders of bytecode whose sources' folder is not there; they lie by its full path."""
    for folder, folders, _ in os.walk(top):
        here = Path(folder)
        for name in list(folders):
            source = Path("/") / (here / name).relative_to(top)
            if source.is_dir() and source not in gone:
                continue
            folders.remove(name)
            size = _extent_by_walk(here / name)[0]
            if not dry_run:
                shutil.rmtree(here / name, ignore_errors=True)
            yield Removed(here / name, "bytecode", size)


def _folders(store: Store, place: str) -> list[Path]:
    """The folders that stand under their final name."""
    top = store.cache_dir(place).resolve()
    return sorted(path for path in top.iterdir() if "." not in path.name and path.is_dir())


def _last_used(path: Path) -> datetime:
    """When it was last asked for; when it was made, if that was never noted."""
    for file in (use_path(path), path):
        try:
            return datetime.fromtimestamp(file.stat().st_mtime, timezone.utc)
        except OSError:
            continue
    return datetime.fromtimestamp(0, timezone.utc)


def _extent_by_walk(path: Path) -> tuple[int, int]:
    """Bytes on disk and number of files."""
    sizes = []
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                sizes.append(on_disk(os.lstat(f"{folder}/{name}")))
            except OSError:  # it is being removed
                continue
    return sum(sizes), len(sizes)
