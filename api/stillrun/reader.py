"""Artifacts back from their parts: checked, unpickled, and large buffers mapped instead of copied."""

from __future__ import annotations

import pickle

from stillrun.errors import ArtifactCorrupt
from stillrun.mapped import MAP_MIN, address_of, is_untouched, map_file, read_file
from stillrun.sha import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

__all__ = ["ArtifactReader"]


class ArtifactReader:
    """Loads the artifacts that one task was given references to.

    body: the inline parts of the task's frame. quietly: called around loading with the function that loads, so that
    the store's own files are not taken for the step's.
    """

    def __init__(self, body: bytes, quietly: Callable[[Callable[[], Any]], Any] = lambda load: load()) -> None:
        self._body = memoryview(body)
        self.quietly = quietly
        self._maps: dict[int, list[tuple[memoryview, str]]] = {}  # size -> views of that size and their digests
        self.given: set[str] = set()  # digests of all parts that were loaded: the store holds them

    def load(self, ref: Mapping[str, Any], name: str) -> Any:
        """The value that a REF of the host protocol stands for. Raises ArtifactCorrupt."""
        stream, *buffers = self.quietly(lambda: [self._part(part, name) for part in ref["parts"]])
        return pickle.loads(stream, buffers=buffers)  # noqa: S301  # in a task only, and checked by digest

    def digest_of_mapped(self, view: memoryview) -> str | None:
        """The digest of these bytes if they are exactly a loaded part in which nothing was changed since."""
        candidates = self._maps.get(view.nbytes)
        if not candidates:
            return None
        address = address_of(view)
        for mapped, digest in candidates:
            if address is not None and address_of(mapped) == address:
                return digest if is_untouched(address, view.nbytes) else None
        return None

    def inline(self, offset: int, length: int) -> memoryview:
        """Bytes of the task's frame."""
        return self._body[offset : offset + length]

    def _part(self, part: Mapping[str, Any], name: str) -> Any:
        digest, size = part["digest"], part["size"]
        if "body" in part:
            offset, length = part["body"]
            data: Any = bytearray(self._body[offset : offset + length])
        elif size >= MAP_MIN:
            data = map_file(part["path"], part["offset"], size, digest)
            self._maps.setdefault(size, []).append((data, digest))
        else:
            data = read_file(part["path"], part["offset"], size, digest)
        if not part.get("checked"):
            _check(data, digest, size, name, part.get("path", "the message"))
        self.given.add(digest)
        return data


def _check(data: Any, digest: str, size: int, name: str, place: str) -> None:
    found = "sha256:" + sha256(data).hexdigest()
    if found != digest or len(data) != size:
        raise ArtifactCorrupt(
            f"artifact {name!r}: object {digest} in {place} was changed after it was written "
            f"({len(data):,} bytes that are {found[:19]}…).",
            digest=digest,
            cure="Restore it, or run again from the step that makes it.",
        )
