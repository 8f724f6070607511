"""Artifacts between the store and a task: references that a task reads, outputs that it hands back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import ObjectCorrupt
from stillrun_snapshot.store import Store

__all__ = ["Body", "References", "content_digest", "keep_output", "keep_outputs", "keep_part"]


_REMEMBERED = 4096
"""Artifacts whose places are remembered; a few hundred bytes each."""


class Body:
    """The bytes that travel beside a frame's header; parts are named by offset and length."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> tuple[int, int]:
        """Where ``data`` will stand in the body."""
        place = (self._size, len(data))
        self._chunks.append(data)
        self._size += len(data)
        return place

    def joined(self) -> bytes:
        """The whole body."""
        return b"".join(self._chunks)


class References:
    """REFs of the protocol for artifacts of one store; what is asked for again, as by each task of a foreach, is remembered."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, dict[str, Any]] = {}
        self._kept: dict[str, list[tuple[str, int]]] = {}

    def all_of(self, artifacts: Mapping[str, str], body: Body) -> dict[str, Any]:
        """The REF of each artifact record in ``artifacts``: name -> digest."""
        return {name: self.of(digest, body) for name, digest in artifacts.items()}

    def of(self, artifact: str, body: Body) -> dict[str, Any]:
        """Where a task finds each part: raw ones by file and place, others in ``body``. Every part was hashed once."""
        known = self._known.get(artifact)
        if known is None:
            known = self._looked_up(Digest(artifact), body)
            if all("path" in part for part in known["parts"]):
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[artifact] = known
        return known

    def remember(self, artifact: str, output: Mapping[str, Any]) -> None:
        """Hear what an artifact that was just kept consists of: most are read soon, by the tasks that follow."""
        if "parts" in output:
            if len(self._kept) >= _REMEMBERED:
                self._kept.clear()
            self._kept[artifact] = [(part["digest"], part["size"]) for part in output["parts"]]

    def _looked_up(self, artifact: Digest, body: Body) -> dict[str, Any]:
        parts = []
        for part in self._parts(artifact):
            location = self._store.checked(Digest(part["digest"]))
            found: dict[str, Any] = {"digest": part["digest"], "size": part["size"]}
            if location.data is not None:
                found["body"] = body.add(location.data)
            else:
                found.update(path=str(location.path), offset=location.offset, checked=True)
            parts.append(found)
        return {"artifact": artifact, "parts": parts}

    def _parts(self, artifact: Digest) -> list[Mapping[str, Any]]:
        known = self._kept.get(artifact)
        if known is not None:
            return [{"digest": digest, "size": size} for digest, size in known]
        found: list[Mapping[str, Any]] = self._store.get_record(artifact, "artifact")["parts"]
        return found


def keep_outputs(store: Store, outputs: Mapping[str, Any], body: bytes, spill: Path) -> dict[str, Digest]:
    """Put what a task handed back into the store; the digest of each artifact's record by name."""
    return {name: keep_output(store, output, body, spill) for name, output in outputs.items()}


def keep_output(store: Store, output: Mapping[str, Any], body: bytes, spill: Path) -> Digest:
    """Put one OUT of the protocol into the store; the digest of its artifact record."""
    if "same" in output:
        return Digest.parse(output["same"])
    parts = [{"digest": keep_part(store, part, body, spill), "size": part["size"]} for part in output["parts"]]
    return store.put_record(
        {
            "schema": "stillrun/artifact/1",
            "codec": output["codec"],
            "parts": parts,
            "size": sum(part["size"] for part in parts),
            "type": output["type"],
            "preview": output["preview"],
            "canonical": output["canonical"],
        }
    )


def keep_part(store: Store, part: Mapping[str, Any], body: bytes, spill: Path) -> Digest:
    """Put one part of an OUT into the store; its digest."""
    digest = Digest.parse(part["digest"])
    if "spill" in part:
        store.adopt(spill / Path(part["spill"]).name, digest, part["size"])
    elif "body" in part:
        offset, length = part["body"]
        kept = store.put(body[offset : offset + length])
        if kept != digest:
            raise ObjectCorrupt(digest, store.root, f"a task handed back {kept} under this name")
    return digest


def content_digest(record: Mapping[str, Any]) -> Digest:
    """One digest for the bytes of an artifact: its part's, or that of the list of its parts' digests."""
    parts = [part["digest"] for part in record["parts"]]
    return Digest(parts[0]) if len(parts) == 1 else digest_of("\n".join(parts).encode())
