"""Packs as files to read from: the last ones used stay open, and the last blocks decompressed stay at hand."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from stillrun_snapshot._pack import (
    HEADER_SIZE,
    OBJECT,
    RAW,
    RECIPE,
    PackEntry,
    entry_header,
    pack_path,
    payload_content,
)
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import StoreError

__all__ = ["PackFiles", "recipe_rows"]

_OPEN_PACKS = 32  # descriptors kept for reading
_BLOCKS_MAX = 16 * 1024 * 1024  # bytes of decompressed blocks that are kept
_GAP = 4 * 1024  # bytes between two entries that are read rather than stepped over
_SPAN = 1024 * 1024  # most bytes of one read


class PackFiles:
    """The files below ``packs`` for reading, by name. Its methods are called under the store's lock."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._readers: dict[str, int] = {}
        self._blocks: dict[tuple[str, int], bytes] = {}
        self._blocks_size = 0

    def content(self, name: str, entry: PackEntry) -> bytes | None:
        """Return the object, chunk or recipe of an entry, None when it is not there; a recipe is checked by what it makes."""
        try:
            descriptor = self._reader(name)
        except FileNotFoundError:
            return None
        if not entry.size and entry.kind == OBJECT:  # where it is alone in a block, nothing tells it from an entry
            return b"" if digest_of(b"") == entry.digest else None
        if entry.content:
            return self._member(descriptor, name, entry)
        whole = os.pread(descriptor, HEADER_SIZE + entry.stored, entry.offset - HEADER_SIZE)
        if not _is_headed(entry, whole, 0):
            return None
        return payload_content(entry, whole[HEADER_SIZE:])

    def contents(self, name: str, entries: Iterable[PackEntry], *, headers: bool = False) -> dict[Digest, bytes]:
        """Return the objects of those entries that are as they should be; neighbours are read together.

        headers: look at what stands before each too, by which the pack is read where the index is lost.
        """
        found: dict[Digest, bytes] = {}
        try:
            descriptor = self._reader(name)
        except FileNotFoundError:
            return found
        alone: list[PackEntry] = []
        members: list[PackEntry] = []
        for entry in entries:
            (members if entry.content else alone).append(entry)
        for span in _spans(alone):
            start, last = span[0].offset - HEADER_SIZE, span[-1]
            block = os.pread(descriptor, last.offset + last.stored - start, start)
            for entry in span:
                if headers and not _is_headed(entry, block, entry.offset - HEADER_SIZE - start):
                    continue
                data = payload_content(entry, block[entry.offset - start : entry.offset - start + entry.stored])
                if data is not None:
                    found[entry.digest] = data
        for entry in sorted(members, key=lambda entry: (entry.offset, entry.start)):
            data = None if entry.kind == RECIPE else self._member(descriptor, name, entry)
            if data is not None:
                found[entry.digest] = data
        return found

    def drop(self, name: str) -> None:
        """Forget a file: the next look opens what then has its name."""
        descriptor = self._readers.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)
        for key in [key for key in self._blocks if key[0] == name]:
            self._blocks_size -= len(self._blocks.pop(key))

    def close(self) -> None:
        """Let go of all files."""
        for name in list(self._readers):
            self.drop(name)

    def unchecked(self, name: str, entry: PackEntry) -> bytes | None:
        """Return what stands where an entry says that a member of a block does; whoever asks hashes it."""
        try:
            return self._bytes(self._reader(name), name, entry)
        except FileNotFoundError:
            return None

    def _member(self, descriptor: int, name: str, entry: PackEntry) -> bytes | None:
        if entry.kind == RECIPE:
            return self._recipe(descriptor, entry)
        data = self._bytes(descriptor, name, entry)
        return data if data is not None and len(data) == entry.size and digest_of(data) == entry.digest else None

    def _bytes(self, descriptor: int, name: str, entry: PackEntry) -> bytes | None:
        if entry.codec == RAW:
            return os.pread(descriptor, entry.size, entry.offset + entry.start)
        block = self._block(descriptor, name, entry)
        return None if block is None else block[entry.start : entry.start + entry.size]

    def _recipe(self, descriptor: int, entry: PackEntry) -> bytes | None:
        from stillrun_snapshot._block import RECIPE_HEAD, recipe_length

        place = entry.offset + entry.start
        length = recipe_length(os.pread(descriptor, RECIPE_HEAD, place))
        if not length or entry.start + length > entry.content:
            return None
        return os.pread(descriptor, length, place)

    def _block(self, descriptor: int, name: str, entry: PackEntry) -> bytes | None:
        from stillrun_snapshot._block import CONTENT_LIMIT, content_of

        key = (name, entry.offset)
        held = self._blocks.pop(key, None)
        if held is not None:
            self._blocks[key] = held  # the youngest again
            return held
        if entry.content > CONTENT_LIMIT:
            return None
        content = content_of(
            os.pread(descriptor, entry.stored, entry.offset), entry.codec & 0xFF, entry.codec >> 8, entry.content
        )
        if content is None:
            return None
        self._blocks[key] = content
        self._blocks_size += len(content)
        while self._blocks_size > _BLOCKS_MAX and len(self._blocks) > 1:
            self._blocks_size -= len(self._blocks.pop(next(iter(self._blocks))))
        return content

    def _reader(self, name: str) -> int:
        descriptor = self._readers.pop(name, None)
        if descriptor is None:
            descriptor = self._open_pack(name)
            if len(self._readers) >= _OPEN_PACKS:
                os.close(self._readers.pop(next(iter(self._readers))))
        self._readers[name] = descriptor
        return descriptor

    def _open_pack(self, name: str) -> int:
        for sealed in (True, False):
            try:
                return os.open(pack_path(self._root, name, sealed=sealed), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # sealed between the two looks, at worst; the last one tells
        return os.open(pack_path(self._root, name, sealed=True), os.O_RDONLY | os.O_CLOEXEC)


def recipe_rows(data: bytes | None) -> list[tuple[Digest, int]]:
    """Return the chunks that a recipe names and their lengths; none when it cannot be read."""
    from stillrun_snapshot._block import parse_recipe

    try:
        return [] if data is None else parse_recipe(data)
    except StoreError:
        return []


def _is_headed(entry: PackEntry, data: bytes, place: int) -> bool:
    """Whether the header at ``place`` is that of the entry."""
    return data[place : place + HEADER_SIZE] == entry_header(entry.digest, entry.codec, entry.size, entry.stored)


def _spans(entries: list[PackEntry]) -> Iterator[list[PackEntry]]:
    """Entries of one pack in groups that are read at once, by place."""
    span: list[PackEntry] = []
    for entry in sorted(entries, key=lambda entry: entry.offset):
        if span:
            end = span[-1].offset + span[-1].stored
            if entry.offset - end > _GAP or entry.offset + entry.stored - span[0].offset > _SPAN:
                yield span
                span = []
        span.append(entry)
    if span:
        yield span
