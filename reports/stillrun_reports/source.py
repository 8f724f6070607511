"""The code of a run, from its captured tree: the source of each step, what differs from the commit. Nothing is imported."""

from __future__ import annotations

import ast
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from stillrun_reports.reading import Reading
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import ObjectCorrupt, ObjectMissing, StillrunError
from stillrun_snapshot.tree import FileEntry, tree_files

__all__ = ["code_of", "step_sources"]

_FILES_TOLD = 500
_TEXT_MAX = 1 << 20  # bytes of a file that is looked into
_DIFF_MAX = 60_000  # characters of the diff to the commit


def code_of(reading: Reading) -> dict[str, Any]:
    """What the run was made from, file by file."""
    store, digest = reading.store, Digest(reading.run.record["code"])
    record = store.get_record(digest, "code")
    files = [
        {"path": path, "size": entry.size, "digest": entry.digest}
        for path, entry in tree_files(store, Digest(record["tree"]))
        if isinstance(entry, FileEntry)
    ]
    git = record["git"]
    return {
        "record": digest,
        "tree": record["tree"],
        "flow_file": record["flow_file"],
        "origin": record["origin"],
        "git": {**git, "changes": _diff(reading, git["diff"])} if git else None,
        "left_out": record["left_out"],
        "file_count": len(files),
        "files": files[:_FILES_TOLD],
    }


def _diff(reading: Reading, digest: str | None) -> dict[str, Any] | None:
    """The changes to tracked files as text, its beginning when it is long."""
    if digest is None:
        return None
    try:
        text = reading.store.get(Digest(digest)).decode("utf-8", "replace")
    except StillrunError:
        return None
    return {"text": text[:_DIFF_MAX], "cut": len(text) > _DIFF_MAX}


def step_sources(reading: Reading) -> dict[str, dict[str, Any]]:
    """By step: the file and line where it is written, and its text, indentation removed. Steps that are not found are absent."""
    wanted = {step["name"]: step["line"] for step in reading.run.description["steps"] if step["line"]}
    found: dict[str, dict[str, Any]] = {}
    for path, text in _python_files(reading):
        if not wanted:
            break
        for name, told in _methods(text, wanted).items():
            found[name] = {"file": path, **told}
            del wanted[name]
    return found


def _python_files(reading: Reading) -> Iterator[tuple[str, str]]:
    """The captured Python files, the flow's own first."""
    store = reading.store
    code = store.get_record(Digest(reading.run.record["code"]), "code")
    entries = sorted(tree_files(store, Digest(code["tree"])), key=lambda item: (item[0] != code["flow_file"], item[0]))
    for path, entry in entries:
        if isinstance(entry, FileEntry) and entry.size <= _TEXT_MAX and path.endswith(".py"):
            with suppress(ObjectMissing, ObjectCorrupt):  # which is told as damage
                yield path, store.get(entry.digest).decode("utf-8", "replace")


def _methods(text: str, wanted: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """The wanted methods that stand in ``text`` at their line. A file that this Python cannot parse holds none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return {}
    lines, found = text.splitlines(), {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and wanted.get(node.name) == node.lineno:
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            code = "\n".join(lines[first - 1 : node.end_lineno])
            found[node.name] = {"line": first, "code": textwrap.dedent(code)}
    return found
