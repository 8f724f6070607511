"""What a run borrowed of a conda environment: the archives it was made of, or its files packed into one again.

conda notes for each package what it installed, where it came from and its hash. A package that is as it was installed
is kept as its archive; one that was edited, or whose archive cannot be had any more, is packed from its files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from stillrun_envs.conda_archives import Archives
from stillrun_envs.conda_notes import Note, NotedFile, read_notes
from stillrun_envs.conda_repack import pack
from stillrun_envs.lock import NotKept, PinnedPackage, package_from_record
from stillrun_envs.memo import Memo
from stillrun_envs.repack import UnpackableError
from stillrun_envs.watched import Watch
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of_file
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.store import Store

__all__ = ["CondaEnvironment", "CondaKept"]

_REPACKED = 1  # raised when the same files would be packed otherwise
_RUN_SCRIPTS = ("/conda ", "/conda-script", "mamba", "conda-script.py", "/conda\n")  # programs that run link scripts


@dataclass(frozen=True)
class CondaKept:
    """What was kept of the packages, what was not, and what they need of a machine."""

    packages: tuple[PinnedPackage, ...]
    not_kept: tuple[NotKept, ...]
    needs: tuple[str, ...]
    link_scripts: tuple[str, ...]


@dataclass(frozen=True)
class CondaEnvironment:
    """The packages that conda says it installed below ``prefix``."""

    prefix: Path
    platform: str  # conda's name of it, such as linux-64
    store: Store
    memo: Memo
    environ: Mapping[str, str]
    watch: Watch
    offline: bool = False

    @cached_property
    def notes(self) -> Mapping[str, Note]:
        """The packages by name."""
        self.watch.add([str(self.prefix / "conda-meta")])
        return read_notes(self.prefix)

    @cached_property
    def _owners(self) -> Mapping[str, set[str]]:
        """What lies in a site-packages folder to the packages that put it there."""
        owners: dict[str, set[str]] = {}
        for name, note in self.notes.items():
            for part in note.parts():
                owners.setdefault(part, set()).add(name)
        return owners

    def owners(self, path: Path) -> set[str]:
        """The packages that installed a module or a metadata folder in a site-packages folder."""
        return self._owners.get(self._below(path), set()) if self.prefix in path.parents else set()

    def installed(self, metadata: Path) -> bool:
        """Whether the distribution with this metadata folder is conda's, and not pip's at the very same place."""
        found = self.owners(metadata)
        if not found or _text(metadata / "INSTALLER") == "conda":
            return bool(found)
        record = f"{self._below(metadata)}/RECORD"
        promised = {one.digest for name in found for one in self.notes[name].files if one.path == record and one.digest}
        return not promised or any(self._is(record, digest) for digest in promised)

    def keep(self, names: Iterable[str], taken: Collection[str], progress: Callable[[str], None]) -> CondaKept:
        """Keep Python, the packages ``names`` and all that these need.

        taken: paths below the prefix that wheels brought, over conda's.
        """
        notes = [self.notes[name] for name in sorted(self._needed({"python", *names}))]
        seals = {note.name: self._watched(note) for note in notes}
        with ThreadPoolExecutor(max_workers=2) as pool:  # hashing leaves the interpreter lock
            states = pool.map(lambda note: self._changed(note, seals[note.name]), notes)
            changed = dict(zip((note.name for note in notes), states, strict=True))
        sound = [note for note in notes if not changed[note.name]]
        archives = Archives(self.prefix, self.store, self.memo, self.environ, self.offline, progress).kept(sound)
        found = [
            self._package(note, archives.get(note.name, ""), seals[note.name], changed[note.name], taken, progress)
            for note in notes
        ]
        needs = {text for note in notes for text in note.depends if text.startswith("__")}
        return CondaKept(
            tuple(one for one in found if isinstance(one, PinnedPackage)),
            tuple(one for one in found if isinstance(one, NotKept)),
            tuple(sorted(needs)),
            self._scripted(notes),
        )

    def _needed(self, names: Iterable[str]) -> set[str]:
        waiting, found = [name for name in names if name in self.notes], set[str]()
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += [need for need in self.notes[name].depends_on if need in self.notes]
        return found

    def _package(
        self,
        note: Note,
        archive: Digest | str,
        seal: str,
        changed: Sequence[str],
        taken: Collection[str],
        progress: Callable[[str], None],
    ) -> PinnedPackage | NotKept | None:
        """One package as it is kept; None when nothing is left of it."""
        if isinstance(archive, Digest):
            size, subdir = self.store.size(archive), note.subdir
            return PinnedPackage(
                "conda", note.name, note.version, note.file, archive, size, build=note.build, subdir=subdir
            )
        without = {one.path for one in note.files if one.path in taken}
        question = ("conda-repacked", _REPACKED, str(self.prefix), note.source.name, seal, sorted(without))
        known = self.memo.get(*question)
        if isinstance(known, dict) and self.store.has(Digest.parse(known["digest"])):
            return package_from_record(known)
        if not changed:
            progress(f"{note.name} is packed from its files: {archive}.")
        made = self._repacked(note, changed, without, archive)
        if isinstance(made, PinnedPackage):
            self.memo.set(made.to_record(), *question)
        return made

    def _repacked(
        self, note: Note, changed: Sequence[str], without: Collection[str], archive: str
    ) -> PinnedPackage | NotKept | None:
        replaced = self._is_replaced(note)
        edited = [path for path in changed if path not in without and not (replaced and not self._lies(path))]
        folder = self.store.scratch("repack")
        try:
            path = folder / "package"
            file, members = pack(note, self.prefix, self.platform, path, without=without)
            if not members and changed:
                return None
            digest = self.store.put_file(path)
        except (UnpackableError, OSError) as err:
            first = f"its archive cannot be had ({archive})" if archive else f"{changed[0]} was changed"
            cure = f"install {note.name} again, or keep conda's package cache"
            return NotKept(note.name, note.version, f"{first}, and its files cannot be packed: {err}; {cure}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return PinnedPackage(
            "conda",
            note.name,
            note.version,
            file,
            digest,
            self.store.size(digest),
            build=note.build,
            subdir=self.platform,
            origin="installed",
            edited=tuple(edited),
        )

    def _is_replaced(self, note: Note) -> bool:
        """Whether pip took conda's package away and put its own there: conda's metadata folders are gone."""
        folders = {part for part in note.parts() if part.endswith((".dist-info", ".egg-info"))}
        return bool(folders) and not any(
            self._lies(f"{one}/RECORD") or self._lies(f"{one}/METADATA") for one in folders
        )

    def _watched(self, note: Note) -> str:
        """Watch the files of a package; a name for how they are now."""
        return self.watch.add([str(note.source), *(f"{self.prefix}/{one.path}" for one in note.files)])

    def _changed(self, note: Note, seal: str) -> tuple[str, ...]:
        """The files that are not as conda installed them; read only when the file system says that one was touched."""
        question = ("conda-unchanged", str(self.prefix), note.source.name, seal)
        known = self.memo.get(*question)
        if isinstance(known, list):
            return tuple(known)
        found = [one.path for one in note.files if not self._is_as_installed(one)]
        self.memo.set(found, *question)
        return tuple(found)

    def _is_as_installed(self, one: NotedFile) -> bool:
        path = self.prefix / one.path
        if one.link or not one.digest:
            return path.is_symlink() or path.is_file()
        return self._is(one.path, one.digest)

    def _is(self, path: str, digest: str) -> bool:
        try:
            return digest_of_file(self.prefix / path)[0].hex == digest
        except (OSError, StoreError):
            return False

    def _scripted(self, notes: Sequence[Note]) -> tuple[str, ...]:
        """The packages whose link scripts ran when the environment was made; rattler and pixi run none."""
        history = _text(self.prefix / "conda-meta" / "history") + "\n"
        if not any(name in line for line in history.splitlines(keepends=True) for name in _RUN_SCRIPTS):
            return ()
        named = {note.name: f"bin/.{note.name}-post-link.sh" for note in notes}
        return tuple(name for name, path in named.items() if self._lies(path))

    def _lies(self, path: str) -> bool:
        return os.path.lexists(self.prefix / path)

    def _below(self, path: Path) -> str:
        return path.relative_to(self.prefix).as_posix()


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
