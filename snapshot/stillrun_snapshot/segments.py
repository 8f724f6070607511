"""Segments: small objects side by side in one file, so that a remote is not asked for each. Format: docs/spec/remote.md §2."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import zstandard

from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import RecordError

__all__ = ["SEGMENT_MAX", "SMALL_MAX", "Entry", "Segment", "segments_of", "unpacked"]

SEGMENT_MAX = 8 << 20
SMALL_MAX = 256 << 10  # from here on an object is a file of its own
_RAW, _ZSTD = 0, 1
_LEAST = 128  # bytes: what is shorter is not worth a frame


@dataclass(frozen=True)
class Entry:
    """Where an object stands in a segment, and how."""

    digest: Digest
    offset: int
    stored: int
    size: int
    codec: int

    def __post_init__(self) -> None:
        numbers = (self.offset, self.stored, self.size, self.codec)
        if any(type(number) is not int or number < 0 for number in numbers):
            raise RecordError(f"where {self.digest} stands in a segment is not told in numbers.")
        raw = self.codec == _RAW and self.stored == self.size
        if self.size >= SMALL_MAX or self.offset + self.stored > SEGMENT_MAX or not (raw or self.codec == _ZSTD):
            raise RecordError(f"where {self.digest} stands in a segment is more than the format allows.")


@dataclass(frozen=True)
class Segment:
    """The bytes of a segment that was made, its name, and what is where in it."""

    digest: Digest
    data: bytes
    entries: tuple[Entry, ...]


def segments_of(objects: Iterable[tuple[Digest, bytes]]) -> Iterator[Segment]:
    """Put objects, each shorter than SMALL_MAX, side by side; the same objects give the same segments."""
    packer = zstandard.ZstdCompressor(level=3)
    parts: list[bytes] = []
    entries: list[Entry] = []
    offset = 0
    for digest, data in objects:
        payload, codec = _payload(packer, data)
        if offset + len(payload) > SEGMENT_MAX:
            yield _whole(parts, entries)
            parts, entries, offset = [], [], 0
        entries.append(Entry(digest, offset, len(payload), len(data), codec))
        parts.append(payload)
        offset += len(payload)
    if parts:
        yield _whole(parts, entries)


def unpacked(payload: bytes | memoryview, entry: Entry) -> bytes | None:
    """The object of an entry, None when the payload does not hold it. No more than ``entry.size`` bytes are ever made of it."""
    data = bytes(payload)
    if entry.codec == _ZSTD:
        try:
            if zstandard.frame_content_size(data) != entry.size:
                return None
            data = zstandard.ZstdDecompressor().decompress(data, max_output_size=entry.size)
        except zstandard.ZstdError:
            return None
    return data if digest_of(data) == entry.digest else None


def _payload(packer: zstandard.ZstdCompressor, data: bytes) -> tuple[bytes, int]:
    if len(data) >= _LEAST:
        packed = packer.compress(data)
        if len(packed) * 10 <= len(data) * 9:
            return packed, _ZSTD
    return data, _RAW


def _whole(parts: list[bytes], entries: list[Entry]) -> Segment:
    data = b"".join(parts)
    return Segment(digest_of(data), data, tuple(entries))
