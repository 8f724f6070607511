"""A counter of bytes for long work on many objects."""

from __future__ import annotations

import sys

from stillrun_cli.console import clean

__all__ = ["hashing_progress", "transfer_progress"]


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


class transfer_progress:  # noqa: N801 - used as a function
    """A bar of moved bytes with their speed and the time left, on a terminal; nothing elsewhere."""

    def __init__(self, as_json: bool, what: str) -> None:
        self._what = what
        self._shown = not as_json and sys.stderr.isatty()
        self._total = 0

    def __enter__(self) -> transfer_progress:
        if self._shown:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            told = TextColumn("{task.description}")
            self._bar = Progress(told, *columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=None)
        return self

    def expect(self, count: int) -> None:
        """So many bytes more are to be moved."""
        if self._shown:
            self._total += count
            self._bar.update(self._task, total=self._total)

    def moved(self, what: str, count: int) -> None:
        """So many bytes were moved."""
        if self._shown:
            self._bar.update(self._task, advance=count, description=clean(f"{self._what} {what}")[:50])

    def __exit__(self, *exc: object) -> None:
        if self._shown:
            self._bar.stop()
