"""What a result depends on: a run is replayed with nothing changed, then with one thing changed at a time.

An artifact that differs between two replays under the same conditions differs by itself; one that differs only where one
thing was changed depends on that thing.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from stillrun_engine.archive import KeptRun
from stillrun_engine.causes import ITSELF, TOLD, UNRECORDED, Cause, Key, cause_of
from stillrun_engine.replay import ReplayOutcome, ReplayRequest, replay_run
from stillrun_engine.reporter import Reporter
from stillrun_engine.stopping import StopSignals
from stillrun_snapshot.deferred import dataclass

__all__ = ["AXES", "Causes", "find_causes"]

_MOMENTS = ("1000000000.25", "1000000000.25", "1262349296.5")
"""Seconds since 1970: two moments that differ in year, month, day, weekday, hour, minute and second."""
_NO_LOCALES = frozenset({"c", "posix", "c.utf8"})  # without rules of their own
_THREADS = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "BLIS")


def _hashseed(run: Mapping[str, str]) -> Mapping[str, str]:
    return {"PYTHONHASHSEED": "1" if run.get("PYTHONHASHSEED", "0") != "1" else "2"}


def _threads(run: Mapping[str, str]) -> Mapping[str, str]:
    return {f"{name}_NUM_THREADS": "1" if run.get(f"{name}_NUM_THREADS") != "1" else "3" for name in _THREADS}


def _timezone(run: Mapping[str, str]) -> Mapping[str, str]:
    return {"TZ": "Pacific/Apia" if run.get("TZ") != "Pacific/Apia" else "America/Lima"}


def _locale(run: Mapping[str, str]) -> Mapping[str, str] | None:
    now = _plain_locale(run.get("LC_ALL") or run.get("LANG") or "C")
    other = "C" if now not in _NO_LOCALES else _foreign_locale()
    return None if other is None else {"LC_ALL": other, "LANG": "C"}


def _plain_locale(name: str) -> str:
    return name.lower().replace("-", "")


def _foreign_locale() -> str | None:
    """A locale that this machine has, with rules of its own: German before others, since it writes 1.000,5."""
    try:
        told = subprocess.run(["locale", "-a"], capture_output=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    names = sorted(told.decode("utf-8", "replace").split(), key=lambda name: (not name.startswith("de_"), name))
    return next(
        (name for name in names if "utf8" in _plain_locale(name) and _plain_locale(name) not in _NO_LOCALES), None
    )


def _cpu(run: Mapping[str, str]) -> Mapping[str, str] | None:
    if platform.machine() not in ("x86_64", "AMD64"):
        return None
    return {"OPENBLAS_CORETYPE": "Nehalem" if run.get("OPENBLAS_CORETYPE") != "Nehalem" else "Sandybridge"}


_Change = Callable[[Mapping[str, str]], Mapping[str, str] | None]

AXES: Mapping[str, _Change] = {
    "hashseed": _hashseed,
    "threads": _threads,
    "timezone": _timezone,
    "locale": _locale,
    "time": lambda _: {},
    "path": lambda _: {},
    "order": lambda _: {},
    "cpu": _cpu,
}
"""What can be changed, by the word for it: the variables that do, from those of the run; None where it cannot be here."""


@dataclass
class Causes:
    """All that was found. replays: one entry for each, in order; skipped: axes that cannot be changed here."""

    replays: list[dict[str, Any]] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    first: ReplayOutcome | None = None


_Results = dict[Key, tuple[str, ...]]


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
        asked = replace(same, explain=number == 0, trial=number > 0)
        outcome = replay_run(run, asked, stop, reporter("nothing"))
        found.first = found.first or outcome
        plain.append(_results(outcome))
        found.replays.append({"changed": None, "run": outcome.pathspec, "verdict": outcome.verdict})
    own = {key for key in plain[0] if any(other.get(key) != plain[0][key] for other in plain[1:])}
    moved: dict[Key, list[str]] = {key: [ITSELF] for key in sorted(own, key=str)}
    outcomes: dict[str, ReplayOutcome] = {}
    same = replace(same, trial=True)
    for name in axes:
        changed = AXES[name](run.record["variables"])
        if changed is None:
            found.skipped.append(name)
        elif name == "time":
            _hold_the_clock(run, same, stop, reporter, found, plain[0], moved)
        else:
            asked = replace(_with(run, same, name, changed), unexplained=frozenset(moved))
            outcomes[name] = _replayed(run, asked, name, stop, reporter, found)
            _note(name, _results(outcomes[name]), plain[0], own, moved)
    assert found.first is not None, "it was replayed"
    for key in _unequal(found.first):
        moved.setdefault(key, [UNRECORDED])
    outcomes.update({ITSELF: found.first, "time": found.first, UNRECORDED: found.first})
    found.causes = [cause_of(key, names, outcomes[names[0]].record) for key, names in moved.items()]
    return found


def _unequal(outcome: ReplayOutcome) -> list[Key]:
    """What did not come out as in the original run."""
    ended: list[Key] = [(task["step"], task["task"], None) for task in outcome.record["tasks"] if task["reason"]]
    artifacts = outcome.record["artifacts"]
    unequal = ("different", "missing", "extra", "not_comparable")
    return ended + [(one["step"], one["task"], one["name"]) for one in artifacts if one["verdict"] in unequal]


def _note(name: str, results: _Results, plain: _Results, own: set[Key], moved: dict[Key, list[str]]) -> None:
    """Take note of what came out otherwise with ``name`` changed; a task that ended otherwise stands for its artifacts."""
    ended = {key[:2] for key in plain if key[2] is None and results.get(key) != plain[key]}
    for key in plain:
        if key not in own and results.get(key) != plain[key] and (key[2] is None or key[:2] not in ended):
            moved.setdefault(key, []).append(name)


def _with(run: KeptRun, same: ReplayRequest, name: str, changed: Mapping[str, str]) -> ReplayRequest:
    """A replay with one thing changed."""
    asked = replace(same, forced=changed)
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
) -> ReplayOutcome:
    """One more replay."""
    outcome = replay_run(run, asked, stop, reporter(TOLD[name]))
    found.replays.append({"changed": name, "run": outcome.pathspec, "verdict": outcome.verdict})
    return outcome


def _hold_the_clock(
    run: KeptRun,
    same: ReplayRequest,
    stop: StopSignals,
    reporter: Callable[[str], Reporter],
    found: Causes,
    plain: _Results,
    moved: dict[Key, list[str]],
) -> None:
    """Find what depends on the time: it is another one each time and stops to be when the clock is held, or differs by date.

    A held clock begins at one moment and ticks once for each time that it is asked.
    """
    site = str(_site(run, "bent_clock"))
    held, again, later = (
        _results(
            _replayed(
                run,
                replace(same, explain=False, forced={"PYTHONPATH": site, "STILLRUN_CLOCK": moment}),
                "time",
                stop,
                reporter,
                found,
            )
        )
        for moment in _MOMENTS
    )
    for key in plain:
        if key not in held or held[key] != again.get(key):
            continue
        if moved.get(key) == [ITSELF]:
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


def _site(run: KeptRun, script: str) -> Path:
    """A folder that bends every Python that has it on its path, as one of our scripts does."""
    folder = run.store.cache_dir("cache") / script
    folder.mkdir(exist_ok=True)
    text = Path(__file__).with_name(f"{script}.py").read_text("utf-8")
    file = folder / "sitecustomize.py"
    if not file.is_file() or file.read_text("utf-8") != text:
        file.write_text(text, "utf-8")
    return folder
