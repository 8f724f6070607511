"""The code of a flow, captured as it is now: in a git work tree or in a plain folder. Rules: docs/spec/code.md."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection, Iterable
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from stillrun_snapshot._folder import list_folder
from stillrun_snapshot._git import GitState, git_diff, git_remotes, git_state, work_tree_of
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import CaptureError, StoreError
from stillrun_snapshot.selection import IGNORE_FILE, CaptureLimits, IgnoreRules, LeftOut, is_secret
from stillrun_snapshot.statcache import StatCache
from stillrun_snapshot.store import LOOSE_MIN, Store
from stillrun_snapshot.tree import Entry, FileEntry, LinkEntry, link_stays_inside, put_tree

if TYPE_CHECKING:
    from stillrun_snapshot.secret_scan import Finding

__all__ = ["CaptureLimits", "Captured", "LeftOut", "capture_code", "capture_tree"]

_SCHEMA = "stillrun/code/1"
_TREE = "tree"  # a fact: the records of its folders


@dataclass(frozen=True)
class Captured:
    """The code of a flow in the store."""

    code: Digest  # record stillrun/code/1
    tree: Digest
    root: Path  # top of the work tree, or the flow's folder
    left_out: tuple[LeftOut, ...]
    files: int
    bytes: int
    notes: tuple[str, ...] = ()  # what a person should be told


def capture_code(
    store: Store, flow_file: Path, *, limits: CaptureLimits | None = None, allowed: Collection[str] = ()
) -> Captured:
    """Keep the code that the flow belongs to and return where; unchanged files are not read again.

    allowed: rules whose findings are kept all the same (docs/spec/secrets.md).
    Raises CaptureError when the flow cannot be read, or when there is more code than ``limits`` allow, and SecretFound.
    """
    limits = limits or CaptureLimits()
    flow = Path(flow_file).resolve()
    if not flow.is_file():
        raise CaptureError(f"the flow {flow_file} cannot be captured: there is no such file. Check its path.")
    top = work_tree_of(flow.parent)
    state = None if top is None else git_state(top)
    root = flow.parent if top is None or state is None else top
    cache = StatCache.load(store.root / "cache" / "stat", root)
    job = _Capture(store, root, cache, limits, allowed)
    notes = (
        []
        if top is None or state is not None
        else [f"{top} is not read as a git work tree: git is missing or refuses it."]
    )
    paths = job.paths_in_git(state) if state is not None else job.paths_in_folder()
    own = flow.relative_to(root).as_posix()
    if own not in paths:
        paths.append(own)
        notes.append(f"{own} is taken although the rules for this folder leave it out.")
    job.take(paths, own, total=limits.total if state is None else limits.git_total)
    job.refuse_secrets(own)
    tree = job.put()
    record = {
        "schema": _SCHEMA,
        "tree": tree,
        "flow_file": own,
        "origin": "folder" if state is None else "git",
        "git": None if state is None else job.git_record(state),
        "left_out": [{"path": item.path, "size": item.size, "reason": item.reason} for item in job.sorted_left_out()],
    }
    code = store.put_record(record)
    cache.save()
    return Captured(code, tree, root, tuple(job.sorted_left_out()), len(job.entries), job.total, tuple(notes))


def capture_tree(store: Store, root: Path, files: Iterable[str | os.PathLike[str]]) -> Digest:
    """Keep the named files below ``root`` (relative paths) as a tree and return it.

    No rules apply but these: special files and links that lead out are refused with CaptureError.
    """
    cache = StatCache(root / "unused", "")
    job = _Capture(store, root, cache, CaptureLimits(source_file=1 << 62, data_file=1 << 62))
    job.take([Path(file).as_posix() for file in files], None, total=1 << 62, strict=True)
    if job.left_out:
        item = job.left_out[0]
        raise CaptureError(f"{root / item.path} cannot be part of a tree: {item.reason}.")
    return job.put()


@dataclass
class _Capture:
    """One capture on its way: paths are chosen, then taken, then put."""

    store: Store
    root: Path
    cache: StatCache
    limits: CaptureLimits
    allowed: Collection[str] | None = None  # rules that are not asked; None: nothing is looked for
    entries: dict[str, Entry] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    statuses: dict[str, os.stat_result] = field(default_factory=dict)
    total: int = 0
    findings: list[Finding] = field(default_factory=list)

    # -- choosing ------------------------------------------------------------------------------------------------

    def paths_in_git(self, state: GitState) -> list[str]:
        """Return what git tracks or would track, but not what the ignore file names."""
        self.left_out += [LeftOut(path, 0, reason) for path, reason in state.apart]
        rules = IgnoreRules.of(self.root)
        inside = self._store_prefix()
        return [
            path
            for path in state.paths
            if not (rules and rules.drop_file(path)) and not (inside and path.startswith(inside))
        ]

    def paths_in_folder(self) -> list[str]:
        """Return the files of the folder, by its rules."""
        listing = list_folder(self.root, IgnoreRules.of(self.root), self.limits)
        self.left_out += listing.left_out
        return listing.paths

    def _store_prefix(self) -> str | None:
        if self.root not in self.store.root.parents:
            return None
        return self.store.root.relative_to(self.root).as_posix() + "/"

    # -- taking --------------------------------------------------------------------------------------------------

    def take(self, paths: Iterable[str], own: str | None, *, total: int, strict: bool = False) -> None:
        """Make entries of the paths; ``own`` is the flow, which must not be missing."""
        base = f"{self.root}/"
        regular: list[tuple[str, os.stat_result]] = []
        for path in paths:
            try:
                status = os.lstat(base + path)
            except (FileNotFoundError, NotADirectoryError):
                if strict:
                    self.left_out.append(LeftOut(_told(path), 0, "there is no such file"))
                continue  # tracked, but not in the work tree now
            reason = None if path == own else self._reason(path, status, strict)
            if reason is not None:
                self.left_out.append(LeftOut(_told(path), status.st_size, reason))
            elif stat.S_ISLNK(status.st_mode):
                self._take_link(path, status)
            elif stat.S_ISREG(status.st_mode):
                regular.append((path, status))
                self.total += status.st_size
        self._check_size(own, regular, total)
        self._take_files(base, regular, own)

    def _reason(self, path: str, status: os.stat_result, strict: bool) -> str | None:
        if not strict and is_secret(path):
            return "secret"
        if _told(path) != path:
            return "its name is not UTF-8"
        if stat.S_ISREG(status.st_mode):
            limit = self.limits.for_file(path)
            return f"larger than {limit:,} bytes" if status.st_size > limit else None
        if stat.S_ISLNK(status.st_mode):
            return None
        if stat.S_ISDIR(status.st_mode):  # tracked as a file, and what is in it now is untracked
            return "a folder" if strict else None
        return "neither a file nor a link"

    def _check_size(self, own: str | None, regular: list[tuple[str, os.stat_result]], limit: int) -> None:
        if self.total <= limit:
            return
        largest = sorted(regular, key=lambda item: -item[1].st_size)[:3]
        named = ", ".join(f"{path} ({status.st_size:,})" for path, status in largest)
        raise CaptureError(
            f"the code of {own} below {self.root} is {self.total:,} bytes, more than the {limit:,} allowed; "
            f"the largest files: {named}. Name what is not code in {IGNORE_FILE}, or move the flow to a folder of its own."
        )

    def _take_link(self, path: str, status: os.stat_result) -> None:
        target = os.readlink(f"{self.root}/{path}")  # noqa: PTH115  # text, not a path: it is kept as it stands
        if _told(target) == target and link_stays_inside(path, target):
            self.entries[path] = LinkEntry(target)
        else:
            self.left_out.append(LeftOut(path, status.st_size, "a link that leads out of the folder"))

    def _take_files(self, base: str, regular: list[tuple[str, os.stat_result]], own: str | None) -> None:
        known = {path: digest for path, status in regular if (digest := self.cache.digest(path, status, self.allowed))}
        absent = self.store.absent(known.values())
        for path, status in regular:
            digest = known.get(path)
            size = status.st_size
            if digest is None or digest in absent:
                try:
                    digest, size = self._read(base, path, status)
                except OSError as error:
                    if path == own:
                        raise CaptureError(
                            f"the flow {path} cannot be read: {error}. Check its permissions."
                        ) from error
                    self.left_out.append(LeftOut(path, size, "unreadable"))
                    self.total -= status.st_size
                    continue
            self.entries[path] = FileEntry(digest, size, bool(status.st_mode & stat.S_IXUSR))

    def _read(self, base: str, path: str, status: os.stat_result) -> tuple[Digest, int]:
        if self.allowed is not None:
            return self._read_scanning(base, path, status, self.allowed)
        now = time.time_ns()
        descriptor = os.open(base + path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb", buffering=0) as stream:
            data = stream.read(LOOSE_MIN) if status.st_size < LOOSE_MIN else b""
        if data or not status.st_size:
            digest = self.store.put(data, compress=True)
        else:
            digest = self.store.put_file(Path(f"{base}{path}"), limit=self.limits.for_file(path))
        size = self.store.size(digest)
        self.cache.add(path, status, digest, now)
        return digest, size

    def _read_scanning(
        self, base: str, path: str, status: os.stat_result, allowed: Collection[str]
    ) -> tuple[Digest, int]:
        """Look through a file before it is kept."""
        from stillrun_snapshot.secret_scan import is_program, scan, worth_scanning  # not where nothing is new

        now, rules = time.time_ns(), list[str]()
        if not worth_scanning(path, status.st_size):
            digest = self.store.put_file(Path(f"{base}{path}"), limit=self.limits.for_file(path))
        else:
            descriptor = os.open(base + path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "rb", buffering=0) as stream:
                data = _read_within(stream, self.limits.for_file(path), status.st_size, path)
            found = scan(data, path, program=is_program(path))
            refused = [each for each in found if each.rule not in allowed]
            self.findings += refused
            if refused:
                return digest_of(data), len(data)  # nothing of it is put: the capture ends without a tree
            digest = self.store.put(data, compress=True)
            rules = [each.rule for each in found]
        size = self.store.size(digest)
        self.cache.add(path, status, digest, now, rules)
        return digest, size

    def refuse_secrets(self, own: str) -> None:
        """Raise SecretFound when a file was met that must not be kept."""
        if self.findings:
            from stillrun_snapshot.secret_scan import refuse

            self.cache.forget_fact(_TREE)  # it was of other files than those that were read by now
            self.cache.save()
            refuse(self.findings, f"the code of {own}", len(self.entries))

    # -- putting -------------------------------------------------------------------------------------------------

    def put(self) -> Digest:
        """Keep the tree of all that was taken; where nothing has changed since the last time, it is known."""
        links = sorted((path, entry.target) for path, entry in self.entries.items() if isinstance(entry, LinkEntry))
        source = digest_of(repr((len(self.entries), links)).encode())
        known = self.cache.fact(_TREE, source) if self.cache.as_before else None
        records = [Digest(text) for text in (known or "").split()]
        if records and not self.store.absent(records):
            return records[-1]
        records = []
        tree = put_tree(self.store, self.entries, records)
        self.cache.add_fact(_TREE, source, " ".join(records))
        return tree

    def sorted_left_out(self) -> list[LeftOut]:
        """Return what was left out, by path."""
        return sorted(self.left_out, key=lambda item: (item.path, item.reason))

    def git_record(self, state: GitState) -> dict[str, object]:
        """Return what a code record says about git."""
        kept = self.entries.keys()
        without = {path for path in state.changed if is_secret(path)}
        without |= {path for path in state.changed if path not in kept and os.path.lexists(self.root / path)}
        diff = self._clean_diff(state, without)
        return {
            "commit": state.commit,
            "branch": state.branch,
            "dirty": state.dirty,
            "diff": None if not diff else self.store.put(diff, compress=True),
            "remotes": git_remotes(self.root, self.cache),
        }

    def _clean_diff(self, state: GitState, without: set[str]) -> bytes | None:
        """The changes to the commit, without files whose changed or removed lines look like secrets."""
        diff = git_diff(self.root, state, without)
        if not diff or self.allowed is None:
            return diff
        from stillrun_snapshot.secret_scan import scan

        if not scan(diff, "", allowed=self.allowed, program=True):
            return diff
        for path in state.changed:
            others = {each for each in state.changed if each != path}
            own = git_diff(self.root, state, others) if path not in without else None
            if own and scan(own, "", allowed=self.allowed, program=True):
                without = without | {path}
        return git_diff(self.root, state, without)


def _read_within(stream: BinaryIO, limit: int, size: int, path: str) -> bytes:
    """Return all of a file that had ``size`` bytes a moment ago; StoreError when it has grown beyond ``limit`` since."""
    data = stream.read(size + 1)
    if len(data) > size:
        data += stream.read(limit + 1 - len(data))
    if len(data) > limit:
        raise StoreError(f"{path} grew beyond the {limit:,} bytes allowed for it while it was read. Run again.")
    return data


def _told(path: str) -> str:
    """Return a path as text that can be recorded, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
