"""Run recorded tasks again in what was recorded, and judge the results. What is written is docs/spec/verdict.md.

Each task is given the *recorded* artifacts of its parents, so that one unstable step does not hide the others: by
induction, when every task answers as it did, so does the whole run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from stillrun_engine.archive import KeptRun, key_of
from stillrun_engine.contested import Contested
from stillrun_engine.desk import Assignment, Desk, KeptTask, TaskInput
from stillrun_engine.errors import Interrupted
from stillrun_engine.executor import Finished, Output, Started, TaskWork
from stillrun_engine.explain import explained, first_divergence
from stillrun_engine.guard import SecretGuard, recorded_allowances
from stillrun_engine.history import History
from stillrun_engine.inputs import InputKeeper
from stillrun_engine.judge import TaskVerdict, judge_task, worst
from stillrun_engine.local import LocalExecutor
from stillrun_engine.machine import machine_facts
from stillrun_engine.outcome import error_of_task
from stillrun_engine.places import ambient_of
from stillrun_engine.plan import Split, TaskKey
from stillrun_engine.policy import Policy
from stillrun_engine.replay_head import (
    Changed,
    ReplayRequest,
    granted_afterwards,
    head_of,
    identity_of,
    other_parameters,
)
from stillrun_engine.replay_places import (
    ReplayPlace,
    lost_tasks,
    needed_folders,
    recorded_caller,
    recorded_load,
    refuse_damage,
    replay_places,
)
from stillrun_engine.replay_scope import possible_tasks, tasks_to_replay
from stillrun_engine.reporter import Reporter
from stillrun_engine.side_effects import SideEffects
from stillrun_engine.stopping import StopSignals
from stillrun_engine.task_rules import rules_of
from stillrun_engine.work import work_through
from stillrun_engine.workspace import Workspace, lay_out, lay_out_for_some, make_workspace
from stillrun_snapshot.capture import capture_code
from stillrun_snapshot.clock import Clock, utc_now
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest

__all__ = ["ReplayOutcome", "ReplayRequest", "replay_run"]

Record = Mapping[str, Any]


@dataclass(frozen=True)
class ReplayOutcome:
    """The verdict of a replay; ``record`` is the verdict/1 record as kept."""

    pathspec: str
    verdict: str
    record: Record
    wall_us: int


def replay_run(
    run: KeptRun,
    request: ReplayRequest,
    stop: StopSignals,
    reporter: Reporter | None = None,
    clock: Clock = utc_now,
) -> ReplayOutcome:
    """Replay the tasks that ``run``'s pathspec names and judge them.

    Raises RunDamaged, naming the object, before anything runs when what was kept is damaged;
    ReplayRefused when the run cannot be replayed at all; Interrupted when stopped.
    """
    told = reporter or Reporter()
    begun = clock()
    tasks, left_out = tasks_to_replay(run, request.only)
    store, record = run.store, run.record
    other_code = request.code if request.flow_file is None else capture_code(store, request.flow_file).code
    code = store.get_record(other_code or Digest(record["code"]), "code")
    tree = Digest(code["tree"])
    keep = needed_folders(request.caller)
    workspace = make_workspace(store, record, request.place, keep=keep, same_path=request.same_path)
    try:
        caller = recorded_caller(run, request.caller, workspace, request.forced, no_network=request.no_network)
        load = recorded_load(run, code, workspace.seen(workspace.cwd))
        executor = LocalExecutor(request.max_workers, load, fresh=request.fresh_process, wake=stop.wake)
        try:
            other = ambient_of(store, caller) if request.ambient else request.environment
            refused: dict[str, str] | None = {} if request.keep_going else None
            places = replay_places(
                run, tasks, caller, executor, told, offline=request.offline, other=other, refused=refused
            )
            # hosts warm up meanwhile; they know no flow and run nothing before the first task
            if refused is None:
                refuse_damage(run, tasks)
                lay_out(store, workspace, tree, tasks)
            else:
                lost = lost_tasks(run, tasks)
                files = lay_out_for_some(store, workspace, tree, tasks)
                tasks = possible_tasks(run, tasks, left_out, refused, [lost, files])
            granted = granted_afterwards(run, request, executor, tasks, other)
            changed = Changed(other, other_code, other_parameters(run, request, executor, tasks, other), granted)
            session = _Replay(run, tasks, left_out, request, workspace, places, load, changed, told, clock, stop)
            return session.go(executor, begun)
        finally:
            executor.close()
    finally:
        workspace.close()


class _Replay:
    """Handler of stillrun_engine.work: every task at once, each judged as it ends."""

    def __init__(
        self,
        run: KeptRun,
        tasks: list[Record],
        left_out: Mapping[TaskKey, str],
        request: ReplayRequest,
        workspace: Workspace,
        places: Mapping[str, ReplayPlace],
        load: Mapping[str, Any],
        changed: Changed,
        reporter: Reporter,
        clock: Clock,
        stop: StopSignals,
    ) -> None:
        self._run, self._tasks, self._left_out, self.replay_places, self._load = run, tasks, left_out, places, load
        self._changed = changed
        self._policy = Policy.of(run.description)
        self._limit_s = request.compare_limit_s if request.explain else None
        self._unexplained = request.unexplained
        self._reporter, self._clock, self._stop = reporter, clock, stop
        store, record = run.store, run.record
        self._store = store
        self._rules = rules_of(run.description)
        self._died: dict[TaskKey, Mapping[str, Any]] = {}
        self._originals = {key_of(task): task for task in tasks}
        self._verdicts: list[TaskVerdict] = []
        self._history = History(store, head_of(run, request, changed, clock), clock)
        entries = {**record["parameters"], **changed.parameters}
        parameters = {name: entry["artifact"] for name, entry in entries.items()}
        cwd = workspace.seen(workspace.cwd)
        identity = identity_of(run, parameters, cwd, offline=request.offline)
        guard = SecretGuard(recorded_allowances(record), reporter, refusing=False)
        keeper = InputKeeper(store, workspace.root, workspace.cwd, real=workspace.own, guard=guard)
        self._effects = SideEffects([cwd, workspace.seen(workspace.root), Path(tempfile.gettempdir())])
        self._contested = Contested(store, workspace, tasks)
        self._path = {"same": workspace.elsewhere is None, "reason": workspace.elsewhere}
        self._desk = Desk(
            store,
            identity,
            self._history,
            keeper,
            reporter,
            clock,
            [store.root / "envs", store.root / "trees"],
            guard=guard,
        )

    def go(self, executor: LocalExecutor, begun: Any) -> ReplayOutcome:
        """Replay every task and keep the verdict."""
        history = self._history
        try:
            history.begin()
            self._reporter.run_begins(
                f"{history.flow}/{history.run}", {"origin": self._run.pathspec, "tasks": len(self._tasks)}
            )
            work_through(executor, self, list(self._tasks), self._stop)
            if self._stop.requested is not None:
                history.end("interrupted", {"verdict": None})
                raise Interrupted(self._stop.requested)
            return self._conclude(begun)
        finally:
            history.close()
            self._desk.close()

    @property
    def halted(self) -> bool:
        return False

    def prepare(self, waiting: Record) -> TaskWork:
        foreach = tuple(Split(**s) for s in waiting["foreach"])
        inputs = tuple(self._input(parent) for parent in waiting["inputs"])
        key, attempt = key_of(waiting), waiting["attempt"]
        self._contested.take(waiting)
        rules = replace(self._rules[key.step], retries=attempt)
        return self._desk.work(
            Assignment(
                key,
                self._environment(waiting),
                foreach,
                inputs,
                waiting["join"],
                rules,
                attempt,
                fallback=self._died.get(key),
            )
        )

    @property
    def later(self) -> bool:
        return False

    def due(self) -> list[Record]:
        return []

    def fits(self, waiting: Record) -> bool:
        return self._contested.free(key_of(waiting))

    def started(self, event: Started) -> None:
        self._desk.started(event)

    def output(self, event: Output) -> None:
        self._desk.output(event)

    def finished(self, event: Finished) -> list[Record]:
        key = event.work.key
        self._contested.give_back(key)
        if event.result is None and self._rules[key.step].catch is not None and key not in self._died:
            self._died[key] = error_of_task(event) or {}
            self._desk.kept(event, again=True)
            return [self._originals[key]]
        kept: KeptTask = self._desk.kept(event, stopping=self._stop.requested is not None)
        original = self._originals[kept.key]
        replayed = self._store.get_record(kept.record, "task")
        self._effects.add(replayed)
        is_volatile = partial(self._policy.is_volatile, kept.key.step)
        self._verdicts.append(judge_task(original, replayed, self._run.given(original), self._read, is_volatile))
        return []

    def breathe(self, *, busy: bool) -> None:
        self._history.commit(only_if_due=busy)

    def _environment(self, task: Record) -> Digest:
        return self._changed.environment or Digest(task["environment"])

    def _read(self, digest: str) -> Record:
        return self._store.get_record(Digest(digest), "artifact")

    def _input(self, parent: Record) -> TaskInput:
        record = self._store.get_record(Digest(parent["record"]), "task")
        items = record["foreach"][-1]["items"] if record["foreach"] else None
        if record["next"] is not None:
            self._desk.learn(record["artifacts"], record["next"])
        return TaskInput(key_of(record), Digest(parent["record"]), record["artifacts"], items)

    def _conclude(self, begun: Any) -> ReplayOutcome:
        history, run = self._history, self._run
        order = {(task["step"], task["task"]): place for place, task in enumerate(self._tasks)}
        verdicts = sorted(self._verdicts, key=lambda v: order[v.step, v.task])
        environments = {(task["step"], task["task"]): self._environment(task) for task in self._tasks}
        launches = {environment: place.launch for environment, place in self.replay_places.items()}
        if self._limit_s is not None:
            verdicts = explained(
                self._store,
                verdicts,
                environments,
                launches,
                self._load,
                self._policy,
                self._limit_s,
                unexplained=self._unexplained,
            )
        verdict = worst(v.verdict for v in verdicts)
        record = {
            "schema": "stillrun/verdict/1",
            "origin": {"run": run.pathspec, "record": run.digest, "status": run.status},
            "replay": f"{history.flow}/{history.run}",
            "scope": str(run.spec),
            "verdict": verdict,
            "first_divergence": first_divergence(verdicts),
            "policy": self._policy.to_record(),
            "changed": self._changed.to_record(),
            "tasks": [{"step": v.step, "task": v.task, "verdict": v.verdict, "reason": v.reason} for v in verdicts],
            "artifacts": [a.entry(v.step, v.task) for v in verdicts for a in v.artifacts],
            "not_replayed": [
                {"step": key.step, "task": key.task, "reason": reason} for key, reason in self._left_out.items()
            ],
            "environments": self._environments(),
            "path": self._path,
            "side_effects": self._effects.to_records(),
            "machine": {
                "same": machine_facts() == run.record["machine"],
                "original": run.record["machine"],
                "replay": machine_facts(),
            },
            "offline": history.record["settings"]["offline"],
            "no_network": history.record["settings"]["no_network"],
        }
        kept = self._store.put_record(record)
        status = "failed" if any(v.verdict == "different" and v.reason for v in verdicts) else "ok"
        history.end(status, {"verdict": kept})
        return ReplayOutcome(
            record["replay"],
            verdict,
            record,
            int((self._clock() - begun).total_seconds() * 1e6),
        )

    def _environments(self) -> list[dict[str, Any]]:
        steps: dict[str, set[str]] = {}
        for task in self._tasks:
            steps.setdefault(self._environment(task), set()).add(task["step"])
        return [
            {"environment": digest, "how": place.how, "lock": place.lock, "steps": sorted(steps[digest])}
            for digest, place in sorted(self.replay_places.items())
        ]
