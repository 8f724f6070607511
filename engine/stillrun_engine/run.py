"""One run of a flow, task by task. What is written is docs/spec/run.md."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillrun_engine import __version__
from stillrun_engine.attempts import Attempts
from stillrun_engine.desk import Assignment, Desk, Identity, KeptTask, TaskInput
from stillrun_engine.executor import Finished, Output, Started, TaskWork
from stillrun_engine.guard import SecretGuard, allowances
from stillrun_engine.history import History, new_run_id
from stillrun_engine.inputs import InputKeeper, declared_inputs
from stillrun_engine.installed_now import other_package
from stillrun_engine.machine import machine_facts, recorded_variables, user_of
from stillrun_engine.plan import Graph, Plan, TaskKey, WaitingTask
from stillrun_engine.prepare import Prepared, RunRequest, describe, prepare
from stillrun_engine.reporter import Reporter
from stillrun_engine.room import Room
from stillrun_engine.stopping import StopSignals
from stillrun_engine.tags import first_tags
from stillrun_engine.task_rules import rules_of
from stillrun_engine.variables import Variables
from stillrun_engine.warm import WarmHost
from stillrun_engine.work import work_through
from stillrun_envs.ambient import keep_ambient
from stillrun_envs.lock import read_lock
from stillrun_snapshot.clock import Clock, utc_now
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

if TYPE_CHECKING:
    from stillrun_engine.reuse import Reuse

__all__ = ["RunOutcome", "run_flow", "run_head"]


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended. status: 'ok', 'failed' or 'interrupted'; failure: the step, task and ERROR that failed it."""

    flow: str
    run: str
    status: str
    record: Digest
    tasks: int
    wall_us: int
    failure: Mapping[str, Any] | None
    captured: bool
    not_kept: tuple[str, ...]
    reused: int = 0  # of the tasks, those that an earlier run had done

    @property
    def pathspec(self) -> str:
        """FLOW/RUN."""
        return f"{self.flow}/{self.run}"


def run_flow(
    store: Store,
    request: RunRequest,
    stop: StopSignals,
    warm: WarmHost,
    reporter: Reporter | None = None,
    clock: Clock = utc_now,
) -> RunOutcome:
    """Run the flow to its end and keep everything; a failed step is an outcome, not an exception.

    warm: a host that nobody has used yet; it is closed with the run.
    Raises FlowRefused before anything has run when the flow or its arguments are at fault, EnvError when an environment
    cannot be had, Interrupted when stopped before the first task.
    """
    told = reporter or Reporter()
    begun = clock()
    described = describe(store, request, stop, warm)
    try:
        prepared = prepare(store, request, described, told)
        history = History(store, run_head(store, request, prepared, clock), clock)
        tasks = _RunTasks(store, request, prepared, history, told, clock, stop)
        try:
            history.begin()
            told.run_begins(f"{history.flow}/{history.run}", _announcement(request, prepared))
            work_through(described.executor, tasks, tasks.begin(), stop)
            return tasks.end(begun)
        finally:
            history.close()
            tasks.desk.close()
    finally:
        described.executor.close()


