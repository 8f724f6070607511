"""Which files a step opened, seen through Python's audit events (PEP 578).

Sees what goes through ``open`` and ``os.open``. Libraries that open files in C code of their own are not seen.
"""

from __future__ import annotations

import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable

__all__ = ["FileRecorder"]

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_SYSTEM = ("/proc/", "/sys/", "/dev/")


class FileRecorder:
    """Records reads, with each file's identity when it was first opened, and writes, while it is on.

    outside: folders, each with a separator at its end, whose files are not recorded.
    """

    def __init__(self, outside: Iterable[str]) -> None:
        self._outside = (*outside, *_SYSTEM)
        self._reads: dict[str, os.stat_result] = {}
        self._writes: dict[str, None] = {}
        self._on = False

    def start(self) -> None:
        """Record from now on; an audit hook cannot be taken out again, so start once per process."""
        self._on = True
        sys.addaudithook(self._hook)

    def stop(self) -> None:
        """Record no more."""
        self._on = False

    def quietly(self, action: Callable[[], Any]) -> Any:
        """The result of an action whose files are not the step's."""
        was, self._on = self._on, False
        try:
            return action()
        finally:
            self._on = was

    @property
    def reads(self) -> list[dict[str, Any]]:
        """Files that were read, as in a RESULT of the host protocol."""
        return [
            {
                "path": path,
                "size": each.st_size,
                "mtime_ns": each.st_mtime_ns,
                "inode": each.st_ino,
                "device": each.st_dev,
            }
            for path, each in self._reads.items()
        ]

    @property
    def writes(self) -> list[str]:
        """Absolute paths of files that were opened to be written."""
        return list(self._writes)

    def _hook(self, event: str, args: Any) -> None:
        if event != "open" or not self._on:
            return
        try:
            self._opened(args[0], args[2])
        except Exception:  # whatever is wrong with this path, the step's own open() will say
            return

    def _opened(self, path: Any, flags: Any) -> None:
        if isinstance(path, int) or not isinstance(flags, int):
            return
        text = path if type(path) is str else os.fsdecode(path)
        if text.startswith(self._outside):
            return
        text = os.path.abspath(text)
        if text.startswith(self._outside) or text in self._writes:
            return
        if not flags & _WRITES:
            self._read(text)
            return
        if flags & os.O_RDWR and not flags & os.O_TRUNC:
            self._read(text)  # "r+" and its like see what was there
        self._writes[text] = None

    def _read(self, path: str) -> None:
        if path in self._reads:
            return
        try:
            found = os.stat(path)
        except OSError:
            return
        if stat.S_ISREG(found.st_mode):
            self._reads[path] = found
