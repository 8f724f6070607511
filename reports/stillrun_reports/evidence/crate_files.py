"""What lies in a crate besides its metadata: code, data by digest, and the records, one a line."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from stillrun_engine.closure import needed_objects
from stillrun_reports.evidence.dossier import Dossier, held
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import BLOCK, Digest, digest_of
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.tree import FileEntry, tree_objects

__all__ = [
    "ELSEWHERE",
    "RECORDS",
    "SUMS",
    "TOO_LARGE",
    "Contents",
    "contents_of",
    "record_lines",
    "sums_text",
    "verdict_bytes",
    "write_contents",
]

RECORDS = "records.jsonl"
SUMS = "SHA256SUMS"
ELSEWHERE = "the store does not hold it"
TOO_LARGE = "it is too large for a crate"
_ONE = 64 << 20  # bytes: larger objects are named by digest, and stay in the store
_ALL = 1 << 30
_TOGETHER = 1000  # records that are read at once


@dataclass(frozen=True)
class Contents:
    """The objects that a crate holds as files, by path, and why others are not in it."""

    files: Mapping[str, Digest]
    sizes: Mapping[Digest, int]
    absent: Mapping[Digest, str]

    def path_of(self, digest: Digest) -> str | None:
        """Where an object of the data lies; None when it is not in the crate."""
        path = f"data/{digest.hex}"
        return path if path in self.files else None


def contents_of(dossier: Dossier) -> Contents:
    """Choose what goes in: all code, and data that the store holds and that is not too large."""
    code = {f"code/{path}": e for path, e in dossier.code_files.items() if isinstance(e, FileEntry)}
    sizes = dict(_data(dossier))
    here = held(dossier.store, sizes)
    files, absent, total = {path: entry.digest for path, entry in code.items()}, dict[Digest, str](), 0
    for digest, size in sizes.items():
        if digest not in here:
            absent[digest] = ELSEWHERE
        elif size > _ONE or total + size > _ALL:
            absent[digest] = TOO_LARGE
        else:
            files[f"data/{digest.hex}"] = digest
            total += size
    return Contents(files, {**sizes, **{entry.digest: entry.size for entry in code.values()}}, absent)


def _data(dossier: Dossier) -> Iterator[tuple[Digest, int]]:
    """Parts of artifacts, what tasks wrote, and the files that they read."""
    for artifact in dossier.artifacts.values():
        for part in artifact["parts"]:
            yield Digest(part["digest"]), part["size"]
    store = dossier.store
    for task in dossier.tasks:
        logs = [Digest(one) for one in task.record["logs"].values()]
        yield from ((one, store.size(one)) for one in logs if store.has(one))
        yield from ((Digest(one["digest"]), one["size"]) for one in task.record["files"] if one["kept"])


def record_lines(dossier: Dossier) -> Iterator[bytes]:
    """Every record that the run's leads to, the run's own first: the bytes that its digest names."""
    store = dossier.store
    yield store.get(dossier.run.digest)
    names = (digest for digest in dict.fromkeys(_record_names(dossier)) if digest != dossier.run.digest)
    while some := list(islice(names, _TOGETHER)):
        found = store.get_many(some)
        yield from (found[digest] for digest in some)


def _record_names(dossier: Dossier) -> Iterator[Digest]:
    for needed in needed_objects(dossier.run, packages=False):
        if needed.kind in ("record", "lock"):
            yield needed.digest
    named = {entry.digest for entry in dossier.code_files.values() if isinstance(entry, FileEntry)}
    yield from (one for _, one in tree_objects(dossier.store, Digest(dossier.code["tree"])) if one not in named)
    for environment in dossier.environments:  # those of steps that never ran too
        yield environment.digest
        yield environment.name
    for judgement in dossier.judgements:
        yield judgement.digest
        yield judgement.replay_digest


def write_contents(dossier: Dossier, contents: Contents, texts: Mapping[str, bytes], folder: Path) -> list[str]:
    """Write all files and their sums into ``folder``; their paths in it. Every object is hashed as it is written."""
    sums = {}
    for path, digest in contents.files.items():
        _write(folder / path, _blocks(dossier, digest))
        sums[path] = digest.hex
    for path, data in texts.items():
        _write(folder / path, [data])
        sums[path] = digest_of(data).hex
    sums[RECORDS] = _write(folder / RECORDS, (line + b"\n" for line in record_lines(dossier)))
    _write(folder / SUMS, [sums_text(sums).encode()])
    return [*sorted(sums), SUMS]


def sums_text(sums: Mapping[str, str]) -> str:
    """The digits of each file's SHA-256 by path, as `sha256sum --check` reads them."""
    return "".join(f"{_sum_line(sums[path], path)}\n" for path in sorted(sums))


def _blocks(dossier: Dossier, digest: Digest) -> Iterator[bytes]:
    with dossier.store.open_object(digest) as stream:
        while block := stream.read(BLOCK):
            yield block


def _write(path: Path, blocks: Iterable[bytes]) -> str:
    """Write a file that must not be there yet; its SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = hashlib.sha256()
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as out:
        for block in blocks:
            state.update(block)
            out.write(block)
    return state.hexdigest()


def _sum_line(digest: str, path: str) -> str:
    r"""A line as `sha256sum` writes and reads it: names with \ or line ends are escaped, and the line begins with \."""
    escaped = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == path else chr(92)}{digest}  {escaped}"


def verdict_bytes(verdict: Mapping[str, Any]) -> bytes:
    """A verdict as the record that its digest names."""
    return canonical_bytes(verdict)
