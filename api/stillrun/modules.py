"""Which modules a task used that are neither Python's own, nor the flow's, nor this package."""

from __future__ import annotations

import os
import sys

from stillrun.places import FACE, is_standard_library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["ModuleList"]

_NOT_IMPORTED = ("__main__", "_distutils_hack")  # the latter is put there by setuptools when Python starts


class ModuleList:
    """The outside modules of a process, and later of those that are forked from it.

    Looking at every module again in each fork would copy the pages that all of them stand on.
    tree: the captured tree.
    """

    def __init__(self, tree: str) -> None:
        self._ours = (tree + os.sep, FACE + os.sep)
        self._seen: set[str] = set()
        self._outside: list[str] = []
        self._told = 0
        self._told = len(self.names())

    def names(self) -> list[str]:
        """Sorted names of the top-level modules that were imported from elsewhere."""
        if len(sys.modules) == len(self._seen):
            return self._outside
        new = [name for name in list(sys.modules) if name not in self._seen]
        found = [name for name in new if self._is_outside(name)]
        self._seen.update(new)
        self._outside = sorted({*self._outside, *found})
        return self._outside

    def news(self) -> list[str]:
        """The same names, when there are others than at the beginning; else none."""
        found = self.names()
        return found if len(found) > self._told else []

    def _is_outside(self, name: str) -> bool:
        if "." in name or name in _NOT_IMPORTED:
            return False
        origin = _origin(sys.modules.get(name))
        return origin is not None and not origin.startswith(self._ours) and not is_standard_library(origin)


def _origin(module: Any) -> str | None:
    """Where a module came from; None for one that is built in or was made at run time."""
    spec = getattr(module, "__spec__", None)
    origin = getattr(spec, "origin", None) or getattr(module, "__file__", None)
    if isinstance(origin, str) and os.path.isabs(origin):
        return origin
    places = getattr(spec, "submodule_search_locations", None)  # a namespace package has folders only
    try:
        first = next(iter(places or ()), None)
    except Exception:  # some packages put lazy objects of their own here
        return None
    return os.path.join(first, "") if isinstance(first, str) and os.path.isabs(first) else None
