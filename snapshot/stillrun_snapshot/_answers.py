"""What a store answers: where an object lies, and how much is kept."""

from __future__ import annotations

from pathlib import Path

from stillrun_snapshot.deferred import dataclass

__all__ = ["Location", "StoreStats"]


@dataclass(frozen=True)
class Location:
    """Where an object's bytes can be read: in a file, or here when no file holds them raw.

    A path into a pack that is being written is good while this Store is open.
    """

    path: Path | None
    offset: int
    size: int
    data: bytes | None = None


@dataclass(frozen=True)
class StoreStats:
    """Sizes of a store. ``stored`` counts what objects take, without headers, log and caches.

    ``chunked`` objects are made of chunks; ``unpacked_bytes`` are of those that are files again, for now.
    """

    objects: int
    size: int
    stored: int
    packs: int
    loose: int
    refs: int
    log_bytes: int
    chunked: int = 0
    unpacked_bytes: int = 0
