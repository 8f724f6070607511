"""The files of a flow outside git: its folder, by the rules in docs/spec/code.md, section 3."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import field
from pathlib import Path

from stillrun_snapshot._layout import STORE_MARK
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.errors import CaptureError
from stillrun_snapshot.selection import IGNORE_FILE, CaptureLimits, IgnoreRules, LeftOut, is_secret

__all__ = ["FolderListing", "list_folder"]

_SKIPPED_FOLDERS = re.compile(r"\..*|__pycache__|__pypackages__|node_modules|.*\.egg-info|.*\.dist-info")
_SKIPPED_FILES = re.compile(r".*\.py[co]")
_MARKS = ("pyvenv.cfg", "conda-meta", STORE_MARK)  # a folder that holds one of these was built, not written
_DEPTH = 90


@dataclass
class FolderListing:
    """Paths relative to the folder, with '/', and what was left out of them."""

    paths: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def list_folder(root: Path, rules: IgnoreRules, limits: CaptureLimits) -> FolderListing:
    """Return the files of a flow's folder; raises CaptureError when there are more than ``limits.files``."""
    listing = FolderListing()
    if root in _crowded_folders():
        _list_python_files(root, rules, listing)
        return listing
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        waiting += _list_one(root, prefix, rules, listing)
        if len(listing.paths) > limits.files:
            raise CaptureError(
                f"the folder of the flow, {root}, holds more than {limits.files:,} files. "
                f"Move the flow to a folder of its own, put it under git, or name what does not belong to it in {IGNORE_FILE}."
            )
    return listing


def _list_one(root: Path, prefix: str, rules: IgnoreRules, listing: FolderListing) -> list[str]:
    """List one folder and return the prefixes of those below it that are to be listed too."""
    below: list[str] = []
    try:
        with os.scandir(root / prefix) as found:
            items = sorted(found, key=lambda item: item.name)
    except PermissionError:
        listing.left_out.append(LeftOut(prefix.rstrip("/"), 0, "unreadable"))
        return below
    if prefix and any(item.name in _MARKS for item in items):
        return below
    for item in items:
        path = prefix + item.name
        if item.is_dir(follow_symlinks=False):
            if not _SKIPPED_FOLDERS.fullmatch(item.name) and not rules.drop_folder(path) and path.count("/") < _DEPTH:
                below.append(path + "/")
        elif is_secret(path):
            listing.left_out.append(LeftOut(path, item.stat(follow_symlinks=False).st_size, "secret"))
        elif _takes(item.name) and not (rules and rules.drop_file(path)):
            listing.paths.append(path)
    return below


def _takes(name: str) -> bool:
    return (not name.startswith(".") or name == IGNORE_FILE) and not _SKIPPED_FILES.fullmatch(name)


def _crowded_folders() -> set[Path]:
    """Return folders where a flow shares its place with everything else."""
    homes = {Path.home(), *Path.home().parents}
    return {folder.resolve() for folder in (*homes, Path(tempfile.gettempdir()), Path("/tmp"))}  # noqa: S108  # not used


def _list_python_files(root: Path, rules: IgnoreRules, listing: FolderListing) -> None:
    listing.left_out.append(LeftOut(".", 0, "a folder that many things share: only its own Python files are taken"))
    for item in sorted(root.glob("*.py")):
        if not item.name.startswith(".") and item.is_file() and not rules.drop_file(item.name):
            listing.paths.append(item.name)
