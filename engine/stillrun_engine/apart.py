"""The items of a foreach, each by itself: a task is told where its own is, however many there are."""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from stillrun_engine.parts import Body
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["Apart"]

_IN_MEMORY = 1 << 20
"""Bytes of one foreach's items up to which they are held; beyond, each is read where it is kept."""
_HELD = 64
"""Foreach splits whose items are remembered; what is forgotten is looked up again."""


class Apart:
    """Items that are kept one by one, by the digest of the artifact that they are the items of."""

    def __init__(self, store: Store, inline_max: int) -> None:
        self._store = store
        self._inline_max = inline_max
        self._known: dict[str, Mapping[str, Any]] = {}
        self._open: dict[str, _Items] = {}

    def learn(self, items: str | None, next_: Mapping[str, Any]) -> None:
        """Hear of a split: what it is over, and what its record says comes next."""
        each = next_.get("each")
        if items is not None and each is not None:
            self._known[items] = each

    def item(self, items: str, index: int, body: Body) -> dict[str, Any] | None:
        """Where a task finds its item, as in a frame of docs/spec/host-protocol.md; None when they are not apart."""
        each = self._known.get(items)
        if each is None:
            return None
        found = self._open.get(items)
        if found is None:
            if len(self._open) >= _HELD:
                self._open.clear()
            found = self._open[items] = _Items(self._store, each)
        return found.place(index, body, self._inline_max)


class _Items:
    def __init__(self, store: Store, each: Mapping[str, Any]) -> None:
        sizes = array("Q", store.get(Digest(each["sizes"])))
        self._sizes = sizes
        self._starts = array("Q", accumulate(sizes, initial=0))
        location = store.checked(Digest(each["data"]))
        self._data = location.data
        self._path, self._offset = location.path, location.offset
        if self._data is None and location.size <= _IN_MEMORY:
            self._data = self._read(0, location.size)

    def place(self, index: int, body: Body, inline_max: int) -> dict[str, Any]:
        start, size = self._starts[index], self._sizes[index]
        if self._data is not None:
            return {"body": body.add(self._data[start : start + size])}
        if size < inline_max:
            return {"body": body.add(self._read(start, size))}
        return {"path": str(self._path), "offset": self._offset + start, "size": size}

    def _read(self, start: int, size: int) -> bytes:
        assert self._path is not None, "what has no place has its bytes"
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(descriptor, size, self._offset + start)
        finally:
            os.close(descriptor)
