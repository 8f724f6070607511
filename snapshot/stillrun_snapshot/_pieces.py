"""The members of a pack one by one, whatever its version: how much of the file each takes, and its bytes."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from stillrun_snapshot._block import HEADER_SIZE as BLOCK_HEADER
from stillrun_snapshot._block import ROW_SIZE, content_of
from stillrun_snapshot._pack import CHUNK, HEADER_SIZE, MAGIC_2, RECIPE, PackEntry, payload_content, scan_pack
from stillrun_snapshot._pack_files import recipe_rows
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import digest_of

__all__ = ["Piece", "has_blocks", "pieces", "pieces_in", "sound_data"]


@dataclass(frozen=True)
class Piece:
    """One member of a pack."""

    entry: PackEntry
    place: int  # of the header, its own or its block's
    takes: int  # bytes of the file, of a block its share
    length: int  # bytes, of a recipe its own

    @property
    def size(self) -> int:
        """Bytes of the object; none of a chunk, which is no object."""
        return 0 if self.entry.kind == CHUNK else self.entry.size


def has_blocks(path: Path) -> bool:
    """Return whether a pack is of version 2."""
    with open(path, "rb") as stream:
        return stream.read(len(MAGIC_2)) == MAGIC_2


def pieces(entries: Iterable[PackEntry]) -> Iterator[Piece]:
    """Yield the members of a pack, given its entries in the order in which they stand."""
    for offset, group in groupby(entries, key=lambda entry: entry.offset):
        members = list(group)
        first = members[0]
        if not first.content:
            yield Piece(first, offset - HEADER_SIZE, HEADER_SIZE + first.stored, first.size)
            continue
        place = offset - BLOCK_HEADER - ROW_SIZE * len(members)
        ends = [*(each.start for each in members[1:]), first.content]
        for each, end in zip(members, ends, strict=True):
            length = end - each.start
            yield Piece(each, place, ROW_SIZE + each.stored * length // each.content, length)


def pieces_in(path: Path) -> list[Piece]:
    """Return the members of the pack at ``path``."""
    return list(pieces(scan_pack(path).entries))


def sound_data(view: mmap.mmap | memoryview, found: Iterable[Piece]) -> Iterator[tuple[Piece, bytes | None]]:
    """Yield each member with its bytes, None when they are not what its name says; a recipe must be readable.

    view: the pack. Members of a block are decompressed together.
    """
    for _, group in groupby(found, key=lambda piece: piece.place):
        members = list(group)
        first = members[0].entry
        payload = bytes(view[first.offset : first.offset + first.stored])
        if not first.content:
            yield members[0], payload_content(first, payload)
            continue
        content = content_of(payload, first.codec & 0xFF, first.codec >> 8, first.content)
        for piece in members:
            yield piece, _member(content, piece)


def _member(content: Any, piece: Piece) -> bytes | None:
    if content is None:
        return None
    entry = piece.entry
    data = bytes(content[entry.start : entry.start + piece.length])
    sound = bool(recipe_rows(data)) if entry.kind == RECIPE else digest_of(data) == entry.digest
    return data if sound else None
