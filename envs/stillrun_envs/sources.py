"""Sources of packages that come without a wheel: sdists, git commits and folders, each kept as one object."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stillrun_envs import command
from stillrun_envs.errors import BuildError, FetchError, RequestError
from stillrun_envs.fetch import Wanted, fetch
from stillrun_envs.location import file_name, without_credentials, without_credentials_in
from stillrun_envs.memo import file_identity
from stillrun_envs.network import Network
from stillrun_envs.source_archives import unpack, write_tar
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of, digest_of_file
from stillrun_snapshot.selection import IgnoreRules, is_secret
from stillrun_snapshot.store import Store

__all__ = ["KeptSource", "SourceRef", "folder_state", "opened_source", "source_of"]

_ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".zip")
_LEFT_OUT = frozenset({".git", ".hg", ".svn", "__pycache__", ".venv", "venv", ".tox", ".nox", "node_modules", ".eggs"})
_GIT_LIMIT_S = 600
_QUIET_GIT = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "LC_ALL": "C"}


@dataclass(frozen=True)
class SourceRef:
    """Where the source of one package is."""

    kind: Literal["sdist", "git", "folder"]
    name: str  # normalised
    location: str  # address of the archive or repository, with credentials if it has any; path of a folder
    digest: Digest | None = None  # that an sdist was promised under
    revision: str = ""  # of git: branch, tag or commit; empty for the repository's own choice
    subdirectory: str = ""  # where in the source the project lies

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return f"{self.name} from {without_credentials(self.location)}{at}"


@dataclass(frozen=True)
class KeptSource:
    """A source that is an object now, and its files for one build."""

    digest: Digest
    size: int
    commit: str
    folder: Path  # the whole source; a git repository with its history, since some builds read their version from it


def source_of(requirement: str, digest: Digest | None = None) -> SourceRef:
    """The source that a requirement with an address names ('name @ git+…', '…/name-1.0.tar.gz' or 'file:///folder').

    digest: what an archive is promised under, where the requirement does not say so. Raises RequestError.
    """
    if re.match(r"^[A-Za-z][A-Za-z0-9+.\-]*://", requirement):
        raise RequestError(f"{without_credentials(requirement)} names no package; write 'name @ {requirement}'.")
    wanted = Requirement(requirement)
    assert wanted.url is not None, "it has an address"
    name, parts = canonicalize_name(wanted.name), urlsplit(wanted.url)
    told = parse_qs(parts.fragment)
    inner = told.get("subdirectory", [""])[0].strip("/")
    if ".." in inner.split("/"):
        raise RequestError(f"{name}: subdirectory={inner!r} leads outside the source.")
    bare = parts._replace(fragment="").geturl()
    if parts.scheme.startswith("git+"):
        path, at, revision = parts.path.partition("@")
        address = parts._replace(scheme=parts.scheme.removeprefix("git+"), path=path, fragment="").geturl()
        if address.startswith("file:/") and not address.startswith("file:///"):
            address = address.replace("file:/", "file:///", 1)
        return SourceRef("git", name, address, revision=unquote(revision) if at else "", subdirectory=inner)
    if parts.scheme == "file" and Path(unquote(parts.path)).is_dir():
        return SourceRef("folder", name, unquote(parts.path), subdirectory=inner)
    if parts.path.endswith(_ARCHIVES):
        promised = told.get("sha256", [""])[0]
        known = Digest.parse(f"sha256:{promised}") if promised else digest
        return SourceRef("sdist", name, bare, digest=known, subdirectory=inner)
    raise RequestError(
        f"{name} is asked for at {without_credentials(wanted.url)}, which is neither a wheel, a source archive, a folder "
        "that is there, nor a git address; write 'git+https://…' for git."
    )


def folder_state(requirement: str) -> str:
    """What changes when a file does that a ``file://`` requirement names: text for comparing, cheap to make."""
    address = Requirement(requirement).url if " @ " in requirement else requirement
    path = Path(unquote(urlsplit((address or "").removeprefix("git+")).path))
    if not path.is_dir():
        return str(file_identity(path))
    if (address or "").startswith("git+"):
        return ""  # pinned to a commit when it was locked; 'update' looks again
    lines = []
    for name in _files(path, os.environ):
        found = (path / name).lstat()
        lines.append(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_mode}")
    return str(digest_of("\n".join(lines).encode("utf-8", "surrogateescape")))


