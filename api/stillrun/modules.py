"""Which modules a task used that are neither Python's own, nor the flow's, nor this package."""

from __future__ import annotations

import os
import sys
from typing import Any

from stillrun.places import FACE, is_standard_library

__all__ = ["outside_modules"]


def outside_modules(tree: str) -> list[str]:
    """Sorted names of the top-level modules that were imported from elsewhere. tree: the captured tree."""
    ours = (tree + os.sep, FACE + os.sep)
    found = []
    for name, module in list(sys.modules.items()):
        if "." in name or name == "__main__":
            continue
        origin = _origin(module)
        if origin is not None and not origin.startswith(ours) and not is_standard_library(origin):
            found.append(name)
    return sorted(found)


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
