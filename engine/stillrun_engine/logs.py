"""What a task writes to its two streams, held until the task has ended."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO

from stillrun_engine.guard import SecretGuard
from stillrun_snapshot.clock import Clock, utc_now
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["STREAMS", "TaskLog"]

STREAMS = ("stdout", "stderr")
_IN_MEMORY = 1 << 20
_MARKS_MAX = 256
"""Most times that are kept of one stream; a few KiB of a task's record."""
_APART_MS = 10
"""Milliseconds between two of them at first; each time that there are too many it is doubled, and every second one dropped."""


class TaskLog:
    """Both streams of one task; beyond 1 MiB each they are held on disk."""

    def __init__(self, folder: Path, clock: Clock = utc_now) -> None:
        self._folder = folder
        self._clock = clock
        self._streams: dict[str, IO[bytes]] = {}
        self._marks: dict[str, _Marks] = {}

    def write(self, stream: str, data: bytes) -> None:
        """Append ``data`` to one of STREAMS."""
        if stream not in self._streams:
            self._streams[stream] = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(self._folder))  # noqa: SIM115 - closed by keep
            self._marks[stream] = _Marks()
        self._marks[stream].add(len(data), int(self._clock().timestamp() * 1000))
        self._streams[stream].write(data)

    def times(self) -> dict[str, list[list[int]]]:
        """When each stream was written, as ``log_times`` of docs/spec/run.md has it; empty when nothing was."""
        return {stream: marks.kept for stream, marks in sorted(self._marks.items())}

    def keep(self, store: Store, guard: SecretGuard, name: str) -> dict[str, Digest]:
        """Put what was written into the store: stream -> digest. Silent streams are absent. name: STEP/TASK, for notes."""
        kept = {}
        for stream, file in sorted(self._streams.items()):
            file.seek(0)
            kept[stream] = store.put(guard.log(file.read(), f"{stream} of {name}"), compress=True)
            file.close()
        return kept


class _Marks:
    """Offsets of a stream and the times at which what follows came; few, however much is written."""

    def __init__(self) -> None:
        self.kept: list[list[int]] = []
        self._size, self._apart = 0, _APART_MS

    def add(self, size: int, now_ms: int) -> None:
        """Note that ``size`` more bytes came."""
        if not self.kept or now_ms - self.kept[-1][1] >= self._apart:
            self.kept.append([self._size, now_ms])
        if len(self.kept) > _MARKS_MAX:
            del self.kept[1::2]
            self._apart *= 2
        self._size += size
