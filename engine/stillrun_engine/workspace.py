"""The folder that a replay works in: the captured code, and the files that the original read, where the step looks for them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from stillrun_engine.archive import key_of
from stillrun_engine.errors import ReplayRefused
from stillrun_engine.plan import TaskKey
from stillrun_envs.enclosure import Enclosure, too_wide
from stillrun_snapshot.checkout import export_tree
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of_file
from stillrun_snapshot.store import Store

__all__ = ["Workspace", "folders_of", "lay_out", "lay_out_for_some", "make_workspace", "put_back", "root_of"]

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Workspace:
    """root stands for the original's code folder; cwd for its working directory. Removed by ``close``.

    mounts: pairs of a folder of the workspace and the place where its tasks see it, outer places first; empty when they
    work in the workspace itself, and then ``elsewhere`` says why.
    """

    folder: Path
    root: Path
    cwd: Path
    mounts: tuple[tuple[Path, Path], ...] = ()
    elsewhere: str | None = None
    kept: tuple[str, ...] = ()  # names in root that are there for folders which stay to be seen
    origins: Mapping[str, Path] = field(default_factory=dict)  # where the original had its 'tree' and its 'cwd'

    def seen(self, path: Path) -> Path:
        """Where tasks see a path of the workspace."""
        return next(
            (place / path.relative_to(own) for own, place in self.mounts[::-1] if path.is_relative_to(own)), path
        )

    def own(self, path: Path) -> Path:
        """Where a path that a task saw really is."""
        return next(
            (own / path.relative_to(place) for own, place in self.mounts[::-1] if path.is_relative_to(place)), path
        )

    def close(self) -> None:
        """Remove the folder and what the replay wrote into it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def make_workspace(
    store: Store, run: Record, place: Path | None = None, *, keep: Sequence[Path] = (), same_path: bool = True
) -> Workspace:
    """A fresh folder, to be filled by ``lay_out``; at ``place``, where nothing is yet, or anywhere.

    same_path: tasks see it where the original ran, if this machine lets them. keep: folders that they need as they are.
    """
    if place is not None:
        place.mkdir()
    folder = place or store.scratch("replay")
    root, placed = folder / "code", run["cwd"]
    cwd = root / placed["path"] if placed["base"] == "tree" else folder / "cwd"
    for each in {root, cwd} if placed["base"] != "tree" else {root}:
        each.mkdir()
    origins = dict(zip(("tree", "cwd"), folders_of(store, run), strict=True))
    plain = Workspace(folder, root, cwd, elsewhere="another folder was asked for", origins=origins)
    if not same_path:
        return plain
    wanted = [(root, origins["tree"])]
    if placed["base"] != "tree":
        wanted.append((cwd, Path(placed["path"])))
    mounts = tuple(sorted((pair for pair in wanted if not too_wide(pair[1])), key=lambda pair: len(pair[1].parts)))
    wide = [str(there) for _, there in wanted if too_wide(there)]
    elsewhere = f"{wide[0]} holds more than the flow" if wide else None
    problem = Enclosure(mounts, (store.root, *keep)).problem()
    if problem:
        return replace(plain, elsewhere=problem)
    found = Workspace(folder, root, cwd, mounts, elsewhere, origins=origins)
    return replace(found, kept=_places_of_kept(found, (store.root, *keep)))


def _places_of_kept(workspace: Workspace, keep: Iterable[Path]) -> tuple[str, ...]:
    """Make the folders at which what stays to be seen is seen; their names in the code folder.

    Before a process looks: it lays out in memory what is missing, and would not see what is put beside it later.
    """
    names = set()
    for path in keep:
        own = workspace.own(path)
        if own != path and not own.exists():
            own.mkdir(parents=True)
            if own.is_relative_to(workspace.root):
                names.add(own.relative_to(workspace.root).parts[0])
    return tuple(sorted(names))


def root_of(source: Path, flow_file: str) -> Path:
    """The folder that the code was captured from."""
    inner = Path(flow_file).parts
    return Path(*source.parts[: -len(inner)]) if source.parts[-len(inner) :] == inner else source.parent


def folders_of(store: Store, run: Record) -> tuple[Path, Path]:
    """The code's folder and the working directory of a run, where it ran."""
    root = root_of(Path(run["source"]), store.get_record(Digest(run["code"]), "code")["flow_file"])
    return root, root / run["cwd"]["path"] if run["cwd"]["base"] == "tree" else Path(run["cwd"]["path"])


def lay_out(store: Store, workspace: Workspace, tree: Digest, tasks: Iterable[Record]) -> None:
    """Put the code, and the kept files that ``tasks`` read, into the workspace.

    Raises ReplayRefused, naming every file that was read and is neither kept nor unchanged at its original place.
    """
    problems = lay_out_for_some(store, workspace, tree, tasks)
    if problems:
        found = "\n  ".join(sorted({problem for each in problems.values() for problem in each}))
        raise ReplayRefused(f"files that the original read are not to be had any more:\n  {found}")


def lay_out_for_some(
    store: Store, workspace: Workspace, tree: Digest, tasks: Iterable[Record]
) -> dict[TaskKey, list[str]]:
    """The same; what is wrong with the files of each task, where something is."""
    export_tree(store, tree, workspace.root, beside=workspace.kept)
    workspace.cwd.mkdir(parents=True, exist_ok=True)
    told: dict[tuple[str, str, str | None], str | None] = {}
    problems: dict[TaskKey, list[str]] = {}
    for task in tasks:
        for file in task["files"]:
            known = (file["base"], file["path"], file["digest"])
            if known not in told:
                told[known] = put_back(store, file, workspace)
            problem = told[known]
            if problem is not None:
                problems.setdefault(key_of(task), []).append(problem)
    return problems


def put_back(store: Store, file: Record, workspace: Workspace) -> str | None:
    """Place one file that a task read; the sentence that says why it cannot be."""
    if file["base"] == "system":
        return None
    if file["base"] == "absolute":
        return _check_in_place(file)
    target = (workspace.root if file["base"] == "tree" else workspace.cwd) / file["path"]
    if not target.resolve().is_relative_to(workspace.folder.resolve()):
        return f"{file['path']} lies outside of the replay's folder"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if not file["kept"]:
        return _take_from_its_place(file, workspace.origins.get(file["base"]), target)
    with store.open_object(Digest(file["digest"])) as source, target.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
    return None


def _take_from_its_place(file: Record, origin: Path | None, target: Path) -> str | None:
    """A file that was not kept, such as one with a secret, is taken from where it was, when it is as it was."""
    refused = f"{file['path']} ({file['size']:,} bytes) was not kept: {file['reason']}"
    if file["digest"] is None or origin is None or not (origin / file["path"]).is_file():
        return refused
    shutil.copyfile(origin / file["path"], target)
    if digest_of_file(target)[0] == file["digest"]:
        return None
    target.unlink()
    return f"{refused}; and it has changed since"


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
