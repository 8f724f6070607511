"""The folder that a replay works in: the captured code, and the files that the original read, where the step looks for them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillrun_engine.errors import ReplayRefused
from stillrun_snapshot.checkout import export_tree
from stillrun_snapshot.digest import Digest, digest_of_file
from stillrun_snapshot.store import Store

__all__ = ["Workspace", "lay_out", "make_workspace"]

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Workspace:
    """root stands for the original's code folder; cwd for its working directory. Removed by ``close``."""

    folder: Path
    root: Path
    cwd: Path

    def close(self) -> None:
        """Remove the folder and what the replay wrote into it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def make_workspace(store: Store, run: Record, place: Path | None = None) -> Workspace:
    """A fresh folder, to be filled by ``lay_out``; at ``place``, where nothing is yet, or anywhere."""
    if place is not None:
        place.mkdir()
    folder = place or store.scratch("replay")
    root, placed = folder / "code", run["cwd"]
    cwd = root / placed["path"] if placed["base"] == "tree" else folder / "cwd"
    return Workspace(folder, root, cwd)


def lay_out(store: Store, workspace: Workspace, tree: Digest, files: Iterable[Record]) -> None:
    """Put the code and the kept ``files`` of the original's tasks into the workspace.

    Raises ReplayRefused, naming every file that was read and is neither kept nor unchanged at its original place.
    """
    export_tree(store, tree, workspace.root)
    workspace.cwd.mkdir(parents=True, exist_ok=True)
    problems = [problem for file in files if (problem := _put_back(store, file, workspace))]
    if problems:
        found = "\n  ".join(sorted(set(problems)))
        raise ReplayRefused(f"files that the original read are not to be had any more:\n  {found}")


def _put_back(store: Store, file: Record, workspace: Workspace) -> str | None:
    """Place one file; the sentence that says why it cannot be."""
    if file["base"] == "system":
        return None
    if file["base"] == "absolute":
        return _check_in_place(file)
    if not file["kept"]:
        return f"{file['path']} ({file['size']:,} bytes) was not kept: {file['reason']}"
    target = (workspace.root if file["base"] == "tree" else workspace.cwd) / file["path"]
    if not target.resolve().is_relative_to(workspace.folder.resolve()):
        return f"{file['path']} lies outside of the replay's folder"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    with store.open_object(Digest(file["digest"])) as source, target.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
    return None


def _check_in_place(file: Record) -> str | None:
    """An absolute path is read where it stands, after a check that it still holds what the original read."""
    path = Path(file["path"])
    try:
        found, _ = digest_of_file(path)
    except OSError as err:
        return f"{path} cannot be read: {err.strerror}{_copy(file)}"
    if file["digest"] is None:
        return f"{path} was not hashed by the original: {file['reason']}"
    if found != file["digest"]:
        return f"{path} has changed since: it was {file['digest'][:19]}… and is {found[:19]}…{_copy(file)}"
    return None


def _copy(file: Record) -> str:
    """The cure, when what was read is kept."""
    return f"; 'stillrun inputs FLOW/RUN --path {file['path']} --out COPY' writes what was read" if file["kept"] else ""
