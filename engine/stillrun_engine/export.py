"""An artifact as one pickle file that `pickle.load` reads, made without unpickling anything.

A pickle-5 stream whose large buffers stand apart refers to them by NEXT_BUFFER (and READONLY_BUFFER). The same stream with
the buffers written in place of those opcodes is an ordinary pickle (PEP 574; opcodes: pickletools).
"""

from __future__ import annotations

import pickletools
import shutil
import struct
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["write_pickle"]

_BYTEARRAY8 = b"\x96"
_BINBYTES8 = b"\x8e"
_FRAME_BYTES = 9


def write_pickle(store: Store, artifact: Mapping[str, Any], out: BinaryIO) -> None:
    """Write the artifact's value to ``out`` as one self-contained pickle. Every byte is hashed on the way."""
    first, *buffers = [Digest(part["digest"]) for part in artifact["parts"]]
    if not buffers:
        with store.open_object(first) as source:
            shutil.copyfileobj(source, out, 1 << 20)
        return
    rest = iter(buffers)
    for piece in _pieces(store.get(first)):
        if isinstance(piece, bytes):
            out.write(piece)
            continue
        digest = next(rest)
        out.write((_BINBYTES8 if piece else _BYTEARRAY8) + struct.pack("<Q", store.size(digest)))
        with store.open_object(digest) as source:
            shutil.copyfileobj(source, out, 1 << 20)


def _pieces(stream: bytes) -> Iterator[bytes | bool]:
    """The stream without frames, cut at its buffers: bytes, or for each buffer whether it is read-only."""
    start = 0
    operations = [(op.name, position) for op, _, position in pickletools.genops(stream) if position is not None]
    for number, (name, position) in enumerate(operations):
        if name == "FRAME":
            yield stream[start:position]
            start = position + _FRAME_BYTES
        elif name == "NEXT_BUFFER":
            read_only = operations[number + 1][0] == "READONLY_BUFFER"
            yield stream[start:position]
            yield read_only
            start = position + (2 if read_only else 1)
    yield stream[start:]
