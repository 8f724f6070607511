"""Pack files: entries and blocks one after another, each naming what it holds. Format: docs/spec/pack.md."""

from __future__ import annotations

import fcntl
import os
import struct
import time
import zlib
from pathlib import Path
from typing import Any

from stillrun_snapshot._disk import fresh_name, remove_quietly, sync_folder, write_all
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of

__all__ = [
    "BLOCK_MAGIC",
    "CHUNK",
    "ENTRY_LIMIT",
    "ENTRY_MAGIC",
    "MAGIC",
    "MAGIC_2",
    "OBJECT",
    "RAW",
    "RECIPE",
    "ZSTD",
    "PackEntry",
    "PackWriter",
    "decompressed",
    "header_at",
    "pack_path",
]

MAGIC, MAGIC_2 = b"stillrun-pack/1\n", b"stillrun-pack/2\n"
ENTRY_LIMIT = 64 * 1024  # entries are shorter than this; longer ones in a header are damage
RAW, ZSTD = 0, 1
OBJECT, CHUNK, RECIPE = 0, 1, 2
OPEN_SUFFIX, SEALED_SUFFIX = ".pack.open", ".pack"
ENTRY_MAGIC, BLOCK_MAGIC = b"SRe1", b"SRb2"
_FIELDS = struct.Struct(">4sB3xQQ32s")  # magic, codec, raw length, stored length, sha256 of the content
_CHECK = struct.Struct(">I")  # crc32 of the fields
_HEADER = struct.Struct(_FIELDS.format + "I")
HEADER_SIZE = _FIELDS.size + _CHECK.size


@dataclass(frozen=True, slots=True)
class PackEntry:
    """Where one object, or a chunk or recipe, stands in a pack: in an entry of its own, or in a block."""

    digest: Digest
    codec: int  # of a block, with its width shifted left by eight
    size: int  # of the object, of one with a recipe too
    stored: int  # bytes of the payload
    offset: int  # of the payload, behind the header
    kind: int = OBJECT
    start: int = 0  # in the content of a block
    content: int = 0  # bytes of the content of a block; 0 in an entry of its own


def pack_path(root: Path, name: str, *, sealed: bool) -> Path:
    """Return the path of the pack called ``name``."""
    return root / "packs" / (name + (SEALED_SUFFIX if sealed else OPEN_SUFFIX))


def entry_header(digest: Digest, codec: int, size: int, stored: int) -> bytes:
    """Return the 60 bytes that stand before a payload."""
    fields = _FIELDS.pack(ENTRY_MAGIC, codec, size, stored, digest.raw)
    return fields + _CHECK.pack(zlib.crc32(fields))


def header_at(buffer: Any, position: int) -> tuple[int, int, int, bytes] | None:
    """Return codec, size, stored bytes and raw digest of the header at ``position``, None when there is no sound one."""
    if position + HEADER_SIZE > len(buffer):
        return None
    magic, codec, size, stored, raw, check = _HEADER.unpack_from(buffer, position)
    if magic != ENTRY_MAGIC or check != zlib.crc32(buffer[position : position + _FIELDS.size]) or codec > ZSTD:
        return None
    if size >= ENTRY_LIMIT or stored > size or (codec == RAW and stored != size):
        return None
    return codec, size, stored, raw


def payload_content(entry: PackEntry, payload: bytes) -> bytes | None:
    """Return the object in ``payload``, or None when it is not the one that the entry names."""
    data = payload if entry.codec == RAW else decompressed(payload, entry.size)
    if data is None or len(data) != entry.size or digest_of(data) != entry.digest:
        return None
    return data


def compressed(data: bytes) -> bytes | None:
    """Return ``data`` as a zstd frame when that saves at least a tenth, else None."""
    import zstandard  # 30 ms to import, and most processes never need it

    frame: bytes = zstandard.ZstdCompressor(level=3).compress(data)
    return frame if len(frame) * 10 <= len(data) * 9 else None


def decompressed(frame: bytes, size: int) -> bytes | None:
    """Return what a zstd frame of ``size`` bytes holds, None when it is damaged."""
    import zstandard

    try:
        if zstandard.frame_content_size(frame) != size:  # before anything is allocated for it
            return None
        data: bytes = zstandard.ZstdDecompressor().decompress(frame, max_output_size=size)
    except zstandard.ZstdError:
        return None
    return data if len(data) == size else None


class PackWriter:
    """The owner of one open pack; nobody else appends to it, and no byte of it is ever changed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.name = fresh_name(f"{time.time_ns() // 1_000_000:012x}")
        self.path = pack_path(root, self.name, sealed=False)
        self.dirty = False
        self._named = False
        # The lock is taken before the pack has its name: nobody can find it unlocked and take it for abandoned.
        temporary = root / "tmp" / (self.name + OPEN_SUFFIX)
        self._descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            write_all(self._descriptor, MAGIC)
            temporary.rename(self.path)
        except BaseException:
            os.close(self._descriptor)
            remove_quietly(temporary)
            raise
        self._end = len(MAGIC)

    def append(self, digest: Digest, codec: int, size: int, payload: bytes | memoryview) -> PackEntry:
        """Write one entry and return where it stands; a failed write leaves the pack as it was."""
        header = entry_header(digest, codec, size, len(payload))
        total = HEADER_SIZE + len(payload)
        try:
            done = os.writev(self._descriptor, (header, payload))
            if done != total:
                write_all(self._descriptor, (header + bytes(payload))[done:])
        except BaseException:
            os.ftruncate(self._descriptor, self._end)
            os.lseek(self._descriptor, self._end, os.SEEK_SET)
            raise
        entry = PackEntry(digest, codec, size, len(payload), self._end + HEADER_SIZE)
        self._end += total
        self.dirty = True
        return entry

    def copy(self, entries: bytes) -> None:
        """Write whole entries of another pack as they are; a failed write leaves this one as it was."""
        try:
            write_all(self._descriptor, entries)
        except BaseException:
            os.ftruncate(self._descriptor, self._end)
            os.lseek(self._descriptor, self._end, os.SEEK_SET)
            raise
        self._end += len(entries)
        self.dirty = True

    def read(self, entry: PackEntry) -> bytes:
        """Return the payload of an entry of this pack."""
        return os.pread(self._descriptor, entry.stored, entry.offset)

    @property
    def empty(self) -> bool:
        """Whether nothing was written."""
        return self._end == len(MAGIC)

    @property
    def end(self) -> int:
        """Length of the pack in bytes."""
        return self._end

    def sync(self) -> None:
        """Make every entry durable."""
        if self.dirty:
            os.fdatasync(self._descriptor)
            self.dirty = False
        if not self._named:
            sync_folder(self.path.parent)
            self._named = True

    def close(self) -> None:
        """Make the pack durable and give it its final name; an empty one is removed."""
        try:
            if self.empty:
                remove_quietly(self.path)
                return
            self.sync()
            # should the new name be lost with the power, the pack is found under its old one and sealed then
            self.path.rename(pack_path(self._root, self.name, sealed=True))
        finally:
            os.close(self._descriptor)
