"""A task of a kept run, opened up by hand in its rebuilt environment, with its recorded inputs."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from stillrun_engine.archive import KeptRun, key_of
from stillrun_engine.caller import Caller
from stillrun_engine.desk import Assignment, Desk, Identity, TaskInput
from stillrun_engine.errors import EngineError
from stillrun_engine.face import keep_face
from stillrun_engine.history import History
from stillrun_engine.inputs import InputKeeper
from stillrun_engine.local import LocalExecutor
from stillrun_engine.plan import Split
from stillrun_engine.replay_places import needed_folders, recorded_caller, recorded_load, refuse_damage, replay_places
from stillrun_engine.reporter import Reporter
from stillrun_engine.workspace import lay_out, make_workspace
from stillrun_snapshot.checkout import checkout
from stillrun_snapshot.clock import utc_now
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest

__all__ = ["OpenedTask", "opened_task"]

_BOOT = "import sys; sys.path[0] = sys.argv[1]; from stillrun.debug import main; main()"


@dataclass(frozen=True)
class OpenedTask:
    """A process that a person can talk to: its words, variables and folder. python: the environment's interpreter.

    wrapper: words to put before any command, so that it sees the folders of the original. folder: of its own, removed with it.
    """

    pathspec: str
    wrapper: Sequence[str]
    words: Sequence[str]
    variables: Mapping[str, str]
    cwd: Path
    python: Path
    folder: Path


@contextmanager
def opened_task(run: KeptRun, caller: Caller, mode: str, reporter: Reporter) -> Iterator[OpenedTask]:
    """The task that ``run``'s pathspec names, ready to be opened; its folder is there while the block runs.

    mode: 'python' for a prompt, 'pdb' to run the step to where it fails. Raises EngineError when the pathspec names several
    tasks, ReplayRefused and RunDamaged as a replay does.
    """
    tasks = run.selected()
    if len(tasks) != 1:
        names = ", ".join(task["task"] for task in tasks[:8])
        raise EngineError(f"{run.spec} names {len(tasks)} tasks ({names}); name one: {run.spec}/TASK.")
    (task,), store = tasks, run.store
    code = store.get_record(Digest(run.record["code"]), "code")
    workspace = make_workspace(store, run.record, keep=needed_folders(caller))
    try:
        called = recorded_caller(run, caller, workspace, {})
        tree = Digest(code["tree"])
        cwd = workspace.seen(workspace.cwd)
        load = recorded_load(run, code, cwd)
        executor = LocalExecutor(1, load)
        try:
            places = replay_places(run, [task], called, executor, reporter, offline=False, other=None)
        finally:
            executor.close()  # only the way to start a process there is wanted
        refuse_damage(run, [task])
        lay_out(store, workspace, tree, [task])
        launch = places[task["environment"]].launch
        order = workspace.folder / "order"
        order.write_bytes(_order(run, task, load, cwd))
        face = checkout(store, keep_face(store))
        flags = [] if launch.user_site else ["-s"]
        words = [str(launch.python), *flags, "-c", _BOOT, str(face), str(order), mode]
        yield OpenedTask(
            f"{run.pathspec}/{task['step']}/{task['task']}",
            launch.wrapper,
            words,
            launch.variables,
            workspace.cwd,
            launch.python,
            workspace.folder,
        )
    finally:
        workspace.close()


def _order(run: KeptRun, task: Mapping[str, object], load: Mapping[str, object], cwd: Path) -> bytes:
    """One frame of the host protocol that holds all that the task is given."""
    store, record = run.store, dict(task)
    parameters = {name: entry["artifact"] for name, entry in run.record["parameters"].items()}
    identity = Identity(run.spec.flow, str(run.spec.run), parameters, cwd)
    desk = Desk(
        store, identity, History(store, run.record, utc_now), InputKeeper(store, cwd, cwd), Reporter(), utc_now, []
    )
    try:
        parents = [store.get_record(Digest(each["record"]), "task") for each in record["inputs"]]  # type: ignore[attr-defined]
        inputs = tuple(
            TaskInput(
                key_of(parent),
                Digest(each["record"]),
                parent["artifacts"],
                parent["foreach"][-1]["items"] if parent["foreach"] else None,
            )
            for parent, each in zip(parents, record["inputs"], strict=True)  # type: ignore[call-overload]
        )
        foreach = tuple(Split(**each) for each in record["foreach"])  # type: ignore[attr-defined]
        work = desk.work(
            Assignment(key_of(record), Digest(str(record["environment"])), foreach, inputs, bool(record["join"]))
        )
    finally:
        desk.close()
    spec = {**work.spec, "ignore": [], "offline": False}
    head = json.dumps({"load": load, "spec": spec}).encode()
    return struct.pack(">II", len(head), len(work.body)) + head + work.body
