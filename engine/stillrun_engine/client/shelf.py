"""The tasks of a step that are walked through one by one: what is asked of one is read for the next ones as well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stillrun_engine.client.session import Record, session

__all__ = ["Shelf"]

_TOGETHER = 256
"""Tasks whose records are read at once."""
_SMALL = 64 * 1024
"""Bytes of an artifact that is read before it is asked for."""


class Shelf:
    """Records of tasks in their order. Nothing is remembered here: the session does that, and forgets."""

    def __init__(self, tasks: Sequence[str]) -> None:
        self._tasks = tasks

    def task(self, place: int) -> Record:
        """The record of the task at ``place``."""
        return session().record(self._tasks[place], "task", lambda: self._next(place))

    def artifact(self, place: int, name: str, digest: str) -> Record:
        """The record ``digest`` of the artifact ``name`` of a task."""
        return session().record(digest, "artifact", lambda: self._artifacts(place, name))

    def content(self, place: int, name: str, digest: str) -> bytes:
        """The bytes ``digest`` of the artifact ``name`` of a task, which consists of this one part."""
        return session().content(digest, lambda: self._parts(place, name))

    def _next(self, place: int) -> Sequence[str]:
        return self._tasks[place + 1 : place + _TOGETHER]

    def _artifacts(self, place: int, name: str) -> Iterator[str]:
        for other in range(place + 1, min(place + _TOGETHER, len(self._tasks))):
            found = self.task(other)["artifacts"].get(name)
            if found is not None:
                yield found

    def _parts(self, place: int, name: str) -> Iterator[tuple[str, int]]:
        for digest in self._artifacts(place, name):
            parts = session().record(digest, "artifact")["parts"]
            if len(parts) == 1 and parts[0]["size"] <= _SMALL:
                yield parts[0]["digest"], parts[0]["size"]
