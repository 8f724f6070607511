"""The environments of one run: which step runs where, and how its host is started."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillrun_engine.host_process import Launch
from stillrun_envs.ambient import ambient_environment
from stillrun_envs.prefix import Prefix, prefix_for
from stillrun_envs.request import EnvRequest
from stillrun_envs.resolver import lock_for
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["Caller", "Places", "ambient_of", "find_places", "launch_ambient", "launch_prefix"]

_LEAKS = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "CONDA_DEFAULT_ENV",
    "__PYVENV_LAUNCHER__",
)
"""Variables of the caller that would bend a built environment."""


@dataclass(frozen=True)
class Caller:
    """Where a run was called from: the interpreter of undecorated steps, the folder, the environment variables."""

    python: Path
    cwd: Path
    variables: Mapping[str, str]


@dataclass(frozen=True)
class Places:
    """Each step's environment by digest: an environment/1 record when ambient, a lock/1 record otherwise."""

    ambient: Digest
    steps: Mapping[str, Digest]
    launches: Mapping[str, Launch]

    def kind(self, environment: Digest) -> str:
        """'ambient' or 'lock'."""
        return "ambient" if environment == self.ambient else "lock"

    @property
    def locks(self) -> set[Digest]:
        """The environments that were resolved for a decorator."""
        return set(self.steps.values()) - {self.ambient}


def find_places(
    store: Store,
    description: Mapping[str, Any],
    caller: Caller,
    face: Path,
    ambient: Digest,
    *,
    offline: bool,
    note: Callable[[str], None],
) -> Places:
    """Resolve, keep and build every environment that ``description`` asks for."""
    requests = {
        step["name"]: EnvRequest.from_decorators([*description["decorators"], *step["decorators"]])
        for step in description["steps"]
    }
    steps: dict[str, Digest] = {}
    launches: dict[str, Launch] = {str(ambient): launch_ambient(caller, face)}
    for name, request in requests.items():
        if request is None:
            steps[name] = ambient
            continue
        lock = lock_for(request, store, base_python=caller.python, offline=offline, progress=note)
        steps[name] = lock
        if str(lock) not in launches:
            launches[str(lock)] = launch_prefix(prefix_for(lock, store, progress=note), caller, face)
    return Places(ambient, steps, launches)


def ambient_of(store: Store, caller: Caller) -> Digest:
    """The record of the caller's environment."""
    return ambient_environment(store, caller.python)


def launch_ambient(caller: Caller, face: Path) -> Launch:
    """How the host of undecorated steps is started: the caller's interpreter and variables as they are."""
    return Launch(caller.python, face, _settled(caller.variables), caller.cwd)


def launch_prefix(prefix: Prefix, caller: Caller, face: Path) -> Launch:
    """How the host of a built environment is started: nothing of the caller's Python leaks in."""
    variables = {name: value for name, value in _settled(caller.variables).items() if name not in _LEAKS}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # its bytecode goes to a folder of ours
    path = variables.get("PATH", "/usr/bin:/bin")
    variables.update(prefix.variables, PATH=f"{prefix.python.parent}:{path}")
    return Launch(prefix.python, face, variables, caller.cwd, user_site=False)


def _settled(variables: Mapping[str, str]) -> dict[str, str]:
    """``variables`` with the hash seed fixed unless the caller chose one: sets and dicts then iterate the same at replay."""
    return {"PYTHONHASHSEED": "0", **variables}