class _RunTasks:
    """Handler of stillrun_engine.work: which task follows, and what is kept of each."""

    def __init__(
        self,
        store: Store,
        request: RunRequest,
        prepared: Prepared,
        history: History,
        reporter: Reporter,
        clock: Clock,
        stop: StopSignals,
    ) -> None:
        described, cwd = prepared.described, request.caller.cwd
        self._store = store
        self._prepared = prepared
        self._history = history
        self._reporter = reporter
        self._clock = clock
        self._stop = stop
        self._variables = request.caller.variables
        self._offline, self._keep = request.offline, request.keep_packages
        self._plan = Plan(Graph(described.description))
        self._modules = set(described.modules)
        self._metadata: set[str] = set()
        self._children = False
        self._done: dict[TaskKey, TaskInput] = {}
        self._failure: dict[str, Any] | None = None
        origin = history.record["origin"]
        identity = Identity(
            history.flow,
            history.run,
            prepared.parameters,
            cwd,
            user=history.record["user"],
            origin_run=origin["run"].split("/")[1] if origin else None,
            tags=tuple(history.record["tags"]),
            splits_max=request.splits_max,
        )
        guard = SecretGuard(request.allowed_secrets, reporter)
        keeper = InputKeeper(store, described.captured.root, cwd, request.limits, guard=guard)
        declared = declared_inputs(described.description)
        ignored = [store.root]
        self.desk = Desk(
            store,
            identity,
            history,
            keeper,
            reporter,
            clock,
            ignored,
            described.modules,
            declared,
            described.takes,
            guard,
        )
        self._rules = rules_of(described.description)
        self._attempts, self._room = Attempts(self._rules), Room(self._rules)
        for problem in self._room.problems():
            reporter.note(problem)
        self._reuse = _reuse(request, prepared, reporter.note)
        self._told: set[str] = set()
        self._reused = 0

    @property
    def halted(self) -> bool:
        return self._failure is not None

    def begin(self) -> list[WaitingTask]:
        """The tasks that the run begins with."""
        return self._after_reuse([self._plan.start()])

    def prepare(self, waiting: WaitingTask) -> TaskWork:
        self._room.take(waiting.key)
        return self.desk.work(self._assignment(waiting))

    @property
    def later(self) -> bool:
        return self._attempts.waiting

    def due(self) -> list[WaitingTask]:
        return self._attempts.due()

    def fits(self, waiting: WaitingTask) -> bool:
        return self._room.fits(waiting.key)

    def started(self, event: Started) -> None:
        self.desk.started(event)

    def output(self, event: Output) -> None:
        self.desk.output(event)

    def finished(self, event: Finished) -> list[WaitingTask]:
        stopping, key = self._stop.requested is not None, event.work.key
        self._room.give_back(key)
        again = not stopping and not self.halted and self._attempts.again(event)
        kept = self.desk.kept(event, stopping=stopping, again=again)
        if again:
            delay = self._attempts.plan(event, kept.record)
            when = f"in {delay:g} s" if delay else "now"
            self._reporter.note(f"{key.step}/{key.task} failed and is tried again {when}.")
            return []
        self._attempts.done(key)
        if kept.error is not None:
            if self._stop.requested is None and self._failure is None:
                self._failure = {"step": kept.key.step, "task": kept.key.task, "error": dict(kept.error)}
            return []
        return self._after_reuse(self._followers(event.work.environment, kept))

    def _assignment(self, waiting: WaitingTask) -> Assignment:
        key = waiting.key
        inputs = tuple(self._done[parent] for parent in waiting.parents)
        environment, rules = self._prepared.places.steps[key.step], self._rules[key.step]
        tried = self._attempts.tried(waiting)
        return Assignment(
            key,
            environment,
            waiting.foreach,
            inputs,
            waiting.join,
            rules,
            len(tried.failed),
            tried.failed,
            tried.fallback,
        )

    def _followers(self, environment: str, kept: KeptTask) -> list[WaitingTask]:
        """What may start now that a task has finished well."""
        if environment == self._prepared.places.ambient:
            self._modules.update(kept.modules)
            self._metadata.update(kept.borrowed.get("metadata", ()))
            self._children = self._children or kept.borrowed.get("children", False)
        self._done[kept.key] = kept.given
        if self._reuse is not None:
            self._reuse.split(kept.key, kept.next)
        if kept.next is None:
            return []
        items = kept.next.get("items") or kept.artifacts.get(kept.next["foreach"] or "")
        return self._plan.finished(kept.key, kept.next["steps"], kept.next["count"], items)

    def _after_reuse(self, ready: list[WaitingTask]) -> list[WaitingTask]:
        """The tasks that have to run, of those that are ready and of those that follow reused ones."""
        if self._reuse is None:
            return ready
        to_run, waiting = [], deque(ready)
        while waiting:
            task = waiting.popleft()
            assignment = self._assignment(task)
            found = self._reuse.record_of(task, assignment.inputs)
            if found is not None:
                self._reused += 1
                self._attempts.done(task.key)
                kept = self.desk.reused(assignment, found[0], self._reuse.origin.pathspec, found[1])
                waiting.extend(self._followers(assignment.environment, kept))
                continue
            to_run.append(task)
            if task.key.step not in self._told:
                self._told.add(task.key.step)
                self._reporter.note(f"{task.key.step} runs again: {self._reuse.reasons[task.key.step]}.")
        return to_run

    def breathe(self, *, busy: bool) -> None:
        self._history.commit(only_if_due=busy)

    def end(self, begun: Any) -> RunOutcome:
        """Keep what undecorated steps used of the caller's environment, then write the run's last record."""
        history = self._history
        history.commit()
        stopped = self._stop.requested is not None
        status = "interrupted" if stopped else "failed" if self._failure else "ok"
        environments, not_kept = self._environments(stopped)
        facts = {
            "environments": environments,
            "captured": not not_kept,
            "not_kept": not_kept,
            "failure": self._failure,
            "verdict": None,
        }
        record = history.end(status, facts)
        wall_us = int((self._clock() - begun).total_seconds() * 1e6)
        return RunOutcome(
            history.flow,
            history.run,
            status,
            record,
            len(history.tasks),
            wall_us,
            self._failure,
            not not_kept,
            tuple(not_kept),
            self._reused,
        )

    def _environments(self, stopped: bool) -> tuple[dict[str, Any], list[str]]:
        places = self._prepared.places
        environments: dict[str, dict[str, str | None]] = {
            str(lock): {"kind": "lock", "lock": lock} for lock in sorted(places.locks)
        }
        missing = [reason for lock in sorted(places.locks) for reason in self._not_kept(lock)]
        if places.ambient not in places.steps.values():
            return environments, missing
        if stopped:
            environments[places.ambient] = {"kind": "ambient", "lock": None}
            return environments, [*missing, "the caller's environment: the run was stopped before it was kept"]
        if self._keep == "none":
            environments[places.ambient] = {"kind": "ambient", "lock": None}
            return environments, [*missing, "the caller's environment: --keep-packages is none"]
        lock = keep_ambient(
            self._store,
            places.ambient,
            sorted(self._modules),
            metadata=sorted(self._metadata),
            children=self._children,
            environ=self._variables,
            offline=self._offline,
            progress=self._reporter.note,
        )
        environments[places.ambient] = {"kind": "ambient", "lock": lock}
        return environments, [*missing, *self._not_kept(lock)]

    def _not_kept(self, lock: Digest) -> list[str]:
        """What of an environment is not in the store, and why."""
        what = read_lock(self._store, lock)
        told = [f"{item.name}: {item.reason}" for item in what.not_kept]
        spare = [one for one in what.packages if self._store.is_spare(one.digest)]
        if spare:
            names = ", ".join(f"{one.name} {one.version}" for one in spare)
            told.append(f"{names}: --keep-packages is {self._keep}; a replay fetches them again")
        return told


