"""What the activation scripts of conda packages set, found out once, so that steps get it without running a shell."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from stillrun_envs import command
from stillrun_envs.errors import EnvError

__all__ = ["activation_variables"]

_FOLDER = Path("etc/conda/activate.d")
_LIMIT_S = 60
_OWN = frozenset(  # of any shell or Python, or about where they run
    {"_", "SHLVL", "PWD", "OLDPWD", "PATH", "SHELL", "PS1", "LC_CTYPE", "CONDA_PREFIX", "CONDA_SHLVL"}
)
_ASK = "import json, os, sys; sys.stdout.write('\\n' + json.dumps(dict(os.environ)))"
_RUN = 'for script in "$@"; do . "$script" 1>&2; done; exec "$CONDA_PREFIX/bin/python" -I -S -c "$STILLRUN_ASK"'


def activation_variables(folder: Path, final: Path, progress: Callable[[str], None]) -> dict[str, str]:
    """The variables that the scripts in ``etc/conda/activate.d`` set, with ``final`` where they name ``folder``.

    They run in the order of their names in a shell that has nothing set but where the environment and the system's
    commands are. Changes of PATH do not count. Scripts that end the shell are told of, and set nothing.
    """
    scripts = sorted((folder / _FOLDER).glob("*.sh"))
    if not scripts:
        return {}
    surroundings = {
        "PATH": f"{folder}/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "CONDA_PREFIX": str(folder),
        "CONDA_DEFAULT_ENV": final.name,
        "CONDA_SHLVL": "1",
        "STILLRUN_ASK": _ASK,
    }
    names = ", ".join(script.name for script in scripts)
    try:
        ended = command.run([_shell(), "-c", _RUN, "activate", *scripts], environ=surroundings, limit_s=_LIMIT_S)
        found = json.loads(ended.output.rpartition("\n")[2])
    except (EnvError, ValueError) as err:
        progress(
            f"The activation scripts {names} could not be run ({err}); the variables they set are not set in steps."
        )
        return {}
    return {
        name: value.replace(os.fspath(folder), os.fspath(final))
        for name, value in sorted(found.items())
        if name not in surroundings and name not in _OWN and not name.startswith("BASH_FUNC_")
    }


def _shell() -> str:
    """bash where there is one: conda itself has its users source these scripts in the shell that they have."""
    return shutil.which("bash", path="/usr/bin:/bin:/usr/local/bin") or "/bin/sh"
