"""Blocks: objects and chunks compressed together in a pack. Format: docs/spec/pack.md, version 2."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from stillrun_snapshot._pack import BLOCK_MAGIC, RAW, RECIPE, ZSTD, decompressed
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StoreError

__all__ = [
    "CONTENT_LIMIT",
    "Block",
    "block_bytes",
    "content_of",
    "parse_block",
    "parse_recipe",
    "recipe_bytes",
    "recipe_length",
    "recipe_size",
    "shuffled",
    "unshuffled",
]

CONTENT_LIMIT = 8 * 1024 * 1024
_WIDTH_MAX = 16
_FIELDS = struct.Struct(">4sBBHIIII")  # magic, codec, width, zero, members, content, payload, crc32 of the table
_CHECK = struct.Struct(">I")
HEADER_SIZE = _FIELDS.size + _CHECK.size
_ROW = struct.Struct(">32sI")  # digest, kind and length
ROW_SIZE = _ROW.size
_LENGTHS = (1 << 24) - 1
_RECIPE_HEAD = struct.Struct(">QI")  # length of the object, number of chunks
RECIPE_HEAD = _RECIPE_HEAD.size
_RECIPE_ROW = struct.Struct(">32sI")


@dataclass(frozen=True)
class Block:
    """What the header and the table of a block say."""

    codec: int
    width: int
    content: int  # bytes of all members
    stored: int  # bytes of the payload
    offset: int  # of the payload in the file
    table: bytes
    count: int  # of the members

    def members(self) -> Iterator[tuple[bytes, int, int, int]]:
        """Yield the raw digest, the kind, the place in the content and the length of each object, chunk or recipe."""
        start = 0
        for raw, packed in _ROW.iter_unpack(self.table):
            length = packed & _LENGTHS
            yield raw, packed >> 24, start, length
            start += length


def block_bytes(
    members: Iterable[tuple[Digest, int, int]], codec: int, width: int, content: int, payload: Any
) -> bytes:
    """Return header and table of a block whose members are (digest, kind, length); the payload stands behind them."""
    rows = [digest.raw + bytes((kind,)) + length.to_bytes(3, "big") for digest, kind, length in members]
    table = b"".join(rows)
    fields = _FIELDS.pack(BLOCK_MAGIC, codec, width, 0, len(rows), content, len(payload), zlib.crc32(table))
    return fields + _CHECK.pack(zlib.crc32(fields)) + table


def parse_block(buffer: Any, position: int) -> Block | None:
    """Return the block whose header stands at ``position`` of a buffer, None when there is no sound one."""
    start = position + HEADER_SIZE
    if start > len(buffer):
        return None
    fields = buffer[position : position + _FIELDS.size]
    magic, codec, width, _, count, content, stored, table_check = _FIELDS.unpack(fields)
    (check,) = _CHECK.unpack(buffer[position + _FIELDS.size : start])
    if magic != BLOCK_MAGIC or check != zlib.crc32(fields) or not _is_possible(codec, width, content, stored):
        return None
    table = bytes(buffer[start : start + count * ROW_SIZE])
    if not count or len(table) != count * ROW_SIZE or zlib.crc32(table) != table_check:
        return None
    block = Block(codec, width, content, stored, start + len(table), table, count)
    kinds, lengths = set[int](), 0
    for _, kind, _, length in block.members():
        kinds.add(kind)
        lengths += length
    if lengths != content or max(kinds) > RECIPE or (RECIPE in kinds and codec != RAW):
        return None
    return block


def _is_possible(codec: int, width: int, content: int, stored: int) -> bool:
    if codec not in (RAW, ZSTD) or content > CONTENT_LIMIT or stored > content:
        return False
    return (stored == content and not width) if codec == RAW else (not width or 2 <= width <= _WIDTH_MAX)


def content_of(payload: bytes, codec: int, width: int, content: int) -> bytes | None:
    """Return a block's content, None when the payload is damaged; digests of members are for the caller to check."""
    if codec == RAW:
        return payload if len(payload) == content else None
    data = decompressed(payload, content)
    return unshuffled(data, width) if data is not None and width else data


def shuffled(data: bytes, width: int) -> bytes:
    """Return the bytes with those of like place in elements of ``width`` side by side; what is left over stands last."""
    whole = len(data) - len(data) % width
    return b"".join([*(data[place:whole:width] for place in range(width)), data[whole:]])


def unshuffled(data: bytes, width: int) -> bytes:
    """Return what ``shuffled`` was given."""
    count = len(data) // width
    whole = bytearray(data)
    for place in range(width):
        whole[place : count * width : width] = data[place * count : (place + 1) * count]
    return bytes(whole)


def recipe_bytes(chunks: list[tuple[Digest, int]]) -> bytes:
    """Return the recipe of an object that consists of these chunks, given with their lengths."""
    head = _RECIPE_HEAD.pack(sum(length for _, length in chunks), len(chunks))
    return head + b"".join(_RECIPE_ROW.pack(digest.raw, length) for digest, length in chunks)


def recipe_size(buffer: Any, position: int) -> int:
    """Return the length of the object that the recipe at ``position`` makes."""
    if position + _RECIPE_HEAD.size > len(buffer):
        return 0
    return int(_RECIPE_HEAD.unpack(buffer[position : position + _RECIPE_HEAD.size])[0])


def recipe_length(head: bytes) -> int:
    """Return how many bytes the recipe has that begins with ``head``."""
    if len(head) < RECIPE_HEAD:
        return 0
    return RECIPE_HEAD + int(_RECIPE_HEAD.unpack(head[:RECIPE_HEAD])[1]) * _RECIPE_ROW.size


def parse_recipe(data: bytes) -> list[tuple[Digest, int]]:
    """Return the chunks that a recipe names and their lengths; raises StoreError when it is none."""
    if len(data) < RECIPE_HEAD or len(data) != recipe_length(data):
        raise StoreError("a recipe has another length than it says")
    rows = [(Digest.of_raw(raw), length) for raw, length in _RECIPE_ROW.iter_unpack(data[RECIPE_HEAD:])]
    if sum(length for _, length in rows) != recipe_size(data, 0):
        raise StoreError("the chunks of a recipe do not add up to its object")
    return rows
