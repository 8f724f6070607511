"""Which commit made a result another one: found by replaying a run with the code of the commits after its own, by halves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace
from pathlib import Path

from stillrun_engine.archive import KeptRun, open_run
from stillrun_engine.bisect import gives_the_same, halved
from stillrun_engine.errors import EngineError
from stillrun_engine.pathspec import parse_pathspec
from stillrun_engine.replay import ReplayOutcome, ReplayRequest, replay_run
from stillrun_engine.reporter import Reporter
from stillrun_engine.stopping import StopSignals
from stillrun_engine.workspace import root_of
from stillrun_snapshot.commits import Commit, capture_commit, commits_between
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["CodeBisection", "CodeTrial", "bisect_code"]

_UNCOMMITTED = Commit("", "changes that were not committed", "", "")


@dataclass(frozen=True)
class CodeTrial:
    """One replay. commit: None for the code of the good run; equal: None when it cannot be run at all."""

    commit: Commit | None
    equal: bool | None
    told: str


@dataclass
class CodeBisection:
    """What was found. culprits: the commit that makes the difference; several where some between cannot be run.

    A culprit without sha stands for what the bad run had and its commit has not.
    """

    culprits: tuple[Commit, ...] = ()
    trials: list[CodeTrial] = field(default_factory=list)
    reason: str = ""


def bisect_code(
    good: KeptRun,
    bad: KeptRun,
    request: ReplayRequest,
    stop: StopSignals,
    repository: Path | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> CodeBisection:
    """Find the commit between the two runs that changes what ``good``'s steps give on their recorded inputs.

    repository: its work tree; where the good run's code was captured when None. Raises EngineError when a run was not
    captured from a commit, CaptureError when the repository does not know the commits.
    """
    codes = [good.store.get_record(Digest(run.record["code"]), "code") for run in (good, bad)]
    ends = [code["git"]["commit"] if code["git"] else None for code in codes]
    unknown = [run.pathspec for run, end in zip((good, bad), ends, strict=True) if end is None]
    if unknown:
        raise EngineError(f"the code of {unknown[0]} was not in a git repository with a commit; there is no history.")
    top = repository or root_of(Path(good.record["source"]), codes[0]["flow_file"])
    commits = commits_between(top, str(ends[0]), str(ends[1]))
    if codes[1]["git"]["dirty"]:
        commits.append(_UNCOMMITTED)
    if not commits:
        raise EngineError(f"{good.spec} and {bad.spec} ran the same commit; 'stillrun why' tells what else differs.")
    found = CodeBisection()

    def tried(count: int) -> bool | None:
        commit = commits[count - 1] if count else None
        note(f"Trying {_told(commit)}.")
        code = _code(good, bad, commit, top, codes[1])
        outcome = replay_run(good, replace(request, explain=False, trial=True, code=code), stop, Reporter())
        broken = _broken(good.store, outcome)
        equal, told = (gives_the_same(outcome), outcome.verdict) if broken is None else (None, broken)
        found.trials.append(CodeTrial(commit, equal, told))
        return equal

    if tried(0) is not True:
        found.reason = (
            "the result is another one already with the code as it was; replay --vary tells what it depends on"
        )
    elif tried(len(commits)) is not False:
        found.reason = "the result is the same with the later code; 'stillrun why' tells what else differs"
    else:
        low, high = halved(len(commits), tried)
        found.culprits = tuple(commits[low:high])
    return found


def _code(good: KeptRun, bad: KeptRun, commit: Commit | None, top: Path, like: dict[str, object]) -> Digest | None:
    if commit is None:
        return None
    return Digest(bad.record["code"]) if commit is _UNCOMMITTED else capture_commit(good.store, top, commit.sha, like)


def _broken(store: Store, outcome: ReplayOutcome) -> str | None:
    """Why the code of a replay could not be imported at all; None when it ran."""
    tasks = open_run(store, parse_pathspec(outcome.pathspec)).tasks()
    errors = [task["error"] for task in tasks if task["error"] is not None]
    found = next((error["message"] for error in errors if error["kind"] == "host"), None)
    return None if found is None or len(errors) < len(tasks) else str(found)


def _told(commit: Commit | None) -> str:
    return "the code as it was" if commit is None else f"{commit.sha[:12]} {commit.subject}".strip()
