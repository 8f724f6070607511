"""Which files of a tree a piece of code may be about, by the texts in it: what it does not open itself, or not in the step.

A file that is read while the flow is imported, looked for and not opened, or found beside ``__file__``, leaves no trace in a
task. Where its name stands in the code that a step can reach, it counts.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

__all__ = ["LISTING", "changes", "mentioned"]

LISTING = frozenset({"fwalk", "glob", "iglob", "iterdir", "listdir", "rglob", "scandir", "walk"})
"""What lists a folder; of that of ``__file__`` no task tells."""
_BREAKS = re.compile(r"[\s'\"`=,;:()<>|&]+")
_Value = TypeVar("_Value")


def changes(before: Mapping[str, _Value], now: Mapping[str, _Value]) -> dict[str, str]:
    """What became of each file that is not the same: 'changed', 'new', or 'not there any more'. Python code is left out."""
    found = {}
    for path in sorted({*before, *now}):
        if before.get(path) != now.get(path) and not path.endswith(".py"):
            found[path] = "not there any more" if path not in now else "new" if path not in before else "changed"
    return found


def mentioned(path: str, texts: Iterable[str]) -> bool:
    """Whether one of ``texts`` names the file, a folder that it is in, its ending, or a pattern that it fits."""
    parts = path.split("/")
    return any(_names(word, parts) for text in texts for word in _BREAKS.split(text) if word)


def _names(word: str, parts: list[str]) -> bool:
    """Whether ``word`` leads to the file or a folder above it, from whatever folder: where both name one, it is the same."""
    wanted = [each for each in word.split("/") if each not in ("", ".", "..")]
    if "**" in wanted:
        wanted = wanted[len(wanted) - wanted[::-1].index("**") :] or ["*"]
    if not wanted:
        return False
    if len(wanted) == 1 and wanted[0].startswith(".") and parts[-1].endswith(wanted[0]):
        return True
    ends = (parts[end::-1] for end in range(len(parts)))
    return any(all(map(_fits, end, reversed(wanted))) for end in ends)


def _fits(part: str, wanted: str) -> bool:
    return part == wanted or fnmatch.fnmatchcase(part, wanted)
