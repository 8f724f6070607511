"""All that the store says of one run, read once: what every format of evidence is written from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from stillrun_engine.archive import KeptRun
from stillrun_engine.errors import EngineError
from stillrun_envs.lock import Lock, read_lock
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.store import Store
from stillrun_snapshot.tree import Entry, tree_files

__all__ = ["Dossier", "Environment", "Judgement", "Task", "dossier_of", "held"]

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """One task, by the digest of its record."""

    digest: Digest
    record: Record
    made: Mapping[str, Digest]  # the artifact records that it made or changed
    used: Mapping[str, Digest]  # those that it was handed; of a join, those of all its inputs, by STEP/TASK/NAME

    @property
    def name(self) -> str:
        """STEP/TASK."""
        return f"{self.record['step']}/{self.record['task']}"


@dataclass(frozen=True)
class Environment:
    """What some steps ran in."""

    digest: Digest  # of its record: of a lock, or of the caller's environment as it was seen
    steps: tuple[str, ...]
    lock_digest: Digest | None  # None: nothing rebuilds it
    lock: Lock | None
    seen: Record | None  # stillrun/environment/1, of the caller's

    @property
    def name(self) -> Digest:
        """The digest that it goes by in evidence: the lock's where there is one."""
        return self.lock_digest or self.digest


@dataclass(frozen=True)
class Judgement:
    """What one replay found."""

    digest: Digest
    verdict: Record
    replay: Record  # the run record of the replay
    replay_digest: Digest


@dataclass(frozen=True)
class Dossier:
    """One run with all its records."""

    run: KeptRun
    description: Record
    code: Record
    tasks: tuple[Task, ...]
    environments: tuple[Environment, ...]
    judgements: tuple[Judgement, ...]

    @property
    def store(self) -> Store:
        """Where it is kept."""
        return self.run.store

    @property
    def record(self) -> Record:
        """The run's record."""
        return self.run.record

    @property
    def urn(self) -> str:
        """A name for the run that is the same everywhere: no host has to answer for it."""
        return f"urn:stillrun:run:{self.run.digest.hex}"

    @cached_property
    def status(self) -> str:
        """How it ended."""
        return self.run.status

    @cached_property
    def finished(self) -> str:
        """When it ended; of a run that was cut off, when its last task did."""
        ends = [self.record["started"], *(task.record["finished"] for task in self.tasks)]
        found: str = self.record.get("finished") or max(ends)
        return found

    @cached_property
    def code_files(self) -> dict[str, Entry]:
        """The captured files and links by their path."""
        return dict(tree_files(self.store, Digest(self.code["tree"])))

    @cached_property
    def artifacts(self) -> dict[Digest, Record]:
        """Every artifact record that parameters, constants and tasks name."""
        named = [entry["artifact"] for entry in self.given.values()]
        named += [digest for task in self.tasks for digest in (*task.made.values(), *task.used.values())]
        wanted = sorted({Digest(one) for one in named})
        return {digest: self.store.get_record(digest, "artifact") for digest in wanted}

    @property
    def given(self) -> dict[str, Record]:
        """Parameters and constants: name to artifact and text."""
        return {**self.record.get("constants", {}), **self.record["parameters"]}

    def environment_of(self, step: str) -> Environment:
        """What a step ran in."""
        for one in self.environments:
            if step in one.steps:
                return one
        raise EngineError(f"the record of {self.run.pathspec} tells no environment of step {step}; it is damaged.")


def dossier_of(run: KeptRun, replays: Sequence[KeptRun] = ()) -> Dossier:
    """Read what is known of ``run``, and what ``replays`` found; a replay has its own verdict besides.

    Raises EngineError for a run that is going on, and for replays of another run.
    """
    if run.status == "running":
        raise EngineError(f"{run.pathspec} is still going on; write evidence of it when it has ended.")
    judging = {one.digest: one for one in (*([run] if run.record.get("verdict") else []), *replays)}
    ordered = sorted(judging.values(), key=lambda one: (one.record["started"], one.digest))
    return Dossier(
        run=run,
        description=run.description,
        code=run.store.get_record(Digest(run.record["code"]), "code"),
        tasks=_tasks(run),
        environments=_environments(run),
        judgements=tuple(_judgement(run, replay) for replay in ordered),
    )


def _tasks(run: KeptRun) -> tuple[Task, ...]:
    records = {digest_of(canonical_bytes(record)): record for record in run.tasks()}
    parents: dict[str, Record] = {str(digest): record for digest, record in records.items()}
    found = []
    for digest, record in records.items():
        before = []
        for parent in record["inputs"]:
            if parent["record"] not in parents:  # of a replay or of a resumed run: tasks of another
                parents[parent["record"]] = run.store.get_record(Digest(parent["record"]), "task")
            before.append(parents[parent["record"]])
        found.append(_task(digest, record, before))
    return tuple(found)


def _task(digest: Digest, record: Record, before: Sequence[Record]) -> Task:
    if record["join"]:
        used = {f"{p['step']}/{p['task']}/{name}": Digest(d) for p in before for name, d in p["artifacts"].items()}
        given: Mapping[str, str] = {}
    else:
        given = before[0]["artifacts"] if before else {}
        used = {name: Digest(one) for name, one in given.items()}
    made = {name: Digest(one) for name, one in record["artifacts"].items() if given.get(name) != one}
    return Task(digest, record, made, used)


def _environments(run: KeptRun) -> tuple[Environment, ...]:
    steps: dict[tuple[str, str], list[str]] = {}
    for step in run.step_names:
        if place := run.record["steps"].get(step):
            steps.setdefault((place["environment"], place["kind"]), []).append(step)
    return tuple(_environment(run, Digest(digest), kind, tuple(of)) for (digest, kind), of in steps.items())


def _environment(run: KeptRun, digest: Digest, kind: str, steps: tuple[str, ...]) -> Environment:
    lock = run.lock_of(steps[0])
    seen = None if kind == "lock" else run.store.get_record(digest, "environment")
    return Environment(digest, steps, lock, None if lock is None else read_lock(run.store, lock), seen)


def _judgement(run: KeptRun, replay: KeptRun) -> Judgement:
    if not replay.record.get("verdict"):
        raise EngineError(
            f"{replay.pathspec} has no verdict: it is no replay that ended. 'stillrun list' shows replays."
        )
    digest = Digest(replay.record["verdict"])
    verdict = run.store.get_record(digest, "verdict")
    if replay.pathspec != run.pathspec and verdict["origin"]["run"] != run.pathspec:
        raise EngineError(f"{replay.pathspec} is a replay of {verdict['origin']['run']}, not of {run.pathspec}.")
    return Judgement(digest, verdict, replay.record, replay.digest)


def held(store: Store, digests: Iterable[Digest]) -> set[Digest]:
    """Those of ``digests`` whose bytes the store has."""
    wanted = list(digests)
    return set(wanted) - store.absent(wanted)
