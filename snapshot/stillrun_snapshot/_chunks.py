"""Large objects cut where their content says, so that what two of them have in common is cut alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import BinaryIO

from stillrun_snapshot.digest import Digest

__all__ = ["WHOLE_MAX", "average_for", "chunks_of", "is_too_large"]

WHOLE_MAX = 128 * 1024  # up to here an object is not cut
_AVERAGE = 256 * 1024  # a change costs about two chunks, and a chunk 36 bytes of recipe and 60 of the catalog
_AVERAGE_MAX = 1024 * 1024
_MANY = 65_536  # chunks; larger objects are cut in larger ones
_WINDOW = 16 * 1024 * 1024  # bytes read at a time


def average_for(size: int) -> int:
    """Return the mean size of chunks for an object: a power of two."""
    average = _AVERAGE
    while average < _AVERAGE_MAX and size > average * _MANY:
        average *= 2
    return average


def is_too_large(size: int) -> bool:
    """Return whether the recipe of such an object would be too long for a block."""
    return size > _AVERAGE_MAX * _MANY


def chunks_of(stream: BinaryIO, size: int) -> Iterator[tuple[Digest, bytes]]:
    """Yield the chunks of a stream of ``size`` bytes in order, each with its digest."""
    for data in cut(stream, average_for(size)):
        yield Digest.of_raw(hashlib.sha256(data).digest()), data


def cut(stream: BinaryIO, average: int, window: int = _WINDOW) -> Iterator[bytes]:
    """Cut a stream; the cuts are those of the stream as a whole, whatever the window."""
    from pyfastcdc import FastCDC

    cutter = FastCDC(average, min_size=average // 4, max_size=average * 4)
    held = b""
    while True:
        more = stream.read(max(window, average * 8))
        held += more
        place = 0
        for chunk in cutter.cut_buf(held):
            if more and len(held) - chunk.offset < average * 4:
                break  # what follows may move this cut
            place = chunk.offset + chunk.length
            yield bytes(chunk.data)
        held = held[place:]
        if not more:
            return