@contextmanager
def opened_source(
    ref: SourceRef, store: Store, network: Network, environ: Mapping[str, str], progress: Callable[[str], None]
) -> Iterator[KeptSource]:
    """Keep a source, and have its files in a folder for as long as the block runs.

    Raises FetchError when it is out of reach or not what was promised, BuildError when it is no source.
    """
    scratch = store.scratch("source")
    folder = scratch / "source"
    folder.mkdir()
    try:
        if ref.kind == "sdist":
            (kept,) = fetch([Wanted(ref.location, ref.digest)], store, network, progress=progress)
            with store.open_object(kept.digest) as stream:
                # seekable: a zip keeps its list at its end
                whole = scratch / "archive"
                whole.write_bytes(stream.read())
            with open(whole, "rb") as archive:
                top = unpack(archive, file_name(ref.location), folder)
            yield KeptSource(kept.digest, kept.size, "", top)
            return
        commit = ""
        if ref.kind == "git":
            progress(f"Fetching {ref}.")
            commit = _cloned(ref, folder, environ)
            paths = _tracked(folder, environ)
        else:
            paths = _copied(Path(ref.location), folder, environ)
        packed = scratch / "source.tar"
        write_tar(folder, paths, packed)
        digest, size = digest_of_file(packed)
        store.put_file(packed, expect=digest)
        yield KeptSource(digest, size, commit, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _cloned(ref: SourceRef, folder: Path, environ: Mapping[str, str]) -> str:
    """The commit of ``ref``, checked out into ``folder`` with its submodules."""
    surroundings = {**command.quiet_environment(environ), **_QUIET_GIT}
    _git(["clone", "--quiet", "--no-checkout", ref.location, "."], folder, surroundings, ref)
    wanted = ref.revision or "HEAD"
    for name in (f"refs/remotes/origin/{wanted}", wanted):
        found = _run(["rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"], folder, surroundings)
        if found.code == 0:
            break
    else:
        fetched = _run(["fetch", "--quiet", "origin", wanted], folder, surroundings)  # of a pull request, say
        found = _run(["rev-parse", "--verify", "--quiet", "FETCH_HEAD^{commit}"], folder, surroundings)
        if fetched.code != 0 or found.code != 0:
            raise FetchError(
                f"{ref}: the repository has no branch, tag or commit {ref.revision!r}; check its spelling."
            )
    commit = found.output.strip()
    _git(["checkout", "--quiet", "--detach", commit], folder, surroundings, ref)
    if (folder / ".gitmodules").exists():
        _git(["submodule", "--quiet", "update", "--init", "--recursive"], folder, surroundings, ref)
    return commit


def _git(words: list[str], folder: Path, surroundings: Mapping[str, str], ref: SourceRef) -> None:
    ended = _run(words, folder, surroundings)
    if ended.code != 0:
        said = [line.strip() for line in without_credentials_in(ended.errors).splitlines() if line.strip()]
        reason = next(
            (line for line in said if line.startswith(("fatal:", "error:"))), (said or ["it gave no reason"])[-1]
        )
        raise FetchError(
            f"git cannot fetch {ref}: {reason.partition(': ')[2].rstrip('.') or reason}. "
            "Check the address, the network and your access to the repository."
        )


def _run(words: list[str], folder: Path, surroundings: Mapping[str, str]) -> command.Outcome:
    safe = ["-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false", "-c", "core.autocrlf=false"]
    return command.run(["git", *safe, *words], environ=surroundings, cwd=folder, limit_s=_GIT_LIMIT_S)


def _tracked(folder: Path, environ: Mapping[str, str]) -> list[str]:
    surroundings = {**command.quiet_environment(environ), **_QUIET_GIT}
    ended = _run(["ls-files", "-z", "--recurse-submodules"], folder, surroundings)
    return [path for path in ended.output.split("\0") if path and (folder / path).exists()]


def _copied(root: Path, folder: Path, environ: Mapping[str, str]) -> list[str]:
    """Copy the files of a project to where it is built, so that building leaves nothing in it."""
    if not root.is_dir():
        raise BuildError(f"{root} is not a folder any more; put it back, or drop the package that it is.")
    if not any((root / name).is_file() for name in ("pyproject.toml", "setup.py")):
        raise BuildError(f"{root} has neither pyproject.toml nor setup.py; it cannot be built into a package.")
    paths = list(_files(root, environ))
    for path in paths:
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / path, place, follow_symlinks=False)
    return paths


def _files(root: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """What belongs to a project: what git tracks or would track, or all but what tools leave behind; no secrets."""
    surroundings = {**command.quiet_environment(environ), **_QUIET_GIT}
    rules = IgnoreRules.of(root)
    listed = _run(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "."], root, surroundings)
    found = [path for path in listed.output.split("\0") if path] if listed.code == 0 else _walked(root)
    for path in sorted(set(found)):
        if (
            not is_secret(path)
            and not rules.drop_file(path)
            and os.path.lexists(root / path)
            and not (root / path).is_dir()
        ):
            yield path


def _walked(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        folders[:] = [one for one in folders if one not in _LEFT_OUT and not one.endswith(".egg-info")]
        if Path(folder) == root:
            folders[:] = [one for one in folders if one not in ("build", "dist")]
        yield from (os.path.relpath(f"{folder}/{name}", root) for name in files if not name.endswith(".pyc"))
