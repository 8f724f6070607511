"""What ``@catch`` leaves in its artifact: the exception of a failed task, in a form that every later step can read."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping

__all__ = ["CaughtException"]


class CaughtException(Exception):
    """A failure that ``@catch`` let pass. exception: its message; type: its class; stacktrace: as Python printed it.

    It holds text alone, so that it can be read where the class of the exception, or a library that it came from, is not.
    """

    def __init__(self, exception: str, type: str, stacktrace: str | None = None) -> None:  # noqa: A002
        super().__init__(exception)
        self.exception = exception
        self.type = type
        self.stacktrace = stacktrace

    @classmethod
    def of(cls, error: Mapping[str, Any]) -> CaughtException:
        """From an ERROR of the host protocol."""
        return cls(error["message"], error.get("type") or "Exception", error.get("traceback"))

    def __reduce__(self) -> Any:
        return type(self), (self.exception, self.type, self.stacktrace)

    def __str__(self) -> str:
        return f"{self.type}: {self.exception}"
