"""Replay, judgement and comparison beside what they stand on: the run itself, and SHA-256 over the same bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.measure import Command, alternate, median

__all__ = ["judging"]

Act = Callable[[], object]


def judging(work: Path, flows: Path, rounds: int) -> None:
    """Print the figures as lines of a table."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STILLRUN_")}
    variables = {**kept, "STILLRUN_STORE": str(work / "store"), "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"}
    _replayed(work, flows, variables, rounds)
    _hashed(work, flows, variables, rounds)
    _digests(rounds)
    _compared(work, flows, variables)


def _replayed(work: Path, flows: Path, variables: Mapping[str, str], rounds: int) -> None:
    """A step of 100 tasks of 50 ms, run and replayed: whole commands."""
    flow, more = str(flows / "slow_foreach.py"), {**variables, "WIDTH": "100"}
    run = Command([sys.executable, "-m", "stillrun_cli", "run", flow, "--quiet"], work, more)
    run.run()
    replay = Command([sys.executable, "-m", "stillrun_cli", "replay", "SlowForeach/latest/work", "--quiet"], work, more)
    found = alternate({"run": run, "replay": replay}, rounds, warmups=0)
    ours, theirs = median(found["replay"], "wall"), median(found["run"], "wall")
    goal = "at most 1.2 of it + 0.5 s"
    print(
        f"| replay of a step of 100 tasks of 50 ms | {ours:.2f} s | the run itself: {theirs:.2f} s "
        f"| {ours / theirs:.2f} of it | {goal} |"
    )


def _hashed(work: Path, flows: Path, variables: Mapping[str, str], rounds: int) -> None:
    """An artifact of 1 GB, replayed alone: what judging it costs is the hashing of what was kept."""
    from stillrun_engine.archive import open_run
    from stillrun_engine.closure import needed_objects
    from stillrun_engine.hashing import check_objects
    from stillrun_engine.pathspec import parse_pathspec
    from stillrun_snapshot.store import Store

    flow = str(flows / "keep_bytes.py")
    subprocess.run(
        [sys.executable, "-m", "stillrun_cli", "run", flow, "--quiet"],
        cwd=work,
        env=dict(variables),
        check=True,
        capture_output=True,
    )
    with Store.open(work / "store") as store:
        run = open_run(store, parse_pathspec("KeepBytes/latest"))
        path = max((work / "store" / "objects").glob("*/*"), key=lambda one: one.stat().st_size)
        tasks = run.tasks("start")
        times = _alternated(
            {
                "ours": lambda: check_objects(store, needed_objects(run, tasks, packages=False)),
                "sha256": lambda: _sha256(path),
            },
            rounds,
        )
    share = times["sha256"] / times["ours"]
    print(
        f"| 1 GB of identical artifacts checked and judged | {times['ours']:.2f} s | SHA-256 of it: {times['sha256']:.2f} s "
        f"| {share:.2f} of its speed | 0.7 |"
    )


def _sha256(path: Path) -> bytes:
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "sha256").digest()
            if hasattr(hashlib, "file_digest")
            else hashlib.sha256(file.read()).digest()
        )


def _digests(rounds: int) -> None:
    """The canonical digest beside SHA-256 over the same bytes."""
    import numpy as np
    import pandas as pd

    from stillrun.canonical import canonical_digest

    array = np.random.default_rng(0).random(12_500_000)
    frame = pd.DataFrame(array[:12_000_000].reshape(-1, 4), columns=list("abcd"))
    plain = np.ascontiguousarray(frame.to_numpy().T)
    floats = [float(number) for number in range(1_000_000)]
    for what, value, data in (("an array of 100 MB", array, array), ("a frame of 96 MB", frame, plain)):
        times = _alternated(
            {"ours": lambda v=value: canonical_digest(v), "sha256": lambda d=data: hashlib.sha256(d)}, rounds
        )
        share = times["sha256"] / times["ours"]
        print(
            f"| canonical digest of {what} | {times['ours']:.3f} s | SHA-256: {times['sha256']:.3f} s "
            f"| {share:.2f} of its speed | 0.5 |"
        )
    times = _alternated({"ours": lambda: canonical_digest(floats)}, rounds)
    print(f"| canonical digest of a list of a million floats | {times['ours']:.3f} s | | | 0.3 s |")


def _compared(work: Path, flows: Path, variables: Mapping[str, str]) -> None:
    """Two runs of 10,000 tasks, compared: the whole command."""
    flow, more = str(flows / "wide_foreach.py"), {**variables, "WIDTH": "10000"}
    runs = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "stillrun_cli", "run", flow, "--quiet", "--json"],
            cwd=work,
            env=more,
            check=True,
            capture_output=True,
            text=True,
        )
        runs.append(done.stdout.rpartition('{"run": "')[2].partition('"')[0])
    diff = Command([sys.executable, "-m", "stillrun_cli", "diff", *runs], work, more)
    found = median([diff.run() for _ in range(3)], "wall")
    print(f"| diff of two runs of 10,000 tasks, whole command | {found:.2f} s | | | 2 s |")


def _alternated(acts: Mapping[str, Act], rounds: int) -> dict[str, float]:
    samples: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(rounds):
        for name, act in acts.items():
            begun = time.perf_counter()
            act()
            samples[name].append(time.perf_counter() - begun)
    return {name: statistics.median(found) for name, found in samples.items()}
