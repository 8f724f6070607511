"""Exceptions as ERROR of the host protocol: what happened, where in the user's files, and the cure."""

from __future__ import annotations

import os
import traceback

from stillrun.errors import StillrunError
from stillrun.places import FACE, Places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["error", "error_of"]

MESSAGE_MAX = 10_000
TRACEBACK_MAX = 100_000


def error(kind: str, message: str, **more: Any) -> dict[str, Any]:
    """An ERROR with all of its fields; those that are not given are null."""
    fields = dict.fromkeys(("type", "step", "file", "line", "traceback", "cure"))
    return {"kind": kind, "message": _cut(message, MESSAGE_MAX), **fields, **more}


def error_of(exc: BaseException, places: Places | None, step: str | None = None, **more: Any) -> dict[str, Any]:
    """The ERROR for an exception that came out of the user's code or was raised on purpose."""
    kind = exc.kind if isinstance(exc, StillrunError) else "user"
    if isinstance(exc, KeyboardInterrupt):
        kind = "interrupted"
    message, cure = _message(exc), getattr(exc, "cure", None) if isinstance(exc, StillrunError) else None
    file, line = _place(exc, places)
    found = error(kind, message, type=type(exc).__qualname__, step=step, file=file, line=line, cure=cure)
    if kind in ("user", "interrupted"):
        found["traceback"] = _traceback(exc, places)
    return {**found, **more}


def _message(exc: BaseException) -> str:
    if isinstance(exc, StillrunError):
        return exc.what
    try:
        return str(exc)
    except Exception as err:  # the user's exception cannot say what it is
        return f"(its message cannot be shown: {type(err).__name__})"


def _place(exc: BaseException, places: Places | None) -> tuple[str | None, int | None]:
    """The innermost line in the flow's own files; else the innermost outside this package."""
    last: tuple[str | None, int | None] = (None, None)
    mine = False
    for frame, line in traceback.walk_tb(exc.__traceback__):
        file = frame.f_code.co_filename
        in_tree = places is not None and file.startswith(places.tree + os.sep)
        if not file.startswith(FACE + os.sep) and (in_tree or not mine):
            last, mine = (places.shown(file) if places is not None else file, line), in_tree
    return last


def _traceback(exc: BaseException, places: Places | None) -> str:
    trail = exc.__traceback__
    while trail is not None and _is_ours(trail.tb_frame.f_code.co_filename):
        trail = trail.tb_next
    try:
        text = "".join(traceback.format_exception(type(exc), exc, trail))
    except Exception as err:  # an exception whose text cannot be made, see _message
        text = f"{type(exc).__qualname__} (no traceback: {type(err).__name__})\n"
    return _cut(text if places is None else places.shown_in(text), TRACEBACK_MAX)


def _is_ours(file: str) -> bool:
    return file.startswith((FACE + os.sep, "<frozen importlib"))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most // 2] + "\n…\n" + text[-most // 2 :]
