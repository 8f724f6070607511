"""A counter of bytes for long work on many objects."""

from __future__ import annotations

import sys

from stillrun_cli.console import clean

__all__ = ["hashing_progress"]


class hashing_progress:  # noqa: N801 - used as a function
    """A counter of hashed bytes on a terminal; nothing elsewhere."""

    def __init__(self, as_json: bool, what: str) -> None:
        self._what = what
        self._shown = not as_json and sys.stderr.isatty()

    def __enter__(self) -> hashing_progress:
        if self._shown:
            from rich.console import Console
            from rich.progress import Progress, TextColumn, TotalFileSizeColumn, TransferSpeedColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                TotalFileSizeColumn(),
                TransferSpeedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=0)
        return self

    def __call__(self, purpose: str, count: int) -> None:
        if self._shown:
            done = self._bar.tasks[0].completed + count
            self._bar.update(self._task, description=clean(purpose)[:50], completed=done, total=done)

    def __exit__(self, *exc: object) -> None:
        if self._shown:
            self._bar.stop()
