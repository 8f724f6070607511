"""Going through whole packs, a microsecond for each object, for upkeep of a million of them. Format: docs/spec/pack.md."""

from __future__ import annotations

import hashlib
import mmap
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from stillrun_snapshot._pack import HEADER_SIZE, MAGIC, RAW, PackEntry, payload_content, scan_pack
from stillrun_snapshot.digest import Digest

__all__ = ["Stands", "content_of", "is_whole", "stands_in", "view_of"]

_HEADER = struct.Struct(">4sB3xQQ32sI")
_MAGIC = b"SRe1"
_CHECKED = HEADER_SIZE - 4


class Stands(NamedTuple):
    """Where one object stands: a PackEntry in a form that is quickly made."""

    raw: bytes  # digest
    codec: int
    size: int  # of the object
    stored: int  # bytes of the payload
    begin: int  # of the header

    @property
    def end(self) -> int:
        """Offset behind the payload."""
        return self.begin + HEADER_SIZE + self.stored


def view_of(path: Path) -> mmap.mmap | None:
    """Return a pack in memory; None when it is gone, or empty."""
    try:
        with open(path, "rb") as stream:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (FileNotFoundError, ValueError):
        return None


def stands_in(path: Path) -> tuple[list[Stands], bool]:
    """Return what stands in a pack, and whether a range of it is damaged or of another version; a torn tail is not."""
    view = view_of(path)
    if view is None:
        return [], False
    with view:
        if view[: len(MAGIC)] != MAGIC:
            return [], True
        found = _undamaged(view)
    if found is not None:
        return found, False
    scan = scan_pack(path)
    return [Stands(e.digest.raw, e.codec, e.size, e.stored, e.offset - HEADER_SIZE) for e in scan.entries], bool(
        scan.damaged
    )


def _undamaged(view: mmap.mmap) -> list[Stands] | None:
    """The entries when all headers are sound; None when a closer look must tell."""
    position, length, found = len(MAGIC), len(view), list[Stands]()
    unpack, crc32 = _HEADER.unpack_from, zlib.crc32
    while position < length:
        if position + HEADER_SIZE > length:
            return None
        magic, codec, size, stored, raw, check = unpack(view, position)
        end = position + HEADER_SIZE + stored
        if magic != _MAGIC or end > length or crc32(view[position : position + _CHECKED]) != check:
            return None
        found.append(Stands(raw, codec, size, stored, position))
        position = end
    return found


def content_of(view: mmap.mmap, begin: int, raw: bytes) -> bytes | None:
    """Return the object whose header stands at ``begin``, None when it is not the one with this raw digest."""
    if begin + HEADER_SIZE > len(view):
        return None
    magic, codec, size, stored, named, _ = _HEADER.unpack_from(view, begin)
    if magic != _MAGIC or named != raw or stored > size:
        return None
    payload = view[begin + HEADER_SIZE : begin + HEADER_SIZE + stored]
    if codec == RAW:
        return payload if hashlib.sha256(payload).digest() == raw else None
    return payload_content(PackEntry(Digest.of_raw(raw), codec, size, stored, begin + HEADER_SIZE), payload)


def is_whole(view: mmap.mmap, stands: Stands) -> bool:
    """Return whether the object stands there still."""
    return content_of(view, stands.begin, stands.raw) is not None
