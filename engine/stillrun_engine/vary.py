"""What a result depends on: a run is replayed with nothing changed, then with one thing changed at a time.

An artifact that differs between two replays under the same conditions differs by itself; one that differs only where one
thing was changed depends on that thing.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from stillrun_engine.archive import KeptRun
from stillrun_engine.replay import ReplayOutcome, ReplayRequest, replay_run
from stillrun_engine.reporter import Reporter
from stillrun_engine.stopping import StopSignals
from stillrun_snapshot.deferred import dataclass

__all__ = ["AXES", "Cause", "Causes", "find_causes"]

_ITSELF = "itself"
_MOMENTS = ("1000000000.25", "1000000000.25", "1262349296.5")
"""Seconds since 1970: two moments that differ in year, month, day, weekday, hour, minute and second."""
_THREADS = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "BLIS")


@dataclass(frozen=True)
class _Axis:
    """One thing that can be changed. changed: the variables that change it, from those of the run; None: not here."""

    told: str  # what a result depends on, in a sentence
    why: str
    changed: Callable[[Mapping[str, str]], Mapping[str, str] | None] = lambda _: {}


def _hashseed(run: Mapping[str, str]) -> Mapping[str, str]:
    return {"PYTHONHASHSEED": "1" if run.get("PYTHONHASHSEED", "0") != "1" else "2"}


def _threads(run: Mapping[str, str]) -> Mapping[str, str]:
    return {f"{name}_NUM_THREADS": "1" if run.get(f"{name}_NUM_THREADS") != "1" else "3" for name in _THREADS}


def _timezone(run: Mapping[str, str]) -> Mapping[str, str]:
    return {"TZ": "Pacific/Apia" if run.get("TZ") != "Pacific/Apia" else "America/Lima"}


def _locale(run: Mapping[str, str]) -> Mapping[str, str]:
    now = run.get("LC_ALL") or run.get("LANG") or "C"
    return {"LC_ALL": "C" if now not in ("C", "POSIX", "C.UTF-8") else "en_US.UTF-8", "LANG": "C"}


def _cpu(run: Mapping[str, str]) -> Mapping[str, str] | None:
    if platform.machine() not in ("x86_64", "AMD64"):
        return None
    return {"OPENBLAS_CORETYPE": "Nehalem" if run.get("OPENBLAS_CORETYPE") != "Nehalem" else "Sandybridge"}


AXES: Mapping[str, _Axis] = {
    "hashseed": _Axis("the hash seed", "something in it follows the order of a set, or hash()", _hashseed),
    "threads": _Axis("the number of threads", "sums are made in another order", _threads),
    "timezone": _Axis("the time zone", "it holds a local time", _timezone),
    "locale": _Axis("the locale", "it is sorted, parsed or written by local rules", _locale),
    "time": _Axis("the time", "it holds a date, a time of day or a duration"),
    "path": _Axis("the folder it runs in", "it holds a path"),
    "order": _Axis("the order of a folder's listing", "sort what os.listdir or glob give"),
    "cpu": _Axis("the processor's instructions", "its rounding differs between kinds of processors", _cpu),
}
"""What can be changed, by the word for it."""


@dataclass(frozen=True)
class Cause:
    """One artifact and what it depends on; ``itself`` among the axes when it differs with nothing changed."""

    step: str
    task: str
    name: str | None  # None: the task itself ends otherwise
    axes: tuple[str, ...]
    sentence: str

    def to_record(self) -> dict[str, Any]:
        """The cause as JSON tells it."""
        return {**self.__dict__, "axes": list(self.axes)}


@dataclass
class Causes:
    """All that was found. replays: one entry for each, in order; skipped: axes that cannot be changed here."""

    replays: list[dict[str, Any]] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    first: ReplayOutcome | None = None


_Results = dict[tuple[str, str, str | None], tuple[str, ...]]


def find_causes(
    run: KeptRun,
    request: ReplayRequest,
    axes: Sequence[str],
    repeat: int,
    stop: StopSignals,
    reporter: Callable[[str], Reporter],
) -> Causes:
    """Replay ``run`` ``repeat`` times as it was, and once for each of ``axes``; tell what each artifact depends on.

    reporter: makes what a replay is told to, from the words for what is changed.
    """
    base = run.store.scratch("vary")
    try:
        return _found(run, replace(request, place=base / "replay"), axes, max(2, repeat), stop, reporter)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _found(
    run: KeptRun,
    same: ReplayRequest,
    axes: Sequence[str],
    repeat: int,
    stop: StopSignals,
    reporter: Callable[[str], Reporter],
) -> Causes:
    """The causes, from replays in one place. same: asks for a replay with nothing changed."""
    assert same.place is not None, "all are in one place"
    found = Causes()
    plain = []
    for number in range(repeat):
        asked = replace(same, explain=number == 0)
        outcome = replay_run(run, asked, stop, reporter("nothing"))
        found.first = found.first or outcome
        plain.append(_results(outcome))
        found.replays.append({"changed": None, "run": outcome.pathspec, "verdict": outcome.verdict})
    own = {key for key in plain[0] if any(other.get(key) != plain[0][key] for other in plain[1:])}
    moved: dict[tuple[str, str, str | None], list[str]] = {key: [_ITSELF] for key in sorted(own, key=str)}
    for name in axes:
        changed = AXES[name].changed(run.record["variables"])
        if changed is None:
            found.skipped.append(name)
        elif name == "time":
            _hold_the_clock(run, same, stop, reporter, found, plain[0], moved)
        else:
            results = _replayed(run, _with(run, same, name, changed), name, stop, reporter, found)
            for key in plain[0]:
                if key not in own and results.get(key) != plain[0][key]:
                    moved.setdefault(key, []).append(name)
    assert found.first is not None, "it was replayed"
    found.causes = [_cause(key, names, found.first) for key, names in moved.items()]
    return found


def _with(run: KeptRun, same: ReplayRequest, name: str, changed: Mapping[str, str]) -> ReplayRequest:
    """A replay with one thing changed."""
    asked = replace(same, explain=False, forced=changed)
    if name == "path":
        assert same.place is not None, "all are in one place"
        return replace(asked, place=same.place.with_name("another folder"), same_path=False)
    return replace(asked, forced={"PYTHONPATH": str(_site(run, "bent_listings"))}) if name == "order" else asked


def _replayed(
    run: KeptRun,
    asked: ReplayRequest,
    name: str,
    stop: StopSignals,
    reporter: Callable[[str], Reporter],
    found: Causes,
) -> _Results:
    """One more replay, and what came of it."""
    outcome = replay_run(run, asked, stop, reporter(AXES[name].told))
    found.replays.append({"changed": name, "run": outcome.pathspec, "verdict": outcome.verdict})
    return _results(outcome)


def _hold_the_clock(
    run: KeptRun,
    same: ReplayRequest,
    stop: StopSignals,
    reporter: Callable[[str], Reporter],
    found: Causes,
    plain: _Results,
    moved: dict[tuple[str, str, str | None], list[str]],
) -> None:
    """Find what depends on the time: it is another one each time and stops to be when the clock is held, or differs by date.

    A held clock begins at one moment and ticks once for each time that it is asked.
    """
    site = str(_site(run, "bent_clock"))
    held, again, later = (
        _replayed(
            run,
            replace(same, explain=False, forced={"PYTHONPATH": site, "STILLRUN_CLOCK": moment}),
            "time",
            stop,
            reporter,
            found,
        )
        for moment in _MOMENTS
    )
    for key in plain:
        if key not in held or held[key] != again.get(key):
            continue
        if moved.get(key) == [_ITSELF]:
            moved[key] = ["time"]
        elif held[key] != later.get(key):
            moved.setdefault(key, []).append("time")


def _results(outcome: ReplayOutcome) -> _Results:
    """What came of each artifact, and of each task; volatile ones are said to change and are left out."""
    found: _Results = {}
    for task in outcome.record["tasks"]:
        found[task["step"], task["task"], None] = (task["reason"] or "",)
    for one in outcome.record["artifacts"]:
        if one["verdict"] != "volatile":
            value = one["replayed_canonical"] or one["replayed"] or "not there"
            found[one["step"], one["task"], one["name"]] = (value,)
    return found


def _cause(key: tuple[str, str, str | None], axes: Iterable[str], first: ReplayOutcome) -> Cause:
    step, task, name = key
    names = tuple(axes)
    what = f"{step}/{task}/{name}" if name else f"{step}/{task}"
    if names == (_ITSELF,):
        hint = next((one["difference"]["hint"] for one in first.record["artifacts"] if _is(one, key)), None)
        why = hint or "chance without a seed, the time, or the order of threads"
        return Cause(step, task, name, names, f"{what} differs by itself from one replay to the next: {why}")
    told = " and on ".join(AXES[axis].told for axis in names)
    return Cause(step, task, name, names, f"{what} depends on {told}: {AXES[names[0]].why}")


def _is(entry: Mapping[str, Any], key: tuple[str, str, str | None]) -> bool:
    told = entry["difference"] is not None and "hint" in entry["difference"]
    return told and (entry["step"], entry["task"], entry["name"]) == key


def _site(run: KeptRun, script: str) -> Path:
    """A folder that bends every Python that has it on its path, as one of our scripts does."""
    folder = run.store.cache_dir("cache") / script
    folder.mkdir(exist_ok=True)
    text = Path(__file__).with_name(f"{script}.py").read_text("utf-8")
    file = folder / "sitecustomize.py"
    if not file.is_file() or file.read_text("utf-8") != text:
        file.write_text(text, "utf-8")
    return folder
