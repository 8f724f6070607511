"""Tar members as bundles have them: files and nothing else, whose headers follow from name and size (docs/spec/bundle.md §2).

A reader compares a header with the one it would have written itself, so that nothing in it needs to be judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from stillrun_snapshot.digest import BLOCK
from stillrun_snapshot.errors import StoreError

__all__ = ["END", "TarDamage", "blocks_of_member", "member_header", "padding", "read_header"]

END = bytes(1024)
"""What stands behind the last member."""
_UNIT = 512
_NAME_MAX = 100  # of the field; longer names would take an extension
_OCTAL_LIMIT = 8**11  # sizes that eleven octal digits hold


class TarDamage(StoreError):
    """A tar file is not one that this module writes, or ends too early."""


def member_header(name: str, size: int) -> bytes:
    """Return the 512 bytes that stand before the content of a file."""
    encoded = name.encode("ascii")
    if not 0 < len(encoded) <= _NAME_MAX or size < 0:
        raise ValueError(f"{name!r} with {size} bytes cannot be a member")
    length = b"%011o\0" % size if size < _OCTAL_LIMIT else b"\x80" + size.to_bytes(11, "big")
    front = encoded.ljust(_NAME_MAX, b"\0") + b"0000644\0" + b"0000000\0" * 2 + length + b"00000000000\0"
    rest = b"0" + bytes(100) + b"ustar\x0000"
    total = sum(front) + sum(rest) + 8 * ord(" ")  # the checksum counts as spaces
    return (front + b"%06o\0 " % total + rest).ljust(_UNIT, b"\0")


def padding(size: int) -> bytes:
    """Return the zeros that fill up a content of ``size`` bytes."""
    return bytes(-size % _UNIT)


def read_header(stream: BinaryIO) -> tuple[str, int]:
    """Return name and size of the next member; raises TarDamage for any header that ``member_header`` does not write."""
    block = exactly(stream, _UNIT)
    try:
        name = block[:_NAME_MAX].rstrip(b"\0").decode("ascii")
        field = block[124:136]
        size = int.from_bytes(field[1:], "big") if field[:1] == b"\x80" else int(field[:11], 8)
        sound = member_header(name, size) == block
    except ValueError:
        sound, name = False, ""
    if not sound:
        raise TarDamage(f"the header at byte {stream.tell() - _UNIT:,} is not that of a plain file{_told(name)}")
    return name, size


def blocks_of_member(stream: BinaryIO, size: int) -> Iterator[memoryview]:
    """Yield the content of a member in blocks of ``BLOCK`` bytes; with the last one, what fills it up is read over."""
    left = size
    while left:
        block = exactly(stream, min(left, BLOCK))
        left -= len(block)
        if not left and any(exactly(stream, -size % _UNIT)):
            raise TarDamage(f"there is something between two members, before byte {stream.tell():,}")
        yield memoryview(block)


def exactly(stream: BinaryIO, count: int) -> bytes:
    """Return ``count`` bytes; raises TarDamage where the file ends before."""
    data = stream.read(count)
    if len(data) < count:
        raise TarDamage(f"it ends at byte {stream.tell():,}, in the middle of a member")
    return data


def _told(name: str) -> str:
    return f" ({name[:80]!r})" if name else ""
