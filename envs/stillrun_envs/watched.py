"""Files that an answer rests on, and what the file system said of them: told again in one look each, nothing is read."""

from __future__ import annotations

import os
import stat
import time
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from stillrun_snapshot.digest import Digest, digest_of

__all__ = ["Watch", "are_unchanged"]

_TICK_NS = 20_000_000  # file systems count time in steps of up to 10 ms: what is younger may change unseen
_GONE = os.stat_result((0,) * 10, {"st_mtime_ns": 0, "st_ctime_ns": 0})
_SIGNED = (1 << 63) - 1
_ROW = 5 * 8  # bytes of facts for each file


class Watch:
    """Collects files, each with its facts from before it is read: a change in between shows at the next look."""

    def __init__(self) -> None:
        self._seen: dict[str, bytes] = {}
        self._young = False

    def add(self, paths: Iterable[str]) -> Digest:
        """Watch ``paths``, files, folders and names where nothing is; returns a digest of how they are now."""
        given = list(paths)
        found = _looked_at(given)
        youngest = max((one.st_ctime_ns for one in found), default=0)
        self._young = self._young or time.time_ns() - youngest < _TICK_NS
        facts = _facts(found)
        for place, path in enumerate(given):
            self._seen.setdefault(path, facts[place * _ROW : (place + 1) * _ROW])
        return digest_of(_joined(given).encode("utf-8", "surrogateescape") + facts)

    def to_record(self) -> dict[str, str] | None:
        """What ``are_unchanged`` takes; None while a file is so young that it could change unseen."""
        if self._young:
            return None
        return {"paths": _joined(self._seen), "facts": str(digest_of(b"".join(self._seen.values())))}


def are_unchanged(record: Mapping[str, str]) -> bool:
    """Whether the file system says of every watched file what it said when it was watched."""
    paths = record["paths"].split("\0") if record["paths"] else []
    return digest_of(_facts(_looked_at(paths))) == record["facts"]


def _joined(paths: Iterable[str]) -> str:
    return "\0".join(paths)


def _looked_at(paths: Sequence[str]) -> list[os.stat_result]:
    try:
        return list(map(os.stat, paths))
    except (OSError, ValueError):
        return [_stat_or_gone(path) for path in paths]


def _stat_or_gone(path: str) -> os.stat_result:
    try:
        return os.stat(path)  # noqa: PTH116 - thousands of files, each end of a run
    except (OSError, ValueError):
        return _GONE


def _facts(found: Sequence[os.stat_result]) -> bytes:
    """File by file. ctime is one of the facts because it cannot be set; the size of a folder says nothing."""
    rows = (
        (
            0 if stat.S_ISDIR(one.st_mode) else one.st_size,
            one.st_mtime_ns,
            one.st_ctime_ns,
            one.st_ino & _SIGNED,
            one.st_mode,
        )
        for one in found
    )
    return array("q", chain.from_iterable(rows)).tobytes()
