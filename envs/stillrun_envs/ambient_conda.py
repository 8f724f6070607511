"""What a run borrowed of a conda environment: the archives it was made of, found again by their hashes.

conda notes for each package what it installed, where it came from and its hash (``conda-meta``). The archive is taken
from conda's own cache where it still is, else from the channel; it counts only when it is the very one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillrun_envs.contents import md5_of
from stillrun_envs.errors import EnvError
from stillrun_envs.fetch import Wanted, fetch
from stillrun_envs.location import without_credentials
from stillrun_envs.lock import NotKept, PinnedPackage
from stillrun_envs.memo import Memo
from stillrun_envs.network import Network
from stillrun_snapshot.digest import Digest, digest_of, digest_of_file
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.store import Store

__all__ = ["CondaEnvironment", "CondaKept"]

_SITE = "/site-packages/"
_NAMED_MAX = 3  # edited files named in a reason


@dataclass(frozen=True)
class CondaKept:
    """What was kept of the packages, what was not, and what they need of a machine."""

    packages: tuple[PinnedPackage, ...]
    not_kept: tuple[NotKept, ...]
    needs: tuple[str, ...]


class CondaEnvironment:
    """The packages that conda says it installed below ``prefix``."""

    def __init__(self, prefix: Path, environ: Mapping[str, str]) -> None:
        self.prefix = prefix
        self._environ = environ
        self._notes: dict[str, Mapping[str, Any]] = {}
        for path in sorted((prefix / "conda-meta").glob("*.json")):
            try:
                note = json.loads(path.read_bytes())
                self._notes[str(note["name"])] = note
            except (OSError, ValueError, KeyError, TypeError):
                continue  # a note that was cut off; its package then belongs to nobody, and is told so
        self._owners = {part: name for name, note in self._notes.items() for part in _top_parts(note)}

    def owns(self, part: str) -> bool:
        """Whether conda installed a top-level module or dist-info folder of site-packages."""
        return part in self._owners

    def keep(self, parts: Iterable[str], store: Store, memo: Memo, progress: Callable[[str], None]) -> CondaKept:
        """Keep Python, the owners of ``parts`` (modules and dist-info folders) and all that these need."""
        names = self._needed({"python"} | {self._owners[part] for part in parts if part in self._owners})
        packages: list[PinnedPackage] = []
        not_kept: list[NotKept] = []
        for name in sorted(names):
            kept = self._kept(self._notes[name], store, memo, progress)
            if isinstance(kept, PinnedPackage):
                packages.append(kept)
            else:
                not_kept.append(kept)
        needs = {text for name in names for text in self._notes[name].get("depends", ()) if text.startswith("__")}
        return CondaKept(tuple(packages), tuple(not_kept), tuple(sorted(needs)))

    def _needed(self, names: set[str]) -> set[str]:
        waiting, found = [name for name in names if name in self._notes], set[str]()
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                needs = (text.split(" ")[0].rpartition("::")[2] for text in self._notes[name].get("depends", ()))
                waiting += [need for need in needs if need in self._notes]
        return found

    def _kept(
        self, note: Mapping[str, Any], store: Store, memo: Memo, progress: Callable[[str], None]
    ) -> PinnedPackage | NotKept:
        name, version, file = str(note["name"]), str(note["version"]), str(note.get("fn", ""))
        edited = self._edited(note, memo)
        if edited:
            shown = ", ".join(edited[:_NAMED_MAX]) + (
                f" and {len(edited) - _NAMED_MAX} more" if len(edited) > _NAMED_MAX else ""
            )
            return NotKept(name, version, f"{shown} changed since conda installed it; install it again to have it kept")
        promised = note.get("sha256")
        question = ("conda-archive", file, promised or note.get("md5"))
        known = memo.get(*question)
        digest = Digest.parse(known) if isinstance(known, str) else None
        if digest is None or not store.has(digest):
            digest = self._from_cache(note, store) or self._from_channel(note, store, progress)
        if digest is None:
            return NotKept(name, version, "its archive is neither in conda's cache nor on its channel; keep the cache")
        memo.set(str(digest), *question)
        build, subdir = str(note.get("build", "")), str(note.get("subdir", ""))
        return PinnedPackage("conda", name, version, file, digest, store.size(digest), build=build, subdir=subdir)

    def _from_cache(self, note: Mapping[str, Any], store: Store) -> Digest | None:
        for path in self._places(note):
            if path.is_file():
                digest, _ = digest_of_file(path)
                if note.get("sha256") in (None, digest.hex):
                    store.put_file(path, expect=digest)
                    if note.get("sha256") or md5_of(store, digest) == note.get("md5"):
                        return digest
        return None

    def _from_channel(self, note: Mapping[str, Any], store: Store, progress: Callable[[str], None]) -> Digest | None:
        url, promised = str(note.get("url", "")), note.get("sha256")
        if "://" not in url or not promised:
            return None
        wanted = Wanted(url, Digest.parse(f"sha256:{promised}"), note.get("size"))
        try:
            (found,) = fetch([wanted], store, Network(self._environ, (url,)), progress=progress)
        except (EnvError, StoreError) as err:
            progress(f"{note.get('fn')} could not be fetched from {without_credentials(url)}: {err}")
            return None
        return found.digest

    def _places(self, note: Mapping[str, Any]) -> Iterator[Path]:
        """Where conda may still have the archive."""
        file = str(note.get("fn", ""))
        if note.get("package_tarball_full_path"):
            yield Path(note["package_tarball_full_path"])
        if note.get("extracted_package_dir"):
            yield Path(note["extracted_package_dir"]).parent / file
        told = self._environ.get("CONDA_PKGS_DIRS", "")
        yield from (Path(folder) / file for folder in told.replace(",", os.pathsep).split(os.pathsep) if folder)
        home = Path(self._environ.get("HOME") or "/nonexistent")
        for root in (self.prefix, self.prefix.parent.parent, home / ".conda", home / "miniforge3", home / "miniconda3"):
            yield root / "pkgs" / file

    def _edited(self, note: Mapping[str, Any], memo: Memo) -> list[str]:
        """The files that are not as conda installed them; read only when the file system says that one was touched."""
        promised = {
            str(one["_path"]): one.get("sha256_in_prefix") or one.get("sha256")
            for one in (note.get("paths_data") or {}).get("paths", ())
            if one.get("path_type") != "softlink" and not str(one.get("_path", "")).endswith(".pyc")
        }
        seal = digest_of("\n".join(map(self._stat_line, sorted(promised))).encode("utf-8", "surrogateescape"))
        question = ("conda-unchanged", str(self.prefix), str(note["name"]), str(note.get("build", "")))
        if memo.get(*question) == str(seal):
            return []
        found = [
            path for path, digest in sorted(promised.items()) if digest and not self._is_as_installed(path, digest)
        ]
        if not found:
            memo.set(str(seal), *question)
        return found

    def _stat_line(self, path: str) -> str:
        try:
            found = os.lstat(f"{self.prefix}/{path}")
        except OSError:
            return f"{path}\0gone"
        return f"{path}\0{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"

    def _is_as_installed(self, path: str, digest: str) -> bool:
        try:
            return digest_of_file(self.prefix / path)[0].hex == digest
        except (OSError, StoreError):
            return False


def _top_parts(note: Mapping[str, Any]) -> Iterator[str]:
    """The top-level modules and dist-info folders that a package put into site-packages."""
    seen = set()
    for path in note.get("files", ()):
        _, found, inner = str(path).partition(_SITE)
        top = inner.partition("/")[0]
        if found and top and top not in seen:
            seen.add(top)
            yield top
            if "/" not in inner:
                yield top.partition(".")[0]
