"""Digests of files that did not change since they were last read. Why it is built so: docs/adr/0002-stat-cache.md."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable
from dataclasses import field
from pathlib import Path

from stillrun_snapshot._disk import write_atomically
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of

__all__ = ["StatCache"]

_VERSION = 2  # the files were looked through for secrets by the rules of secret_rules.VERSION, which is part of it
_MARGIN_NS = 100_000_000  # several ticks of the clocks that file systems stamp with
_COARSE_MARGIN_NS = 2_500_000_000  # whole seconds: a file system that stamps every one or two seconds
Stamp = tuple[int, int, int, int, int]  # device, inode, size, mtime_ns, ctime_ns


@dataclass
class StatCache:
    """What is known of the files below one root. Soft state: what is lost or unreadable is found out again."""

    path: Path
    root: str
    known: dict[str, list[object]] = field(
        default_factory=dict
    )  # path -> [*stamp, digest, *rules that found something]
    fresh: dict[str, list[object]] = field(default_factory=dict)  # seen in this capture
    facts: dict[str, list[str]] = field(default_factory=dict)  # name -> [what it was derived from, value]
    changed: bool = False

    @classmethod
    def load(cls, folder: Path, root: Path) -> StatCache:
        """Return what is remembered in ``folder`` of the files below ``root``."""
        path = folder / (digest_of(os.fsencode(root)).hex[:32] + ".json")
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return cls(path, str(root))
        if (
            not isinstance(content, dict)
            or content.get("version") != _VERSION
            or content.get("root") != ascii(str(root))
        ):
            return cls(path, str(root))
        known, facts = content.get("files"), content.get("facts")
        if not isinstance(known, dict) or not isinstance(facts, dict):
            return cls(path, str(root))
        return cls(path, str(root), known=known, facts=facts)

    def digest(self, path: str, status: os.stat_result, allowed: Collection[str] | None = None) -> Digest | None:
        """Return the digest of a file that is as it was when it was read.

        allowed: rules whose findings in it are no reason to look again; None: no finding is.
        """
        entry = self.known.get(path)
        if not isinstance(entry, list) or len(entry) < 6 or entry[:5] != [*_stamp(status)]:
            return None
        if len(entry) > 6 and allowed is not None and not all(rule in allowed for rule in entry[6:]):
            return None
        self.fresh[path] = entry
        return Digest(str(entry[5]))

    @property
    def as_before(self) -> bool:
        """Whether the files that were asked for are those of the last time, all of them unchanged."""
        return not self.changed and len(self.fresh) == len(self.known)

    def add(self, path: str, status: os.stat_result, digest: Digest, now_ns: int, found: Iterable[str] = ()) -> None:
        """Remember a file read after ``status`` was taken; one written just before may change unseen, it is not.

        found: rules that found something in it.
        """
        self.changed = True
        margin = _COARSE_MARGIN_NS if status.st_mtime_ns % 1_000_000_000 == 0 else _MARGIN_NS
        if max(status.st_mtime_ns, status.st_ctime_ns) + margin < now_ns:
            self.fresh[path] = [*_stamp(status), str(digest), *sorted(set(found))]

    def fact(self, name: str, source: str) -> str | None:
        """Return a value derived earlier from the same source."""
        found = self.facts.get(name)
        return found[1] if found is not None and found[0] == source else None

    def add_fact(self, name: str, source: str, value: str) -> None:
        """Remember what was derived from ``source``."""
        self.facts[name] = [source, value]
        self.changed = True

    def forget_fact(self, name: str) -> None:
        """Remember no longer what was derived."""
        self.facts.pop(name, None)

    def save(self) -> None:
        """Write what was seen, if anything is new; a cache that cannot be written is none."""
        if self.as_before:
            return
        content = {"version": _VERSION, "root": ascii(self.root), "files": self.fresh, "facts": self.facts}
        data = json.dumps(content, separators=(",", ":")).encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, data, durable=False)
        except OSError:
            self.changed = False


def _stamp(status: os.stat_result) -> Stamp:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
