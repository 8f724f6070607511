"""What stands in a pack, whatever its version: objects, chunks and recipes one by one, and their bytes."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from stillrun_snapshot._block import ROW_SIZE, Block, content_of, parse_block, recipe_size
from stillrun_snapshot._pack import (
    BLOCK_MAGIC,
    CHUNK,
    ENTRY_MAGIC,
    HEADER_SIZE,
    MAGIC,
    MAGIC_2,
    OBJECT,
    RAW,
    RECIPE,
    PackEntry,
    decompressed,
    header_at,
)
from stillrun_snapshot._pack_files import recipe_rows
from stillrun_snapshot.digest import Digest

__all__ = ["PackScan", "Piece", "block_pieces", "has_blocks", "mapped", "pieces_in", "scan_pack", "sound_data"]


class Piece(NamedTuple):
    """One object, chunk or recipe of a pack, in an entry of its own or in a block: a plain tuple, since there are millions."""

    raw: bytes  # its digest
    codec: int  # of a block, with its width shifted left by eight
    size: int  # of the object, of one with a recipe too
    stored: int  # bytes of the payload, of a block that of all
    offset: int  # of the payload
    kind: int
    start: int  # in the content of a block
    content: int  # bytes of the content of a block; 0 in an entry of its own
    place: int  # of the header, its own or its block's
    takes: int  # bytes of the file, of a block its share
    length: int  # bytes, of a recipe its own

    @property
    def digest(self) -> Digest:
        """Its name."""
        return Digest.of_raw(self.raw)

    @property
    def entry(self) -> PackEntry:
        """The same as readers of packs want it."""
        return PackEntry(Digest.of_raw(self.raw), *self[1:8])

    @property
    def object_size(self) -> int:
        """Bytes of the object; none of a chunk, which is no object."""
        return 0 if self.kind == CHUNK else self.size


class PackScan:
    """What a scan found: where it ended, and the ranges that hold nothing readable; complete when ``walk`` is."""

    def __init__(self, start: int, size: int) -> None:
        self.pieces: list[Piece] = []
        self.end = start  # offset behind the last whole entry or block; a later scan goes on there
        self.damaged: list[tuple[int, int]] = []
        self.size = size  # of the file

    @property
    def whole(self) -> bool:
        """Whether every byte belongs to something readable."""
        return not self.damaged and self.end == self.size

    def walk(self, view: mmap.mmap) -> Iterator[Piece]:
        """Yield what stands in a pack piece by piece, which may be too many to hold; headers are checked, contents are not.

        A torn tail ends the walk. Behind a damaged header it goes on at the next sound one.
        """
        if self.end < len(MAGIC) <= len(view) and view[: len(MAGIC)] not in (MAGIC, MAGIC_2):
            self.damaged.append((0, len(MAGIC)))
        size = len(view)
        self.end = position = max(self.end, len(MAGIC))
        while position < size:
            if found := header_at(view, position):
                codec, length, stored, raw = found
                offset, end = position + HEADER_SIZE, position + HEADER_SIZE + stored
                if end > size:
                    return
                yield Piece(raw, codec, length, stored, offset, OBJECT, 0, 0, position, HEADER_SIZE + stored, length)
            elif block := _block_at(view, position):
                end = block.offset + block.stored
                if end > size:
                    return
                yield from block_pieces(block, view, position)
            else:
                following = _next_header(view, position + 1)
                if following is None:
                    return
                self.damaged.append((position, following))
                position = following
                continue
            self.end = position = end


def scan_pack(path: Path, start: int = 0) -> PackScan:
    """Return what stands in a pack from offset ``start`` on; contents are not hashed, that happens on reading."""
    with open(path, "rb") as stream:
        scan = PackScan(start, os.fstat(stream.fileno()).st_size)
        if scan.size > start:
            with mmap.mmap(stream.fileno(), scan.size, access=mmap.ACCESS_READ) as view:
                scan.pieces.extend(scan.walk(view))
    return scan


def pieces_in(path: Path) -> list[Piece]:
    """Return what stands in the pack at ``path``."""
    return scan_pack(path).pieces


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """Give the bytes of a pack, which is not empty."""
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        yield view


def has_blocks(path: Path) -> bool:
    """Return whether a pack is of version 2."""
    with open(path, "rb") as stream:
        return stream.read(len(MAGIC_2)) == MAGIC_2


def block_pieces(block: Block, buffer: Any, place: int) -> Iterator[Piece]:
    """Yield what is in a block. buffer: the pack that it stands in; place: of its header there."""
    codec, stored, offset, content = block.codec | block.width << 8, block.stored, block.offset, block.content
    for raw, kind, start, length in block.members():
        size = recipe_size(buffer, offset + start) if kind == RECIPE else length
        takes = ROW_SIZE + stored * length // max(content, 1)
        yield Piece(raw, codec, size, stored, offset, kind, start, content, place, takes, length)


def sound_data(view: mmap.mmap | memoryview, found: Iterable[Piece]) -> Iterator[tuple[Piece, bytes | None]]:
    """Yield each piece with its bytes, None when they are not what its name says; a recipe must be readable.

    view: the pack. What stands in one block is decompressed together.
    """
    for _, group in groupby(found, key=lambda piece: piece.place):
        pieces = list(group)
        first = pieces[0]
        payload = bytes(view[first.offset : first.offset + first.stored])
        if first.content:
            content = content_of(payload, first.codec & 0xFF, first.codec >> 8, first.content)
        else:
            content = payload if first.codec == RAW else decompressed(payload, first.size)
        for piece in pieces:
            yield piece, _sound(content, piece)


def _sound(content: bytes | None, piece: Piece) -> bytes | None:
    if content is None:
        return None
    data = content[piece.start : piece.start + piece.length]
    sound = bool(recipe_rows(data)) if piece.kind == RECIPE else hashlib.sha256(data).digest() == piece.raw
    return data if sound else None


def _block_at(view: mmap.mmap, position: int) -> Block | None:
    return parse_block(view, position) if view[position : position + 4] == BLOCK_MAGIC else None


def _next_header(view: mmap.mmap, position: int) -> int | None:
    found = [place for magic in (ENTRY_MAGIC, BLOCK_MAGIC) if (place := _next_of(view, magic, position)) is not None]
    return min(found, default=None)


def _next_of(view: mmap.mmap, magic: bytes, position: int) -> int | None:
    while (position := view.find(magic, position)) >= 0:
        if header_at(view, position) or _block_at(view, position):
            return position
        position += 1
    return None
