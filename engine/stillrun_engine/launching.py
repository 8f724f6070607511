"""How step hosts of the caller's environment are started, and one that is started early. Imports as little as can be."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from stillrun_engine.caller import Caller
from stillrun_engine.host_process import HostProcess, Launch, settled

__all__ = ["EarlyHost", "early_host", "launch_ambient", "remember_face"]

_MEMO = "cache/face.json"


class EarlyHost(NamedTuple):
    """A host that was started before the store was opened: on the face that was there at the last run."""

    store: Path
    launch: Launch
    process: HostProcess
    face: int  # inode of its folder: one that was damaged is made anew beside it

    def suits(self, launch: Launch) -> bool:
        """Whether it is what ``launch`` would start now."""
        return self.launch == launch and launch.face.stat().st_ino == self.face


def launch_ambient(caller: Caller, face: Path) -> Launch:
    """How the host of undecorated steps is started: the caller's interpreter and variables as they are."""
    return Launch(
        caller.python,
        face,
        {**settled(caller.variables), **caller.forced},
        caller.cwd,
        wrapper=caller.wrapper,
        umask=caller.umask,
        reads=caller.reads_descriptor,
    )


def early_host(store: Path, caller: Caller) -> EarlyHost | None:
    """Start a host on the face that the store was last given, if it is still this package's; None when that is not known."""
    try:
        memo = json.loads((store / _MEMO).read_bytes())
        unchanged = all(_stamp(path) == stamp for path, stamp in memo["package"])
        face = store / "trees" / memo["tree"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not unchanged or not face.is_dir():
        return None
    inode, launch = face.stat().st_ino, launch_ambient(caller, face)
    return EarlyHost(store, launch, HostProcess(launch), inode)


def remember_face(store: Path, package: Iterable[Path], tree: str) -> None:
    """Note which tree these files and folders are, for the next command; where nothing can be written, nothing is."""
    memo = {"package": [[str(path), _stamp(path)] for path in package], "tree": tree}
    path, text = store / _MEMO, json.dumps(memo)
    try:
        if not path.exists() or path.read_text() != text:
            fresh = path.with_suffix(f".{os.getpid()}")
            fresh.write_text(text)
            fresh.replace(path)
    except OSError:
        return


def _stamp(path: str | Path) -> list[Any]:
    found = os.stat(path)  # noqa: PTH116  # text is five times as fast
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
