"""Artifacts into parts: pickle protocol 5, large buffers apart from it and never copied. Format: docs/spec/host-protocol.md."""

from __future__ import annotations

import os
import pickle
import sys
import warnings

from stillrun.canonical import SCHEME, canonical_digest
from stillrun.errors import NotPicklable, StillrunError
from stillrun.mapped import address_of
from stillrun.preview import preview_of, type_name
from stillrun.spill import Part, PartSink
from stillrun.unpicklable import explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from stillrun.reader import ArtifactReader

__all__ = ["CODEC", "ArtifactWriter"]

CODEC = "pickle5"
TRY_FIRST = 1024 * 1024  # an inherited value of this size or more is hashed before anything of it is written
BODY_MAX = 64 * 1024 * 1024  # inline parts of one task; what is beyond is written to files as if it were large


class ArtifactWriter:
    """Encodes the artifacts of one task; ``body`` then holds the inline parts.

    spill: the folder for large parts; None: no part is. inline_max: parts of this size or more are large.
    """

    def __init__(self, spill: str | None, inline_max: int, reader: ArtifactReader) -> None:
        self._spill = spill
        self._inline_max = inline_max if spill is not None else sys.maxsize
        self._reader = reader
        self._body: list[bytes] = []
        self._body_size = 0
        self._written: list[str] = []

    @property
    def body(self) -> bytes:
        """All inline parts, one after the other."""
        return b"".join(self._body)

    def encode(self, name: str, value: Any, ref: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """An OUT of the host protocol. ref: what the value was loaded from, if it was.

        Raises NotPicklable, or SpillError when a part cannot be written.
        """
        known = None if ref is None else [part["digest"] for part in ref["parts"]]
        if ref is not None and sum(part["size"] for part in ref["parts"]) >= TRY_FIRST:
            if [part.digest for part in self._dump(name, value, None, {})] == known:
                return {"same": ref["artifact"]}
            known = None
        digests: dict[tuple[int, int], str] = {}
        parts = self._dump(name, value, self._spill, digests)
        if ref is not None and [part.digest for part in parts] == known:
            self._drop(parts)
            return {"same": ref["artifact"]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a library's word about how we look at its objects is not the step's
            canonical, preview = canonical_digest(value, digests), preview_of(value)
        return {
            "codec": CODEC,
            "parts": [self._placed(part) for part in parts],
            "type": type_name(value),
            "preview": preview,
            "canonical": None if canonical is None else {"scheme": SCHEME, "digest": canonical},
        }

    def part(self, data: bytes) -> dict[str, Any]:
        """Keep bytes that are no artifact; where they are, as a part of an OUT."""
        sink = PartSink(self._spill, self._inline_max)
        sink.write(data)
        part = sink.finish()
        if part.spill is not None:
            self._written.append(part.spill)
        return self._placed(part)

    def discard(self) -> None:
        """Remove all files that were written: the task failed."""
        for path in self._written:
            os.unlink(path)
        self._written.clear()

    def _dump(self, name: str, value: Any, folder: str | None, digests: dict[tuple[int, int], str]) -> list[Part]:
        full = self._spill is not None and self._body_size >= BODY_MAX
        inline_max = 1 if full else max(self._inline_max, 1)
        stream = PartSink(folder, inline_max)
        buffers: list[Part] = []

        def take(buffer: pickle.PickleBuffer) -> bool:
            view = buffer.raw()
            if view.nbytes < inline_max:
                return True  # stays in the stream
            part = self._buffer(view, folder)
            address = address_of(view)
            if address is not None:
                digests[address, view.nbytes] = part.digest
            buffers.append(part)
            return False

        try:
            pickle.Pickler(stream, protocol=5, buffer_callback=take).dump(value)
        except StillrunError:
            raise
        except Exception as err:  # a value's own code may raise anything while it is pickled
            stream.discard()
            self._drop(buffers)
            reason, cure = explain(name, value, err)
            raise NotPicklable(reason, artifact=name, cure=cure) from err
        parts = [stream.finish(), *buffers]
        self._written += [part.spill for part in parts[:1] if part.spill is not None]
        return [self._held(part) for part in parts]

    def _buffer(self, view: memoryview, folder: str | None) -> Part:
        digest = self._reader.digest_of_mapped(view)
        if digest is not None:
            return Part(digest, view.nbytes)
        sink = PartSink(folder, 1)
        sink.write(view)
        part = sink.finish()
        if part.spill is not None:
            self._written.append(part.spill)
        return part

    def _held(self, part: Part) -> Part:
        """The part without its file when the store is known to hold its bytes."""
        if part.spill is not None and part.digest in self._reader.given:
            self._drop([part])
            return Part(part.digest, part.size)
        return part

    def _drop(self, parts: list[Part]) -> None:
        for part in parts:
            if part.spill is not None and part.spill in self._written:
                self._written.remove(part.spill)
                os.unlink(part.spill)

    def _placed(self, part: Part) -> dict[str, Any]:
        placed: dict[str, Any] = {"digest": part.digest, "size": part.size}
        if part.spill is not None:
            placed["spill"] = os.path.basename(part.spill)
        elif part.data is not None:
            placed["body"] = [self._body_size, part.size]
            self._body.append(part.data)
            self._body_size += part.size
        else:
            placed["held"] = True
        return placed
