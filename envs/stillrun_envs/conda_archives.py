"""The archives that a conda environment was made of, found again: in the package caches, else on their channels.

An archive counts only when it is the very one that conda noted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from pathlib import Path
from urllib.parse import urlsplit

import urllib3

from stillrun_envs.conda_notes import Note
from stillrun_envs.contents import md5_of
from stillrun_envs.errors import EnvError
from stillrun_envs.fetch import Wanted, fetch
from stillrun_envs.location import local_path, without_credentials
from stillrun_envs.memo import Memo
from stillrun_envs.network import Network
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of_file
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.store import Store

__all__ = ["Archives"]

_AT_ONCE = 8
_ROOTS = ("miniforge3", "miniconda3", "mambaforge", "anaconda3", "micromamba", ".conda", ".mamba")  # below HOME
_NAMED = ("CONDA_ROOT", "MAMBA_ROOT_PREFIX", "RATTLER_CACHE_DIR", "PIXI_CACHE_DIR")  # each may hold a folder pkgs


@dataclass(frozen=True)
class Archives:
    """Where archives are looked for. offline: files of this machine alone."""

    prefix: Path
    store: Store
    memo: Memo
    environ: Mapping[str, str]
    offline: bool
    progress: Callable[[str], None]
    _silent: set[str] = field(default_factory=set)  # hosts that do not answer

    def kept(self, notes: Sequence[Note]) -> dict[str, Digest | str]:
        """The kept archive of each package by its name, or why it cannot be had."""
        found: dict[str, Digest | str] = {}
        for note in notes:
            found[note.name] = self._known(note) or self._cached(note)
        missing = [note for note in notes if not isinstance(found[note.name], Digest)]
        fetched = self._fetched([note for note in missing if self._reachable(note)])
        for note in missing:
            answer = fetched.get(note.name) or self._why_not(note)
            refused = found[note.name]  # what lies in the caches
            found[note.name] = answer if isinstance(answer, Digest) else "; ".join(filter(None, (refused, answer)))
        for note in notes:
            answer = found[note.name]
            if isinstance(answer, Digest):
                self.memo.set(str(answer), *_question(note))
        return found

    def _known(self, note: Note) -> Digest | None:
        """The archive as it was found before, or fetched for another environment."""
        known = self.memo.get(*_question(note))
        promised = f"sha256:{note.sha256}" if note.sha256 else known
        digest = Digest.parse(promised) if isinstance(promised, str) else None
        return digest if digest is not None and self.store.has(digest) else None

    def _cached(self, note: Note) -> Digest | str:
        """The archive from a package cache; else what is wrong with those that lie there."""
        refused = []
        if not note.sha256 and not note.md5:
            return "conda noted no hash of its archive"
        for path in dict.fromkeys(self._places(note)):
            if not path.is_file():
                continue
            try:
                digest, _ = digest_of_file(path)
                if note.sha256 in ("", digest.hex):
                    self.store.put_file(path, expect=digest)
                    if note.sha256 or md5_of(self.store, digest) == note.md5:
                        return digest
                refused.append(f"{path} is not the archive that was installed")
            except (OSError, StoreError) as err:
                refused.append(f"{path} cannot be read ({err})")
        return "; ".join(refused)

    def _places(self, note: Note) -> Iterator[Path]:
        """Where the archive may still lie."""
        file = note.file
        for told in (note.said.get("package_tarball_full_path"), (note.said.get("link") or {}).get("source")):
            if told and Path(told).is_absolute():
                yield Path(told) if str(told).endswith(file) else Path(told).parent / file
        extracted = note.said.get("extracted_package_dir")
        if extracted and Path(extracted).is_absolute():
            yield Path(extracted).parent / file
        told = self.environ.get("CONDA_PKGS_DIRS", "")
        yield from (Path(folder) / file for folder in re.split(rf"[,{os.pathsep}]", told) if folder)
        home = Path(self.environ.get("HOME") or "/nonexistent")
        roots = [Path(self.environ[name]) for name in _NAMED if self.environ.get(name)]
        if self.environ.get("CONDA_EXE"):
            roots.append(Path(self.environ["CONDA_EXE"]).parent.parent)
        roots += [self.prefix, self.prefix.parent.parent, *(home / name for name in _ROOTS)]
        roots.append(Path(self.environ.get("XDG_CACHE_HOME") or home / ".cache") / "rattler" / "cache")
        yield from (root / "pkgs" / file for root in roots)

    def _reachable(self, note: Note) -> bool:
        local = local_path(note.url) if note.url else None
        hashed = bool(note.sha256 or note.md5)
        return hashed and (local is not None or ("://" in note.url and not self.offline))

    def _why_not(self, note: Note) -> str:
        """Why an archive was not asked for."""
        if "://" not in note.url:
            return "conda did not note where it came from"
        return "nothing was fetched, as the run is offline" if self.offline else ""

    def _fetched(self, notes: Sequence[Note]) -> dict[str, Digest | str]:
        """The archives that the channels still have; each stands for itself, unlike in a build."""
        if not notes:
            return {}
        size = sum(note.size or 0 for note in notes)
        self.progress(f"Keeping {len(notes)} conda package{'s' * (len(notes) > 1)} ({size / 1e6:,.1f} MB).")
        network = Network(self.environ, tuple(note.url for note in notes))
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            answers = list(pool.map(lambda note: self._one(note, network), notes))
        return {note.name: answer for note, answer in zip(notes, answers, strict=True)}

    def _one(self, note: Note, network: Network) -> Digest | str:
        host = urlsplit(note.url).netloc.rpartition("@")[2]
        if host in self._silent:
            return f"{host} does not answer"
        wanted = Wanted(note.url, Digest.parse(f"sha256:{note.sha256}") if note.sha256 else None, note.size)
        try:
            (found,) = fetch([wanted], self.store, network, progress=lambda _: None)
        except (EnvError, StoreError, OSError) as err:
            if isinstance(err.__cause__, urllib3.exceptions.HTTPError) and host:
                self._silent.add(host)
            return str(err).partition(". ")[0].rstrip(".")
        if not note.sha256 and md5_of(self.store, found.digest) != note.md5:
            return f"{without_credentials(note.url)} is not the archive that was installed"
        return found.digest


def _question(note: Note) -> tuple[object, ...]:
    return "conda-archive", note.file, note.sha256 or note.md5
