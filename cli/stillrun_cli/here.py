"""Where this command is called: the interpreter of the active environment, the folder, the variables. Imports next to nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from stillrun_engine.caller import Caller
from stillrun_engine.reads import ReadService

__all__ = ["active_python", "caller_here"]


def caller_here(python: Path | None = None, reads: ReadService | None = None) -> Caller:
    """The caller as it is. python: another interpreter for undecorated steps. reads: answers what tasks ask of kept runs."""
    return Caller(python or active_python(os.environ), Path.cwd(), dict(os.environ), umask=_umask(), reads=reads)


def active_python(variables: Mapping[str, str]) -> Path:
    """The interpreter of the active virtual or conda environment, else our own."""
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        active = variables.get(name)
        if active and (candidate := Path(active) / "bin" / "python").exists():
            return candidate
    return Path(sys.executable)


def _umask() -> int:
    """What this process takes away from the rights of new files; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
