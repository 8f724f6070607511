"""Where the tasks of a replay run: each environment rebuilt from what was kept, or another one that was asked for."""

from __future__ import annotations

import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stillrun_engine.archive import KeptRun, key_of
from stillrun_engine.caller import Caller
from stillrun_engine.closure import Needed, lock_objects, needed_objects
from stillrun_engine.errors import ReplayRefused, RunDamaged
from stillrun_engine.hashing import Damage, check_objects
from stillrun_engine.host_process import HostProcess, Launch
from stillrun_engine.launching import launch_ambient
from stillrun_engine.local import LocalExecutor, load_request
from stillrun_engine.machine import RECORDED_VARIABLES
from stillrun_engine.places import ambient_of, started
from stillrun_engine.plan import TaskKey
from stillrun_engine.reporter import Reporter
from stillrun_engine.workspace import Workspace
from stillrun_envs.enclosure import Enclosure
from stillrun_envs.errors import EnvError
from stillrun_envs.lock import read_lock
from stillrun_snapshot.checkout import checkout
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import ObjectCorrupt, ObjectMissing

__all__ = [
    "ReplayPlace",
    "lost_tasks",
    "needed_folders",
    "recorded_caller",
    "recorded_load",
    "refuse_damage",
    "replay_places",
]

Record = Mapping[str, Any]


@dataclass(frozen=True)
class ReplayPlace:
    """Where the tasks of one recorded environment are replayed. how: 'rebuilt' or 'as it stands'."""

    how: str
    lock: str | None
    launch: Launch


def refuse_damage(run: KeptRun, tasks: list[Record]) -> None:
    """Hash all that the replay and its judgement stand on. Packages are checked where their environment is made ready."""
    _refuse(run, check_objects(run.store, needed_objects(run, tasks, packages=False))[2])


def lost_tasks(run: KeptRun, tasks: list[Record]) -> dict[TaskKey, list[str]]:
    """The same; which tasks cannot be replayed, and why. Raises RunDamaged when what all of them need is damaged."""
    _, _, damaged = check_objects(run.store, needed_objects(run, tasks, packages=False))
    if not damaged:
        return {}
    of_all = {one.digest for one in needed_objects(run, [], packages=False)}
    of_tasks = {key_of(task): {one.digest for one in needed_objects(run, [task], packages=False)} for task in tasks}
    _refuse(run, [one for one in damaged if one.needed.digest in of_all])
    lost = {key: [one.problem for one in damaged if one.needed.digest in needs] for key, needs in of_tasks.items()}
    return {key: problems for key, problems in lost.items() if problems}


def _refuse(run: KeptRun, damaged: Sequence[Damage]) -> None:
    if damaged:
        first = damaged[0]
        more = f" {len(damaged) - 1} more: 'stillrun verify {run.pathspec}' names them." if len(damaged) > 1 else ""
        raise RunDamaged(f"{first.problem} It is {first.needed.purpose} of {run.pathspec}; nothing was replayed.{more}")


def needed_folders(caller: Caller) -> tuple[Path, ...]:
    """What the caller's environment consists of, which a replay may run in."""
    return tuple(dict.fromkeys((caller.python.parents[1], caller.python.resolve().parents[1])))


def recorded_caller(
    run: KeptRun, caller: Caller, workspace: Workspace, forced: Mapping[str, str], *, no_network: bool = False
) -> Caller:
    """Today's caller with the recorded variables, and in the replay's folder. forced: what tasks get in any case.

    no_network: its processes get a network of their own that leads nowhere. Raises ReplayRefused where that cannot be had.
    """
    enclosure = Enclosure(workspace.mounts, (run.store.root, *needed_folders(caller)), network=not no_network)
    problem = enclosure.problem() if no_network else None
    if problem is not None:
        raise ReplayRefused(
            f"this system lets nobody make a network that leads nowhere ({problem}); with --offline what Python itself opens "
            "is refused."
        )
    variables = {name: value for name, value in caller.variables.items() if name not in RECORDED_VARIABLES}
    variables.update(run.record["variables"])
    umask = int(run.record["umask"], 8) if run.record.get("umask") else caller.umask
    return replace(
        caller, cwd=workspace.folder, variables=variables, forced=forced, wrapper=enclosure.wrapper, umask=umask
    )


def recorded_load(run: KeptRun, code: Record, cwd: Path) -> dict[str, Any]:
    """The 'load' request of a kept run. code: its record, or that of the code to load instead; cwd: where its tasks are."""
    tree, description = checkout(run.store, Digest(code["tree"])), run.description
    return load_request(
        tree,
        code["flow_file"],
        Path(run.record["source"]),
        run.record["class"],
        cwd,
        configs=description.get("configs", {}),
        decorated=description.get("decorated", ()),
    )


