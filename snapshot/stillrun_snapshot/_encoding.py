"""How the content of a block is written: raw or compressed, at which level, shuffled or not; tried on samples of it.

Why so: docs/adr/0007-packs-of-blocks-and-chunks.md.
"""

from __future__ import annotations

import threading
from typing import Any

from stillrun_snapshot._block import shuffled
from stillrun_snapshot._pack import RAW, ZSTD
from stillrun_snapshot.deferred import dataclass

__all__ = ["Encoded", "encoded", "saves"]

_WIDTHS = (8, 4, 2)  # bytes of the numbers that arrays mostly hold
_WIDTH_GAIN = 0.97  # a shuffle must make it so much smaller: undoing it takes time
_LEVEL_GAIN = 0.98  # the same of each higher level
_RAW_ABOVE = 0.97  # what does not become smaller than this stays raw, and can be mapped
_SAMPLE = 64 * 1024  # of smaller ones zstd makes less of a shuffle than of a whole block
_SAMPLES = 3
_LEVELS = (1, 3, 6)
_local = threading.local()  # a compressor is for one thread


@dataclass(frozen=True)
class Encoded:
    """The payload of a block and what its header says of it."""

    codec: int
    width: int
    payload: bytes


def encoded(content: bytes) -> Encoded:
    """Return ``content`` in the form that is smallest for what it costs."""
    sample = _sample(content)
    width, size = _best_width(sample)
    if size > len(sample) * _RAW_ABOVE and len(sample) < len(content):
        payload = _compress(content, 1)  # likeness far apart does not show in a sample
        return _smaller(content, payload, 0)
    level = _best_level(shuffled(sample, width) if width else sample)
    return _smaller(content, _compress(shuffled(content, width) if width else content, level), width)


def saves(sample: bytes) -> bool:
    """Return whether compression makes bytes like these smaller by a twentieth or more."""
    return _best_width(sample)[1] <= len(sample) * 0.95


def _smaller(content: bytes, payload: bytes, width: int) -> Encoded:
    if len(payload) > len(content) * _RAW_ABOVE:
        return Encoded(RAW, 0, content)
    return Encoded(ZSTD, width, payload)


def _sample(content: bytes) -> bytes:
    if len(content) <= _SAMPLE * (_SAMPLES + 1):
        return content
    step = (len(content) - _SAMPLE) // (_SAMPLES - 1) // 16 * 16  # numbers begin at the same places in each piece
    return b"".join(content[place * step : place * step + _SAMPLE] for place in range(_SAMPLES))


def _best_width(sample: bytes) -> tuple[int, int]:
    best, least = 0, len(_compress(sample, 1))
    plain = least
    for width in _WIDTHS:
        size = len(_compress(shuffled(sample, width), 1))
        if size < least and size <= plain * _WIDTH_GAIN:
            best, least = width, size
    return best, least


def _best_level(sample: bytes) -> int:
    best, least = 0, float("inf")
    for level in _LEVELS:
        size = len(_compress(sample, level))
        if size < least * _LEVEL_GAIN:
            best, least = level, size
    return best


def _compress(data: bytes, level: int) -> bytes:
    compressors: dict[int, Any] | None = getattr(_local, "compressors", None)
    if compressors is None:
        compressors = _local.compressors = {}
    if level not in compressors:
        import zstandard

        compressors[level] = zstandard.ZstdCompressor(level=level, write_content_size=True)
    frame: bytes = compressors[level].compress(data)
    return frame
