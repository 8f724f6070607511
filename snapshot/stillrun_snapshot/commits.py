"""The code of a flow as a commit of its repository has it, without touching the work tree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import git

from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import CaptureError
from stillrun_snapshot.selection import is_secret
from stillrun_snapshot.store import Store
from stillrun_snapshot.tree import Entry, FileEntry, LinkEntry, link_stays_inside, put_tree

__all__ = ["Commit", "capture_commit", "commits_between"]

_EXECUTABLE, _LINK = 0o100755, 0o120000


@dataclass(frozen=True)
class Commit:
    """One commit. when: ISO 8601 with zone."""

    sha: str
    subject: str
    author: str
    when: str


def commits_between(top: Path, good: str, bad: str) -> list[Commit]:
    """The commits after ``good`` up to ``bad``, oldest first, along first parents.

    Raises CaptureError when the repository does not know both, or ``bad`` does not come after ``good``.
    """
    try:
        repository = git.Repo(top)
        if not repository.is_ancestor(repository.commit(good), repository.commit(bad)):
            raise CaptureError(f"commit {bad[:12]} does not come after {good[:12]}, so there is nothing between them.")
        found = list(repository.iter_commits(f"{good}..{bad}", first_parent=True, reverse=True))
    except (git.GitError, ValueError, OSError) as err:
        raise CaptureError(
            f"{top} is no git repository that knows the commits {good[:12]} and {bad[:12]}; fetch them, or name another "
            "with --repo."
        ) from err
    return [
        Commit(one.hexsha, str(one.summary), one.author.name or "", one.authored_datetime.isoformat()) for one in found
    ]


def capture_commit(store: Store, top: Path, sha: str, like: Mapping[str, Any]) -> Digest:
    """Keep the code of a commit as a stillrun/code/1 like ``like``, another code record of the same repository."""
    repository = git.Repo(top)
    entries: dict[str, Entry] = {}
    left_out = []
    for item in repository.commit(sha).tree.traverse():
        if not isinstance(item, git.Blob):
            continue
        path = str(item.path)
        data = item.data_stream.read()
        if is_secret(path):
            left_out.append({"path": path, "size": item.size, "reason": "secret"})
        elif item.mode == _LINK:
            target = data.decode("utf-8", "surrogateescape")
            if link_stays_inside(path, target):
                entries[path] = LinkEntry(target)
        else:
            entries[path] = FileEntry(store.put(data), item.size, item.mode == _EXECUTABLE)
    known = {**(like["git"] or {}), "commit": sha, "branch": None, "dirty": False, "diff": None}
    return store.put_record({**like, "tree": put_tree(store, entries), "git": known, "left_out": left_out})
