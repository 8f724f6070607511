"""Ctrl-C and SIGTERM: at once while the engine prepares, in good order while tasks run."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from stillrun_engine.errors import Interrupted

__all__ = ["StopSignals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """Within ``with``, a stop signal raises Interrupted, or within ``deferred`` only sets ``requested``."""

    def __init__(self) -> None:
        self.requested: int | None = None
        self.times = 0
        self._deferred = False
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._reader.setblocking(False)
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                self._before[number] = signal.signal(number, self._handle)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._reader.close()
        self._writer.close()

    @property
    def wake(self) -> int:
        """A descriptor that becomes readable when a signal comes."""
        return self._reader.fileno()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Signals wait in ``requested`` until the block looks."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def clear_wake(self) -> None:
        """Forget what made ``wake`` readable."""
        try:
            self._reader.recv(64)
        except BlockingIOError:
            return

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.requested = number
        self.times += 1
        if not self._deferred:
            raise Interrupted(number)