def replay_places(
    run: KeptRun,
    tasks: list[Record],
    caller: Caller,
    executor: LocalExecutor,
    told: Reporter,
    *,
    offline: bool,
    other: Digest | None,
    refused: dict[str, str] | None = None,
) -> dict[str, ReplayPlace]:
    """Every environment of ``tasks``, with a host that warms up in it. other: the one that stands for all of them.

    refused: takes, for each environment that cannot be had, why; without it the first one is an error.
    """
    face = checkout(run.store, Digest(run.record["face"]))
    places: dict[str, ReplayPlace] = {}
    if other is not None:
        places[other], host = _other_place(run, other, caller, face, told)
        executor.offer(other, places[other].launch, host)
        return places
    for task in tasks:
        environment = task["environment"]
        if environment in places or (refused is not None and environment in refused):
            continue
        try:
            place, host = _place(run, task["step"], environment, caller, face, told, offline=offline)
        except (ReplayRefused, RunDamaged, EnvError, ObjectMissing, ObjectCorrupt) as err:
            if refused is None:
                raise
            refused[environment] = str(err)
            continue
        places[environment] = place
        executor.offer(environment, place.launch, host)
    return places


def _place(
    run: KeptRun, step: str, environment: str, caller: Caller, face: Path, told: Reporter, *, offline: bool
) -> tuple[ReplayPlace, HostProcess | None]:
    """Rebuilt from what was kept; what was not kept whole serves as it stands while the caller's is still the same."""
    lock = run.lock_of(step)
    missing = [item.name for item in read_lock(run.store, lock).not_kept] if lock is not None else []
    if (lock is None or missing) and ambient_of(run.store, caller) == environment:
        launch = launch_ambient(caller, face)
        return ReplayPlace("as it stands", None, launch), HostProcess(launch)
    if lock is None:
        raise ReplayRefused(
            f"the environment of {run.pathspec}/{step} was not kept (the run was cut off before that) and the caller's "
            "environment has changed since; activate the one it ran in, or replay in yours with --env ambient."
        )
    if lock is not None:
        _require_this_machine(run, step, read_lock(run.store, lock).python.platform)
    if missing:
        told.note(f"the environment of {step} was not kept whole: {', '.join(missing)} will be missing.")
    if run.record["settings"].get("keep_packages", "all") != "all":
        _bring_back(run, lock, caller, told, offline=offline)
    launch, host = _started_sound(run, lock, caller, face, told)
    return ReplayPlace("rebuilt", lock, launch), host


def _require_this_machine(run: KeptRun, step: str, platform: str) -> None:
    from stillrun_envs.platforms import runs_here, spoken

    if not runs_here(platform):
        raise ReplayRefused(
            f"{run.pathspec}/{step} ran on {spoken(platform)} and this machine is {spoken(sysconfig.get_platform())}, where its "
            "packages do not run. Replay it on such a machine, or here in another environment: --env ambient, or "
            "a lock of the same request for this one."
        )


def _started_sound(
    run: KeptRun, lock: Digest, caller: Caller, face: Path, told: Reporter
) -> tuple[Launch, HostProcess | None]:
    """The environment of a lock whose packages, as far as they are here, are sound. Raises RunDamaged."""
    store = run.store
    try:
        launch, host = started(store, lock, caller, face, told.note)
    except (ObjectMissing, ObjectCorrupt) as err:
        needed = next(
            (one for one in lock_objects(store, lock) if one.digest == err.digest), Needed(err.digest, "part")
        )
        _refuse(run, [Damage(needed, str(err))])
        raise
    try:  # its host warms up meanwhile
        held = (one for one in lock_objects(store, lock) if store.has(one.digest))
        _refuse(run, check_objects(store, held)[2])
    except BaseException:
        if host is not None:
            host.close()
        raise
    return launch, host


def _other_place(
    run: KeptRun, other: Digest, caller: Caller, face: Path, told: Reporter
) -> tuple[ReplayPlace, HostProcess | None]:
    """An environment that the run did not have: a lock, or the caller's."""
    if other == ambient_of(run.store, caller):
        launch = launch_ambient(caller, face)
        return ReplayPlace("another", None, launch), HostProcess(launch)
    launch, host = started(run.store, other, caller, face, told.note)
    return ReplayPlace("another", other, launch), host


def _bring_back(run: KeptRun, lock: Digest, caller: Caller, told: Reporter, *, offline: bool) -> None:
    """Have the packages that the run left to their indexes."""
    absent = run.store.absent(read_lock(run.store, lock).digests())
    if not absent:
        return
    if offline:
        raise ReplayRefused(
            f"{run.pathspec} was run with --keep-packages {run.record['settings']['keep_packages']} and {len(absent)} of "
            "its packages are not here; replay it without --offline, so that they are fetched from where they came."
        )
    from stillrun_envs.keeping import bring_back  # it brings a network client

    bring_back(run.store, lock, caller.variables, told.note)
