"""The environments of one run: which step runs where, and how its host is started."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillrun_engine.archive import KeptRun
from stillrun_engine.caller import Caller
from stillrun_engine.errors import EngineError
from stillrun_engine.host_process import HostProcess, Launch, settled
from stillrun_engine.launching import launch_ambient
from stillrun_envs.ambient import ambient_environment
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

if TYPE_CHECKING:
    from stillrun_envs.keeping import KeepPackages
    from stillrun_envs.prefix import Prefix
    from stillrun_envs.request import EnvRequest

__all__ = ["Places", "ambient_of", "find_places", "launch_prefix", "requests_of", "started", "variables_in"]

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
    folder: Path,
    offline: bool,
    default: str = "ambient",
    keep: KeepPackages = "all",
    recorded: KeptRun | None = None,
    offer: Callable[[str, Launch, HostProcess | None], None],
    note: Callable[[str], None],
) -> Places:
    """Resolve, keep and build every environment that ``description`` asks for.

    folder: where the files that decorators name are looked for. default: what undecorated steps get: 'ambient',
    'pypi' or 'conda' (nothing but a Python, from that side). keep: which packages stay in the store. recorded: a run whose
    steps lend theirs to the steps of the same names. offer: takes each environment's launch, and the host that warms up in
    it already.
    """
    steps = {step["name"]: ambient for step in description["steps"]}
    launches = {str(ambient): launch_ambient(caller, face)}
    offer(ambient, launches[ambient], None)
    for name in [each for each in steps if recorded is not None and each in recorded.record["steps"]]:
        assert recorded is not None, "it has the step"
        steps[name] = lock = _recorded(recorded, name)
        if lock not in launches:
            launches[lock], host = started(store, lock, caller, face, note)
            offer(lock, launches[lock], host)
    others = {**description, "steps": [each for each in description["steps"] if steps[each["name"]] == ambient]}
    asked = requests_of(store, others, caller, folder, default)
    for request, names in asked.items():
        from stillrun_envs.resolver import lock_for  # most flows ask for nothing, and it brings a network client

        lock = lock_for(
            request,
            store,
            base_python=caller.python,
            offline=offline,
            keep=keep,
            progress=note,
            environ=caller.variables,
        )
        if request.platform is not None:
            continue  # kept for another machine
        steps.update(dict.fromkeys(names, lock))
        if lock not in launches:
            launches[lock], host = started(store, lock, caller, face, note)
            offer(lock, launches[lock], host)
    return Places(ambient, steps, launches)


def _recorded(run: KeptRun, step: str) -> Digest:
    """The lock that a step had. Raises EngineError when its environment was not kept."""
    lock = run.lock_of(step)
    if lock is None:
        raise EngineError(
            f"the environment of {run.pathspec}/{step} was not kept, so nothing can run in it; leave --env as it is today."
        )
    return lock


def requests_of(
    store: Store, description: Mapping[str, Any], caller: Caller, folder: Path, default: str = "ambient"
) -> dict[EnvRequest, list[str]]:
    """Every environment that is asked for, once, with the steps that ask for it."""
    found: dict[EnvRequest, list[str]] = {}
    for step in description["steps"]:
        wanted = [d for d in (*description["decorators"], *step["decorators"]) if d["name"] in _ENVIRONMENT_DECORATORS]
        if not wanted and default == "ambient":
            continue
        from stillrun_envs.asking import platforms_of, request_from
        from stillrun_envs.resolver import target_for

        for platform in (None, *platforms_of(wanted)):
            target = partial(
                target_for, base_python=caller.python, store=store, environ=caller.variables, platform=platform
            )
            request = request_from(wanted, folder, target, platform=platform) or _bare(default)
            if request is not None:
                found.setdefault(request, []).append(step["name"])
    return found


def _bare(default: str) -> EnvRequest | None:
    """The request of a step that asks for nothing."""
    from stillrun_envs.request import EnvRequest

    return {"pypi": EnvRequest(pypi=(), channels=()), "conda": EnvRequest(conda=())}.get(default)


def started(
    store: Store, lock: Digest, caller: Caller, face: Path, note: Callable[[str], None]
) -> tuple[Launch, HostProcess | None]:
    """How hosts of a lock's environment are started, and one that is warming up; whoever takes it closes it.

    The environment is built from kept packages when it is not there. When it is, its files are looked at while the host
    starts in it; one that was changed is built again, and the host that was started in it is thrown away.
    """
    from stillrun_envs.prefix import expected_prefix

    expected = expected_prefix(lock, store, progress=note, environ=caller.variables)
    launch = launch_prefix(expected.prefix, caller, face)
    host = HostProcess(launch)
    try:
        sound = expected.checked()
    except BaseException:
        host.close()
        raise
    if sound:
        return launch, host
    host.close()
    return launch_prefix(expected.prefix, caller, face), None


def ambient_of(store: Store, caller: Caller) -> Digest:
    """The record of the caller's environment."""
    return ambient_environment(store, caller.python, environ=caller.variables)


def launch_prefix(prefix: Prefix, caller: Caller, face: Path) -> Launch:
    """How the host of a built environment is started."""
    return Launch(
        prefix.python,
        face,
        {**variables_in(prefix, settled(caller.variables)), **caller.forced},
        caller.cwd,
        user_site=False,
        wrapper=caller.wrapper,
        umask=caller.umask,
        reads=caller.reads_descriptor,
    )


def variables_in(prefix: Prefix, variables: Mapping[str, str]) -> dict[str, str]:
    """The variables of a process in a built environment: nothing of the caller's Python leaks in."""
    found = {name: value for name, value in variables.items() if name not in _LEAKS}
    found.pop("PYTHONDONTWRITEBYTECODE", None)  # its bytecode goes to a folder of ours
    path = found.get("PATH", "/usr/bin:/bin")
    return {**found, **prefix.variables, "PATH": f"{prefix.python.parent}:{path}"}
