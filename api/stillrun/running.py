"""The task that is running, as ``current.task`` gives it: it has a name, and nothing to show yet."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["RunningTask"]


class RunningTask:
    """What the client's Task is for a task that has not ended."""

    finished = successful = False
    finished_at = exception = None
    stdout = stderr = ""

    def __init__(self, pathspec: str, attempt: int) -> None:
        self.pathspec = pathspec
        self.path_components = pathspec.split("/")
        self.id = self.path_components[-1]
        self.current_attempt = attempt

    @property
    def run(self) -> Any:
        """The run that it belongs to."""
        from stillrun import client

        return client.Run("/".join(self.path_components[:2]))

    def __repr__(self) -> str:
        return f"Task({self.pathspec!r})"
