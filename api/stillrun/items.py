"""What a foreach is over, item by item: each task is given its own, and need not read all of them."""

from __future__ import annotations

import os
import pickle
import struct

from stillrun.canonical import canonical_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from stillrun.reader import ArtifactReader
    from stillrun.writer import ArtifactWriter

__all__ = ["item_of", "tell_items"]

SIZE_MAX, COUNT_MAX = 64 << 20, 100_000
"""Up to so many bytes, and so many items, each item gets a digest of its own; up to so many bytes, it is kept by itself."""
SMALL, MANY = 1 << 20, 64
"""Items are kept by themselves when all of them are small, or many; a few large ones would only be kept twice."""


def tell_items(next_: dict[str, Any], out: Mapping[str, Any] | None, items: Any, writer: ArtifactWriter) -> None:
    """Add to what a split says comes next what is known of each item. out: the OUT of the artifact that holds them."""
    parts = (out or {}).get("parts", ())
    size = sum(part["size"] for part in parts)
    if size > SIZE_MAX:
        return
    if len(parts) <= 1 and (size <= SMALL or len(items) >= MANY):
        _tell_apart(next_, items, writer)
    if len(items) <= COUNT_MAX:
        digests = [canonical_digest(item) for item in items]
        if None not in digests:
            next_["item_digests"] = digests


def _tell_apart(next_: dict[str, Any], items: Any, writer: ArtifactWriter) -> None:
    """Add each item's own pickle; nothing when one has none, or when they are large each by itself."""
    pickles, total = [], 0
    try:
        for item in _each(items):
            pickles.append(pickle.dumps(item, protocol=5))
            total += len(pickles[-1])
            if total > SIZE_MAX:
                return
    except Exception:  # a class that can be pickled among its like alone
        return
    sizes = struct.pack(f"<{len(pickles)}Q", *map(len, pickles))
    next_["each"] = {"sizes": writer.part(sizes), "data": writer.part(b"".join(pickles))}


def _each(items: Any) -> Iterator[Any]:
    return iter(items) if type(items) in (list, tuple, range, str) else (items[at] for at in range(len(items)))


def item_of(place: Mapping[str, Any], reader: ArtifactReader) -> Any:
    """The item that a frame of a foreach says where to find."""
    return pickle.loads(reader.quietly(lambda: _bytes(place, reader)))  # noqa: S301  # in a task only


def _bytes(place: Mapping[str, Any], reader: ArtifactReader) -> Any:
    if "body" in place:
        return reader.inline(*place["body"])
    descriptor = os.open(place["path"], os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, place["size"], place["offset"])
    finally:
        os.close(descriptor)