def _reuse(request: RunRequest, prepared: Prepared, told: Callable[[str], None]) -> Reuse | None:
    if request.resumed is None:
        return None
    from stillrun_engine.reuse import Reuse, Today  # most runs begin anew

    described, asked, places = prepared.described, request.resumed, prepared.places
    today = Today(
        described.description,
        described.captured.code,
        prepared.parameters,
        prepared.places.steps,
        recorded_variables(prepared.places.launches[prepared.places.ambient].variables),
        described.captured.root,
        request.caller.cwd,
        Variables(request.resumed.run.store, request.caller.variables),
        None
        if places.ambient not in places.steps.values()
        else other_package(asked.run, places.ambient, described.modules, request.caller.variables, told),
    )
    return Reuse(asked.run, today, asked.again, strict=asked.strict)


def run_head(store: Store, request: RunRequest, prepared: Prepared, clock: Clock) -> dict[str, Any]:
    """What the run's record says from the beginning."""
    described, places, user = prepared.described, prepared.places, user_of(request.caller.variables)
    return {
        "flow": described.description["name"],
        "run": new_run_id(clock()),
        "kind": "run",
        "origin": None
        if request.resumed is None
        else {"run": request.resumed.run.pathspec, "record": request.resumed.run.digest},
        "code": described.captured.code,
        "face": described.warm.face,
        "class": request.class_name,
        "description": store.put_record({"schema": "stillrun/description/1", **described.description}),
        "parameters": dict(prepared.shown),
        "constants": dict(prepared.constants),
        "steps": {name: {"environment": digest, "kind": places.kind(digest)} for name, digest in places.steps.items()},
        "cwd": _placed(request.caller.cwd, described.captured.root),
        "source": str(request.flow_file),
        "variables": recorded_variables(places.launches[places.ambient].variables),
        "surroundings": Variables(store, request.caller.variables).digests,
        "umask": None if request.caller.umask is None else f"{request.caller.umask:03o}",
        "settings": {
            "max_workers": request.max_workers,
            "fresh_process": request.fresh_process,
            "keep_packages": request.keep_packages,
        },
        "machine": machine_facts(),
        "user": user,
        **allowances(request.allowed_secrets),
        **first_tags(request.tags, request.namespace, described.description, user),
        "stillrun": __version__,
    }


def _placed(cwd: Path, root: Path) -> dict[str, str]:
    if cwd.is_relative_to(root):
        return {"base": "tree", "path": cwd.relative_to(root).as_posix()}
    return {"base": "absolute", "path": str(cwd)}


def _announcement(request: RunRequest, prepared: Prepared) -> dict[str, Any]:
    return {
        "code": prepared.described.captured,
        "environments": len(set(prepared.places.steps.values())),
        "workers": request.max_workers,
        "parameters": prepared.shown,
    }
