"""What a task writes to its two streams, held until the task has ended."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO

from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["STREAMS", "TaskLog"]

STREAMS = ("stdout", "stderr")
_IN_MEMORY = 1 << 20


class TaskLog:
    """Both streams of one task; beyond 1 MiB each they are held on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._streams: dict[str, IO[bytes]] = {}

    def write(self, stream: str, data: bytes) -> None:
        """Append ``data`` to one of STREAMS."""
        if stream not in self._streams:
            self._streams[stream] = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(self._folder))  # noqa: SIM115 - closed by keep
        self._streams[stream].write(data)

    def keep(self, store: Store) -> dict[str, Digest]:
        """Put what was written into the store: stream -> digest. Silent streams are absent."""
        kept = {}
        for stream, file in sorted(self._streams.items()):
            file.seek(0)
            kept[stream] = store.put(file.read(), compress=True)
            file.close()
        return kept
