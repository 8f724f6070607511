"""Spin: one step with today's code and environment on the artifacts of an earlier task, without a new run.

What comes of it is thrown away, or kept beside the runs, as docs/spec/run.md has it under "Spins".
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from stillrun_engine.archive import KeptRun, key_of
from stillrun_engine.desk import Assignment, Desk, Identity, KeptTask, TaskInput
from stillrun_engine.errors import EngineError, Interrupted
from stillrun_engine.executor import Finished, Output, Started, TaskWork
from stillrun_engine.guard import SecretGuard
from stillrun_engine.history import History
from stillrun_engine.inputs import InputKeeper
from stillrun_engine.pathspec import nearest
from stillrun_engine.plan import Split
from stillrun_engine.prepare import Described, Prepared, Resumed, RunRequest, describe, prepare
from stillrun_engine.reporter import Reporter
from stillrun_engine.run import run_head
from stillrun_engine.spun_store import SpunStore
from stillrun_engine.stopping import StopSignals
from stillrun_engine.task_rules import PLAIN, TaskRules, rules_of
from stillrun_engine.warm import WarmHost
from stillrun_engine.work import work_through
from stillrun_snapshot.clock import Clock, utc_now
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

__all__ = ["SpinOutcome", "SpinRequest", "spin_step"]


@dataclass(frozen=True)
class SpinRequest:
    """What to spin. task: of a kept run, whose inputs the step is given; it names one task.

    artifacts: a Python file whose ARTIFACTS stand for artifacts of the same names. bare: without the step's decorators.
    """

    run: RunRequest
    task: KeptRun
    artifacts: Path | None = None
    bare: bool = False
    persist: bool = False


@dataclass(frozen=True)
class SpinOutcome:
    """What came of it. artifacts: the records of those that the step has set, by name; pathspec: where it is kept, or None."""

    status: str
    origin: str
    pathspec: str | None
    artifacts: Mapping[str, Mapping[str, Any]]
    next: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    wall_us: int


def spin_step(
    store: Store,
    request: SpinRequest,
    stop: StopSignals,
    warm: WarmHost,
    reporter: Reporter | None = None,
    clock: Clock = utc_now,
) -> SpinOutcome:
    """Run one step once; that it fails is an outcome, not an exception.

    Raises EngineError when today's flow has no such step, FlowRefused, EnvError and Interrupted as a run does.
    """
    told = reporter or Reporter()
    (old,) = request.task.selected()
    asked = replace(request.run, max_workers=1, resumed=Resumed(request.task))
    described = describe(store, asked, stop, warm)
    try:
        prepared = prepare(store, asked, _of_one_step(described, old["step"], bare=request.bare), told)
        with _place_for(store, persist=request.persist) as place:
            session = _Spin(place, request, prepared, old, told, clock)
            try:
                return session.go(described, stop)
            finally:
                session.desk.close()
    finally:
        described.executor.close()


@contextmanager
def _place_for(store: Store, *, persist: bool) -> Iterator[Store]:
    """Where what comes of it is written: the store itself, or one that is thrown away."""
    if persist:
        yield store
        return
    with tempfile.TemporaryDirectory(prefix="stillrun-spin-") as folder, Store.open(Path(folder) / "store") as spare:
        yield cast(Store, SpunStore(store, spare))


def _of_one_step(described: Described, step: str, *, bare: bool) -> Described:
    """What is described of one step: only its environment is wanted."""
    steps = described.description["steps"]
    found = [one for one in steps if one["name"] == step]
    if not found:
        known = [one["name"] for one in steps]
        raise EngineError(f"{described.description['name']} has no step '{step}' today.{nearest(step, known)}")
    if bare:
        found = [{**found[0], "decorators": []}]
    whole = {**described.description, "steps": found}
    return replace(described, description={**whole, "decorators": []} if bare else whole)


class _SpinHistory(History):
    """Writes a spin beside the runs: its ref is below ``spins/``, so that no list of runs has it."""

    def begin(self, reads: object = None) -> None:
        """Nothing is seen of it before it has ended."""

    def _point(self, record: Mapping[str, Any]) -> None:
        self._head = self._store.put_record(record)
        self._store.refs.set([RefChange(f"spins/{self.flow}/{self.run}", self._head, None)])


class _Spin:
    """Handler of stillrun_engine.work for a single task."""

    def __init__(
        self,
        store: Store,
        request: SpinRequest,
        prepared: Prepared,
        old: Mapping[str, Any],
        reporter: Reporter,
        clock: Clock,
    ) -> None:
        self._store, self._request, self._prepared, self._old = store, request, prepared, old
        self._reporter, self._clock = reporter, clock
        described, cwd, origin = prepared.described, request.run.caller.cwd, request.task
        head = {**run_head(store, request.run, prepared, clock), "kind": "spin"}
        head["origin"] = {"run": origin.pathspec, "record": origin.digest}
        self._history = _SpinHistory(store, head, clock)
        identity = Identity(
            self._history.flow,
            self._history.run,
            prepared.parameters,
            cwd,
            user=head["user"],
            origin_run=str(origin.spec.run),
            tags=tuple(head["tags"]),
            splits_max=request.run.splits_max,
        )
        guard = SecretGuard(request.run.allowed_secrets, reporter)
        keeper = InputKeeper(store, described.captured.root, cwd, request.run.limits, guard=guard)
        ignored = [store.root, origin.store.root]
        self.desk = Desk(
            store, identity, self._history, keeper, reporter, clock, ignored, described.modules, guard=guard
        )
        self._kept: KeptTask | None = None
        self._wall_us = 0

    def go(self, described: Described, stop: StopSignals) -> SpinOutcome:
        """Run the task and keep what came of it where it is to be kept."""
        self._tell_what_is_left_out()
        work_through(described.executor, self, [self._assignment()], stop)
        if stop.requested is not None:
            raise Interrupted(stop.requested)
        kept = self._kept
        assert kept is not None, "its end was an event"
        status = "ok" if kept.error is None else "failed"
        failure = {"step": kept.key.step, "task": kept.key.task, "error": kept.error} if kept.error else None
        facts = {"environments": self._environments(), "captured": False, "verdict": None, "failure": failure}
        self._history.end(status, {**facts, "not_kept": ["a spin keeps no environment of its caller"]})
        given = self._request.task.given(self._old)
        own = {name: digest for name, digest in kept.artifacts.items() if given.get(name) != digest}
        records = {name: self._store.get_record(Digest(digest), "artifact") for name, digest in own.items()}
        origin = f"{self._request.task.pathspec}/{self._old['step']}/{self._old['task']}"
        name = f"{self._history.flow}/{self._history.run}/{kept.key.step}/{kept.key.task}"
        pathspec = name if self._request.persist else None
        return SpinOutcome(status, origin, pathspec, records, kept.next, kept.error, self._wall_us)

    @property
    def halted(self) -> bool:
        return False

    @property
    def later(self) -> bool:
        return False

    def due(self) -> list[Assignment]:
        return []

    def fits(self, waiting: Assignment) -> bool:  # noqa: ARG002  # it is the only one
        return True

    def breathe(self, *, busy: bool) -> None:
        """There is nothing to commit before the end."""

    def prepare(self, waiting: Assignment) -> TaskWork:
        work = self.desk.work(waiting)
        if self._request.artifacts is None:
            return work
        return replace(work, spec={**work.spec, "artifacts_module": str(self._request.artifacts)})

    def started(self, event: Started) -> None:
        self.desk.started(event)

    def output(self, event: Output) -> None:
        self.desk.output(event)

    def finished(self, event: Finished) -> list[Assignment]:
        self._wall_us = int(event.usage.get("wall_us", 0))
        self._kept = self.desk.kept(event)
        return []

    def _assignment(self) -> Assignment:
        old, key = self._old, key_of(self._old)
        inputs = []
        for each in old["inputs"]:
            parent = self._request.task.store.get_record(Digest(each["record"]), "task")
            items = parent["foreach"][-1]["items"] if parent["foreach"] else None
            inputs.append(TaskInput(key_of(parent), Digest(each["record"]), parent["artifacts"], items))
        foreach = tuple(Split(**split) for split in old["foreach"])
        environment = self._prepared.places.steps[key.step]
        return Assignment(key, environment, foreach, tuple(inputs), old["join"], self._rules())

    def _rules(self) -> TaskRules:
        if self._request.bare:
            return PLAIN
        return replace(rules_of(self._prepared.described.description)[self._old["step"]], retries=0, catch=None)

    def _tell_what_is_left_out(self) -> None:
        (step,) = self._prepared.described.description["steps"]
        for name in sorted({one["name"] for one in step["decorators"]} & {"retry", "catch"}):
            self._reporter.note(f"@{name} does nothing here: a spin is one attempt, and its failure is shown.")

    def _environments(self) -> dict[str, Any]:
        places = self._prepared.places
        return {
            str(digest): {"kind": places.kind(digest), "lock": digest if places.kind(digest) == "lock" else None}
            for digest in places.steps.values()
        }
