"""Processes with their own view of the machine: folders seen at other places, no network. Linux, where the system allows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from stillrun_snapshot.deferred import dataclass

__all__ = ["Enclosure", "too_wide"]

_ENTER = Path(__file__).with_name("enter.py")


@dataclass(frozen=True)
class Enclosure:
    """What a process is to see. mounts: pairs of a folder and the place where it is seen, outer places first.

    keep: folders that stay to be seen where they are when something is laid over a folder above them.
    """

    mounts: tuple[tuple[Path, Path], ...] = ()
    keep: tuple[Path, ...] = ()
    network: bool = True

    @property
    def wrapper(self) -> tuple[str, ...]:
        """The words to put before a command; none when nothing is to be seen otherwise."""
        if self.network and not self.mounts:
            return ()
        order = {
            "mounts": [[str(folder), str(place)] for folder, place in self.mounts],
            "keep": [str(folder) for folder in self.keep],
            "network": self.network,
        }
        return (sys.executable, "-I", "-S", str(_ENTER), json.dumps(order))

    def problem(self) -> str | None:
        """Why this cannot be had on this machine; None when it can."""
        if not self.wrapper:
            return None
        if not sys.platform.startswith("linux"):
            return "this needs Linux"
        tried = subprocess.run([*self.wrapper, "true"], capture_output=True, check=False, text=True)
        return None if tried.returncode == 0 else tried.stderr.strip() or "it could not be tried"


def too_wide(place: Path, needed: Iterable[Path] = ()) -> bool:
    """True for a folder that must not be covered, since it holds more than a flow: a home, the temporary folder, ``needed``."""
    return any(each.is_relative_to(place) for each in (*_homes(), *needed))


@lru_cache(maxsize=1)
def _homes() -> tuple[Path, ...]:
    found = [Path(tempfile.gettempdir()), Path(sys.base_prefix), Path(os.path.realpath(sys.executable))]
    home = os.path.expanduser("~")  # noqa: PTH111  # a user without a home is no error here
    return (*found, *([Path(home)] if home != "~" else []))
