"""Files that a task read: hashed, kept up to a size, and named when they are not.

Best effort, by Python's audit hook in the task: reads inside C++ libraries are not seen (docs/spec/run.md).
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from stillrun_engine.guard import SecretGuard
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of_file
from stillrun_snapshot.store import Store

__all__ = ["InputKeeper", "InputLimits", "declared_files", "declared_inputs", "identity_of", "place_of"]

_SYSTEM = ("/bin", "/etc", "/lib", "/lib64", "/sbin", "/usr", "/Library", "/System")
"""Folders of the operating system: time zones, certificates. They belong to the machine, not to the run."""


@dataclass(frozen=True)
class InputLimits:
    """Which inputs are kept, in bytes. Larger ones are hashed and named, not kept."""

    file: int = 64 << 20
    run: int = 1 << 30


@dataclass
class InputKeeper:
    """Turns what tasks of one run opened into input entries of their records. A file is read once for each of its states.

    real: where a path really is that a task saw. copies: where tasks leave what files held that they changed.
    """

    store: Store
    root: Path
    cwd: Path
    limits: InputLimits = field(default_factory=InputLimits)
    real: Callable[[Path], Path] = lambda path: path
    copies: Path | None = None
    guard: SecretGuard = field(default_factory=SecretGuard)
    _known: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)
    _kept: int = 0

    def keep(self, reads: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Entries for ``reads`` of one task, sorted by place, one for each file."""
        entries = {}
        for seen in reads:
            read = {**seen, "path": str(self.real(Path(seen["path"])))}
            entry = {**place_of(Path(read["path"]), self.root, self.cwd), **self._content(read)}
            entries[entry["base"], entry["path"]] = entry
        return [entries[key] for key in sorted(entries)]

    def looked(self, looks: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Entries for the folders that a task listed, and for files that it wanted and that were not there."""
        found = [
            {**place_of(self.real(Path(each["path"])), self.root, self.cwd), "names": each["names"]} for each in looks
        ]
        return sorted((each for each in found if each["base"] != "system"), key=lambda e: (e["base"], e["path"]))

    def _content(self, read: Mapping[str, Any]) -> dict[str, Any]:
        identity = (read["path"], read["device"], read["inode"], read["size"], read["mtime_ns"])
        if identity not in self._known:
            self._known[identity] = self._earlier(read) or self._read(Path(read["path"]), identity)
        return self._known[identity]

    def _earlier(self, read: Mapping[str, Any]) -> dict[str, Any] | None:
        """The entry of a file that the task has changed since, if it left a copy of what it read."""
        name, size = read.get("copy"), read["size"]
        if name is None or self.copies is None or "/" in name or self._kept + size > self.limits.run:
            return None
        copy = self.copies / name
        try:
            reason = self.guard.input(Path(read["path"]), size, copy)
            digest = digest_of_file(copy)[0] if reason else self.store.put_file(copy)
            copy.unlink()
        except OSError:
            return None
        if reason:
            return {"size": size, "digest": digest, "kept": False, "reason": reason}
        self._kept += size
        return {"size": size, "digest": digest, "kept": True, "reason": None}

    def _read(self, path: Path, identity: tuple[Any, ...]) -> dict[str, Any]:
        size = identity[3]
        try:
            if identity_of(path) != identity:
                return {"size": size, "digest": None, "kept": False, "reason": "changed while the task ran"}
            if _is_system(path):
                return {"size": size, "digest": digest_of_file(path)[0], "kept": False, "reason": "part of the system"}
            if size > self.limits.file or self._kept + size > self.limits.run:
                return {
                    "size": size,
                    "digest": digest_of_file(path)[0],
                    "kept": False,
                    "reason": "larger than the limit",
                }
            if (reason := self.guard.input(path, size)) is not None:
                return {"size": size, "digest": digest_of_file(path)[0], "kept": False, "reason": reason}
            digest: Digest = self.store.put_file(path)
            if identity_of(path) != identity:
                return {"size": size, "digest": None, "kept": False, "reason": "changed while it was kept"}
        except OSError as err:
            return {"size": size, "digest": None, "kept": False, "reason": f"cannot be read: {err.strerror}"}
        self._kept += size
        return {"size": size, "digest": digest, "kept": True, "reason": None}


def place_of(path: Path, root: Path, cwd: Path) -> dict[str, str]:
    """Where a file stands, as its entry says: below the code's folder, the working directory, of the system, or elsewhere."""
    for base, folder in (("tree", root), ("cwd", cwd)):
        if path.is_relative_to(folder):
            return {"base": base, "path": path.relative_to(folder).as_posix()}
    return {"base": "system" if _is_system(path) else "absolute", "path": path.as_posix()}


def declared_inputs(description: Mapping[str, Any]) -> dict[str, list[str]]:
    """The patterns of files that each step of a flow says it reads."""
    found: dict[str, list[str]] = {}
    for step in description["steps"]:
        for one in (*description["decorators"], *step["decorators"]):
            if one["name"] == "inputs":
                found.setdefault(step["name"], []).extend(one["attributes"]["patterns"])
    return found


def declared_files(patterns: Iterable[str], cwd: Path) -> Iterator[Path]:
    """The files that ``patterns`` find from ``cwd`` on, sorted within each."""
    for pattern in patterns:
        # an absolute pattern is one too, which Path.glob refuses
        for name in sorted(glob.glob(pattern, root_dir=cwd, recursive=True)):  # noqa: PTH207
            path = Path(os.path.normpath(cwd / name))
            if path.is_file():
                yield path


def _is_system(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in _SYSTEM)


def identity_of(path: Path) -> tuple[Any, ...]:
    """What stays the same while nobody has written to a file or put another in its place."""
    found = path.stat()
    return (str(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
