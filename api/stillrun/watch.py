"""Descriptors that are watched, each with what is called when it is ready. poll(2) itself: one object, nothing made for each."""

from __future__ import annotations

import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

__all__ = ["READ", "WRITE", "Watch"]

READ, WRITE = select.POLLIN | select.POLLHUP | select.POLLERR, select.POLLOUT


class Watch:
    """What one loop waits for."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._calls: dict[int, Callable[[int], None]] = {}

    def __contains__(self, descriptor: int) -> bool:
        return descriptor in self._calls

    def add(self, descriptor: int, call: Callable[[int], None], events: int = READ) -> None:
        """Call ``call`` with the events of a descriptor when it has some; added again, for other events."""
        self._calls[descriptor] = call
        self._poll.register(descriptor, events)

    def drop(self, descriptor: int) -> None:
        """Watch a descriptor no more, before it is closed."""
        if self._calls.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def wait(self, seconds: float | None) -> bool:
        """Wait for something to be ready, and make the calls; False when nothing was."""
        ready = self._poll.poll(None if seconds is None else max(0, -int(-seconds * 1000)))
        for descriptor, events in ready:
            call = self._calls.get(descriptor)
            if call is not None:  # an earlier call may have dropped it
                call(events)
        return bool(ready)
