"""The environments of one run: which step runs where, and how its host is started."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillrun_engine.caller import Caller
from stillrun_engine.host_process import Launch, settled
from stillrun_engine.warm import launch_ambient
from stillrun_envs.ambient import ambient_environment
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

if TYPE_CHECKING:
    from stillrun_envs.prefix import Prefix
    from stillrun_envs.request import EnvRequest

__all__ = ["Places", "ambient_of", "built", "find_places", "launch_prefix"]

_ENVIRONMENT_DECORATORS = frozenset({"conda", "conda_base", "pypi", "pypi_base"})
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
    steps = {step["name"]: ambient for step in description["steps"]}
    launches = {str(ambient): launch_ambient(caller, face)}
    for request, names in _requests(description).items():
        from stillrun_envs.resolver import lock_for  # most flows ask for nothing, and it brings a network client

        lock = lock_for(
            request, store, base_python=caller.python, offline=offline, progress=note, environ=caller.variables
        )
        steps.update(dict.fromkeys(names, lock))
        if lock not in launches:
            launches[lock] = launch_prefix(built(store, lock, caller, note), caller, face)
    return Places(ambient, steps, launches)


def _requests(description: Mapping[str, Any]) -> dict[EnvRequest, list[str]]:
    """Every environment that is asked for, once, with the steps that ask for it."""
    found: dict[EnvRequest, list[str]] = {}
    for step in description["steps"]:
        wanted = [d for d in (*description["decorators"], *step["decorators"]) if d["name"] in _ENVIRONMENT_DECORATORS]
        if not wanted:
            continue
        from stillrun_envs.request import EnvRequest

        request = EnvRequest.from_decorators(wanted)
        if request is not None:
            found.setdefault(request, []).append(step["name"])
    return found


def built(store: Store, lock: Digest, caller: Caller, note: Callable[[str], None]) -> Prefix:
    """The environment of ``lock``, checked, and built from kept packages when it is not there."""
    from stillrun_envs.prefix import prefix_for

    return prefix_for(lock, store, progress=note, environ=caller.variables)


def ambient_of(store: Store, caller: Caller) -> Digest:
    """The record of the caller's environment."""
    return ambient_environment(store, caller.python, environ=caller.variables)


def launch_prefix(prefix: Prefix, caller: Caller, face: Path) -> Launch:
    """How the host of a built environment is started: nothing of the caller's Python leaks in."""
    variables = {name: value for name, value in settled(caller.variables).items() if name not in _LEAKS}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # its bytecode goes to a folder of ours
    path = variables.get("PATH", "/usr/bin:/bin")
    variables.update(prefix.variables, PATH=f"{prefix.python.parent}:{path}")
    return Launch(prefix.python, face, variables, caller.cwd, user_site=False)
