"""What git knows of a work tree, asked with as few processes as possible and without running anything it configures."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.errors import CaptureError
from stillrun_snapshot.statcache import StatCache

__all__ = ["GitState", "git_diff", "git_remotes", "git_state", "work_tree_of"]

_HARDENED = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "--no-pager")
_GITLINK = "160000"
_NESTED = "nested repository"


@dataclass(frozen=True)
class GitState:
    """A work tree as git sees it. Paths are relative to the top, with '/'."""

    commit: str | None  # None before the first commit
    branch: str | None  # None when detached
    paths: list[str]  # tracked, and untracked but not ignored
    changed: list[str]  # tracked paths that differ from the commit
    untracked: bool
    apart: list[tuple[str, str]]  # submodules and nested repositories: path, reason

    @property
    def dirty(self) -> bool:
        """Whether the work tree is not exactly the commit."""
        return bool(self.changed) or self.untracked


def work_tree_of(folder: Path) -> Path | None:
    """Return the top of the work tree that ``folder`` is in, None when it is in none."""
    for candidate in (folder, *folder.parents):
        if (candidate / ".git").exists():
            return candidate
    return None


def git_state(top: Path) -> GitState | None:
    """Return the state of the work tree; None when there is no git, or ``top`` is none after all."""
    try:
        status = _start(top, "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--no-renames")
    except FileNotFoundError:
        return None
    files = _start(top, "ls-files", "-z", "-s")
    ends = [(process, *process.communicate()) for process in (files, status)]  # both, whatever becomes of one
    listed, told = (_output(process, output, complaint, top) for process, output, complaint in ends)
    if listed is None or told is None:
        return None
    return _parse(told, listed)


def git_diff(top: Path, state: GitState, without: set[str]) -> bytes | None:
    """Return the changes of tracked files against the commit as a binary patch, those in ``without`` left out."""
    if state.commit is None or all(path in without for path in state.changed):
        return None
    excluded = [f":(top,exclude,literal){path}" for path in state.changed if path in without]
    process = _start(
        top,
        "diff",
        "--binary",
        "--full-index",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        "--no-renames",
        "--ignore-submodules",
        "HEAD",
        "--",
        *([":(top)", *excluded] if excluded else ()),
    )
    return _output(process, *process.communicate(), top)


def git_remotes(top: Path, cache: StatCache) -> dict[str, str]:
    """Return the remotes and their addresses without user names, passwords and tokens.

    GitPython reads the configuration; as importing it takes longer than a whole capture, what it found is remembered
    until the file changes.
    """
    import json

    config = _config_file(top)
    status = config.stat() if config.exists() else None
    source = (
        "" if status is None else f"{config} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
    )
    known = cache.fact("remotes", ascii(source))
    if known is None:
        known = json.dumps(_read_remotes(top) if _may_name_remotes(config) else {})
        cache.add_fact("remotes", ascii(source), known)
    remotes: dict[str, str] = json.loads(known)
    return remotes


def without_credentials(url: str) -> str:
    """Return the address of a remote without what identifies a person or opens a door."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        account, at, address = url.partition("@")
        return address if at and ":" in account else url
    host, slash, path = rest.partition("/")
    account, at, name = host.rpartition("@")
    if at:
        login = account.split(":")[0] + "@"  # which account to log in to is part of an ssh address
        host = (login if scheme.lower().endswith("ssh") else "") + name
    elif re.search(r":\D", host) and "@" in path:  # a password with a '/' in it
        host, slash, path = path.rpartition("@")[2].partition("/")
    return f"{scheme}://{host}{slash}{re.split('[?#]', path)[0]}"


def _may_name_remotes(config: Path) -> bool:
    text = config.read_bytes().lower() if config.exists() else b""
    return b"[remote" in text or b"[include" in text


def _read_remotes(top: Path) -> dict[str, str]:
    import git  # 0.15 s, and three times that where no byte code is kept

    remotes: dict[str, str] = {}
    with git.Repo(top) as repository:
        reader = repository.config_reader("repository")
        for section in reader.sections():
            match = re.fullmatch(r'remote "(.*)"', section)
            if match and reader.has_option(section, "url"):
                remotes[match[1]] = without_credentials(str(reader.get_values(section, "url")[0]))
    return remotes


def _config_file(top: Path) -> Path:
    entry = top / ".git"
    if entry.is_dir():
        return entry / "config"
    folder = top / entry.read_text().removeprefix("gitdir:").strip()  # a linked work tree or a submodule
    shared = folder / "commondir"
    return (folder / shared.read_text().strip() if shared.exists() else folder) / "config"


def _start(top: Path, *arguments: str) -> subprocess.Popen[bytes]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    variables |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    return subprocess.Popen(
        [*_HARDENED, *arguments],
        cwd=top,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _output(process: subprocess.Popen[bytes], output: bytes, complaint: bytes, top: Path) -> bytes | None:
    if process.returncode == 0:
        return output
    text = complaint.decode(errors="replace").strip()
    if "not a git repository" in text:
        return None
    if "dubious ownership" in text:
        raise CaptureError(
            f"the code in {top} cannot be captured: its git repository belongs to another user, and git refuses to read it. "
            f"If you trust it, run: git config --global --add safe.directory {top}"
        )
    raise CaptureError(
        f"the code in {top} cannot be captured: git failed with status {process.returncode} ({text[:300]}). "
        "Run 'git status' there and mend what it reports."
    )


def _parse(status: bytes, listed: bytes) -> GitState:
    commit: str | None = None
    branch: str | None = None
    changed: list[str] = []
    untracked: list[str] = []
    for field in _fields(status):
        kind, _, rest = field.partition(" ")
        if field.startswith("# branch.oid "):
            commit = None if field.endswith("(initial)") else field.split(" ", 2)[2]
        elif field.startswith("# branch.head "):
            branch = None if field.endswith(" (detached)") else field.split(" ", 2)[2]
        elif kind == "1":
            changed.append(field.split(" ", 8)[8])
        elif kind == "u":
            changed.append(field.split(" ", 10)[10])
        elif kind == "?":
            untracked.append(rest)
    apart = [(path.rstrip("/"), _NESTED) for path in untracked if path.endswith("/")]
    tracked: dict[str, None] = {}
    for field in _fields(listed):
        facts, _, path = field.partition("\t")
        if facts.startswith(_GITLINK):
            apart.append((path, "submodule"))
        else:
            tracked[path] = None
    plain = [path for path in untracked if not path.endswith("/")]
    modules = {path for path, _ in apart}
    return GitState(commit, branch, [*tracked, *plain], [p for p in changed if p not in modules], bool(plain), apart)


def _fields(output: bytes) -> list[str]:
    return [os.fsdecode(field) for field in output.split(b"\0") if field]
