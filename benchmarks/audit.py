"""Reports and verification beside what bounds them: SHA-256 over the same bytes, and the time that a reader waits."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.measure import Command, Sample, median

__all__ = ["audit"]

TASKS = int(os.environ.get("TASKS", "10000"))
LINES = int(os.environ.get("LINES", "1000000"))
SMALL, SMALL_SIZE, LARGE = 20_000, 4_000, 256 << 20
DIGITS = Path(__file__).parents[1] / "fixtures" / "flows" / "digits" / "digits.py"


def audit(work: Path, flows: Path, rounds: int) -> None:
    """Print the figures as lines of a table."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STILLRUN_")}
    variables = {**kept, "STILLRUN_STORE": str(work / "store"), "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"}
    _proven(work / "log", rounds)
    _verified(work / "objects", rounds)
    _demo(work, flows / "digits", variables, rounds)
    _large(work, flows, variables, rounds)


def _demo(work: Path, folder: Path, variables: Mapping[str, str], rounds: int) -> None:
    """The demo's flow with its packages, in every format."""
    folder.mkdir()
    shutil.copy(DIGITS, folder)
    Command(_stillrun("run", str(folder / DIGITS.name), "--quiet"), work, variables).run()
    found = _alone(Command(_stillrun("audit", "Digits/latest", "-o", "demo"), work, variables), rounds)
    print(f"| audit of the demo, all formats | {_told(found)} | | | 2 s |", flush=True)


def _large(work: Path, flows: Path, variables: Mapping[str, str], rounds: int) -> None:
    """A wide foreach: the report and its page, and how long a browser takes to show it."""
    more = {**variables, "WIDTH": str(TASKS)}
    Command(_stillrun("run", str(flows / "wide_foreach.py"), "--quiet"), work, more).run()
    words = _stillrun("audit", "ForeachFlow/latest", "--format", "html", "--format", "json", "-o", "large")
    found = _alone(Command(words, work, variables), rounds)
    page = work / "large" / "report.html"
    print(f"| audit of {TASKS:,} tasks, HTML and JSON | {_told(found)} | | | 15 s |")
    print(f"| peak memory of it | {median(found, 'peak_kib') / 1024:.0f} MiB | | | 500 MB |")
    print(f"| its page | {page.stat().st_size / 1e6:.1f} MB | | | 10 MB |", flush=True)
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        print("| the page in a browser | no Chromium on the path | | | 2 s |")
        return
    empty = work / "empty.html"
    empty.write_text("<!DOCTYPE html><title>empty</title>")
    opened, nothing = (_alone(_shown(browser, path, work), rounds) for path in (page, empty))
    print(
        f"| the page opened in Chromium, whole command | {_told(opened)} | an empty page: {_told(nothing)} "
        f"| {median(opened, 'wall') - median(nothing, 'wall'):.2f} s more | 2 s |",
        flush=True,
    )


def _shown(browser: str, page: Path, work: Path) -> Command:
    profile = f"--user-data-dir={tempfile.mkdtemp(dir=work)}"
    words = [browser, "--headless", "--no-sandbox", profile, "--window-size=1280,900", "--screenshot", page.as_uri()]
    return Command(words, work, {**os.environ})


def _verified(root: Path, rounds: int) -> None:
    """A full verification of small and of large objects, in a process that has it imported."""
    from stillrun_engine.verification import Asked, verify_store
    from stillrun_snapshot.store import Store

    content = random.Random(7)
    for what, count, size in (("small", SMALL, SMALL_SIZE), ("large", 4, LARGE // 4)):
        with Store.open(root / what) as store:
            for _ in range(count):
                store.put(content.randbytes(size))
        with Store.open(root / what) as store:
            data = content.randbytes(size)
            ours = _cpu(lambda: verify_store(store, Asked(full=True)), rounds)
            plain = _cpu(lambda: [hashlib.sha256(data).digest() for _ in range(count)], rounds)  # noqa: B023 - the same
        told = f"{count:,} objects of {size:,} bytes"
        print(
            f"| `verify --all --full` of {told}, CPU | {ours:.2f} s | SHA-256 alone: {plain:.2f} s "
            f"| {plain / ours:.2f} of its speed | 0.7 |",
            flush=True,
        )
    shutil.rmtree(root)


def _proven(root: Path, rounds: int) -> None:
    """A proof that a line is among a million, as `checkpoint prove` makes it: the tree is opened, asked, and left."""
    from stillrun_snapshot.checkpoint import checkpoint_of, inclusion_text, is_shown, note_text
    from stillrun_snapshot.logtree import LogTree

    root.mkdir(parents=True)
    _write_log(root / "log", LINES)
    begun = time.perf_counter()
    LogTree(root)
    first = time.perf_counter() - begun
    index = LINES // 3

    def prove() -> None:
        tree = LogTree(root)
        note = note_text(checkpoint_of(tree))
        assert is_shown(inclusion_text(tree, index, note), tree.line(index))

    took = _wall(prove, max(rounds, 20)) * 1000
    print(f"| proof that a line is among {LINES:,}, made and checked | {took:.1f} ms | | | 50 ms |")
    print(f"| the tree over them, the first time | {first:.1f} s | | | |", flush=True)
    shutil.rmtree(root)


def _write_log(path: Path, lines: int) -> None:
    previous = "sha256:" + "0" * 64
    with open(path, "wb") as out:
        for number in range(1, lines + 1):
            event = {
                "new": previous,
                "old": None,
                "prev": previous,
                "ref": f"tasks/Flow/1/work/{number}",
                "seq": number,
            }
            line = json.dumps(event, sort_keys=True, separators=(",", ":")).encode()
            out.write(line + b"\n")
            previous = "sha256:" + hashlib.sha256(line).hexdigest()


def _stillrun(*words: str) -> list[str]:
    return [sys.executable, "-m", "stillrun_cli", *words]


def _alone(command: Command, rounds: int) -> list[Sample]:
    command.run()
    return [command.run() for _ in range(rounds)]


def _told(samples: list[Sample]) -> str:
    return f"{median(samples, 'wall'):.2f} s ({median(samples, 'cpu'):.2f} s of CPU)"


def _cpu(act: Callable[[], object], rounds: int) -> float:
    return _median_of(time.process_time, act, rounds)


def _wall(act: Callable[[], object], rounds: int) -> float:
    return _median_of(time.perf_counter, act, rounds)


def _median_of(clock: Callable[[], float], act: Callable[[], object], rounds: int) -> float:
    act()
    taken = []
    for _ in range(rounds):
        begun = clock()
        act()
        taken.append(clock() - begun)
    return statistics.median(taken)
