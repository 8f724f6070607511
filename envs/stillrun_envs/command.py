"""Runs the tools that environments are made with: uv, patchelf and Pythons. Never through a shell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stillrun_envs.errors import EnvError
from stillrun_snapshot.deferred import dataclass

__all__ = ["Outcome", "quiet_environment", "run", "uv"]

_LIMIT_S = 1800  # the longest resolution and the largest build end well before; a hung index must not hang a run


@dataclass(frozen=True)
class Outcome:
    """What a command returned and said."""

    code: int
    output: str
    errors: str


def run(
    arguments: Sequence[str | Path],
    *,
    environ: Mapping[str, str],
    given: str = "",
    cwd: Path = Path("/"),
    limit_s: int = _LIMIT_S,
) -> Outcome:
    """Run a command to its end, reading ``given``. Its working directory is the root: no project file can steer it."""
    command = [str(argument) for argument in arguments]
    try:
        ended = subprocess.run(
            command,
            input=given,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=dict(environ),
            cwd=cwd,
            timeout=limit_s,
            check=False,
            umask=0o022,
            preexec_fn=_mortal(),
        )
    except FileNotFoundError as err:
        raise EnvError(f"{command[0]} is not there; install it, or give the path of one that is.") from err
    except (PermissionError, OSError) as err:
        raise EnvError(f"{command[0]} cannot be run: {err.strerror}.") from err
    except subprocess.TimeoutExpired as err:
        raise EnvError(f"{Path(command[0]).name} {command[1]} did not end in {limit_s} s; try again.") from err
    return Outcome(ended.returncode, ended.stdout, ended.stderr)


def _mortal() -> Callable[[], object] | None:
    """What makes a child end when its parent is killed, so that it does not go on writing; on Linux only.

    Not from other threads than the main one: the kernel counts the thread that started the child as its parent.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG, prctl(2)


def uv() -> str:
    """The path of the uv that came with Stillrun."""
    from uv import find_uv_bin

    return os.fsdecode(find_uv_bin())


def quiet_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a Python that must be seen as it is: without what steers a Python from outside."""
    kept = {name: value for name, value in environ.items() if not name.startswith("PYTHON")}
    kept.pop("VIRTUAL_ENV", None)
    kept.pop("CONDA_PREFIX", None)
    return kept | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
