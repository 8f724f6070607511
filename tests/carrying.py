"""Bundles as anybody could make them: members taken apart, changed and put together again with Python's own tar."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Members", "canonical", "forged", "members_of", "name_of", "with_contents", "with_sums"]

Members = list[tuple[str, bytes]]


def members_of(bundle: Path) -> Members:
    """Names and bytes of all members but the sums."""
    with tarfile.open(bundle, "r:") as archive:
        found = [(info.name, archive.extractfile(info).read()) for info in archive]  # type: ignore[union-attr]  # plain files
    return found[:-1]


def canonical(record: dict[str, Any]) -> bytes:
    """The bytes of a record."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def name_of(data: bytes) -> str:
    """Where an object belongs."""
    found = hashlib.sha256(data).hexdigest()
    return f"objects/{found[:2]}/{found[2:]}"


def with_sums(members: Members) -> Members:
    """``members`` and the sums that fit them."""
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in members]
    return [*members, ("SHA256SUMS", "".join(lines).encode())]


def with_contents(members: Members, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Members:
    """``members`` in order, with amounts that fit them, and other contents."""
    contents = json.loads(members[0][1])
    objects = sorted(members[1:])
    contents.update(objects=len(objects), bytes=sum(len(data) for _, data in objects))
    change(contents)
    return with_sums([(members[0][0], canonical(contents)), *objects])


def forged(path: Path, members: Members, *, end: bytes = bytes(1024), **header: Any) -> Path:
    """A tar of ``members``; header: what the last member's header says otherwise."""
    with open(path, "wb") as out:
        for number, (name, data) in enumerate(members):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if number == len(members) - 2:
                for key, value in header.items():
                    setattr(info, key, value)
            out.write(info.tobuf(tarfile.GNU_FORMAT if header else tarfile.USTAR_FORMAT))
            out.write(io.BytesIO(data).getvalue() + bytes(-len(data) % 512))
        out.write(end)
    return path
