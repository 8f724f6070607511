"""The store beside restic, borg, and `tar | zstd`: bytes, and the time of whole commands. They are taken from the path."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import workloads
from benchmarks.measure import Command

__all__ = ["store"]

ROOT = Path(__file__).parent.parent
MEGABYTES = int(os.environ.get("MEGABYTES", "256"))  # of the large files
FILES = int(os.environ.get("FILES", "10000"))
SNAPSHOTS = int(os.environ.get("SNAPSHOTS", "100"))
Times = tuple[float, float]  # wall clock and CPU, in seconds
TOOLS = ("stillrun", "restic", "borg")


class Repositories:
    """One store of each tool in a folder of its own."""

    def __init__(self, work: Path, name: str) -> None:
        self.folder = work / name
        self.folder.mkdir(parents=True)
        self.variables = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("STILLRUN_", "PYTHONDONT"))},
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(self.folder / "cache-restic"),
            "BORG_CACHE_DIR": str(self.folder / "cache-borg"),
            "BORG_CONFIG_DIR": str(self.folder / "config-borg"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }
        self._count = 0
        self.time(["restic", "init", "-q", "-r", self.path("restic")])
        self.time(["borg", "init", "-e", "none", self.path("borg")])

    def path(self, tool: str) -> Path:
        return self.folder / tool

    def time(self, words: list[str | Path], cwd: Path | None = None) -> Times:
        """Seconds of a command, and those of CPU; all three sync what they keep before they end."""
        sample = Command(words, cwd or ROOT, self.variables).run()
        return sample.wall, sample.cpu

    def ours(self, verb: str, *rest: str | Path) -> Times:
        return self.time([sys.executable, "-m", "benchmarks.store_work", verb, self.path("stillrun"), *rest])

    def keep(self, source: Path, verb: str) -> dict[str, Times]:
        """Keep the source with each tool; seconds. Ours are without packing, which nobody waits for."""
        self._count += 1
        return {
            "stillrun": self.ours(verb, source),
            "restic": self.time(["restic", "backup", "-q", "-r", self.path("restic"), "."], source),
            "borg": self.time(["borg", "create", "-C", "zstd,3", f"{self.path('borg')}::a{self._count}", "."], source),
        }

    def sizes(self) -> dict[str, int]:
        """Bytes of each repository; of ours what can be deleted at any time is left out, as the caches of the others are."""
        return {tool: _used(self.path(tool), ("cache", "locks", "tmp")) for tool in TOOLS}


def store(work: Path, rounds: int) -> None:
    """Print the figures as lines of a table."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for part in (small, tree, large, text, memory):
        part(work, rounds)


def small(work: Path, rounds: int) -> None:
    """10,000 artifacts of 1 KiB."""
    source = work / "artifacts"
    workloads.artifacts(source, FILES)
    kept: list[dict[str, Times]] = []
    again, read, verified = list(kept), list(kept), list(kept)
    packing: list[Times] = []
    for round_ in range(rounds):
        where = Repositories(work, f"small-{round_}")
        kept.append(where.keep(source, "put"))
        again.append(where.keep(source, "put"))
        packing.append(where.ours("pack"))
        read.append(_read_back(where))
        verified.append(_verified(where))
    label = f"{FILES:,} artifacts of 1 KiB"
    _times(f"{label}: kept", kept, "at most 0.8 of restic")
    _times(f"{label}: kept again", again, "")
    _times(f"{label}: read back, packed", read, "at most 0.8 of borg")
    _times(f"{label}: verified, packed", verified, "at most 0.4 of both")
    print(f"| {label}: `store pack` | {_median(packing)} | | | | |")
    _bytes(f"{label}: bytes", where.sizes(), "at most borg's")


def _read_back(where: Repositories) -> dict[str, Times]:
    out = {tool: where.folder / f"out-{tool}" for tool in TOOLS}
    out["borg"].mkdir()
    return {
        "stillrun": where.ours("read", out["stillrun"]),
        "restic": where.time(["restic", "restore", "-q", "-r", where.path("restic"), "latest", "-t", out["restic"]]),
        "borg": where.time(["borg", "extract", f"{where.path('borg')}::a1"], out["borg"]),
    }


def _verified(where: Repositories) -> dict[str, Times]:
    return {
        "stillrun": where.time(
            [sys.executable, "-m", "stillrun_cli", "store", "fsck", "--full", "--store", where.path("stillrun")]
        ),
        "restic": where.time(["restic", "check", "-q", "--read-data", "-r", where.path("restic")]),
        "borg": where.time(["borg", "check", "--verify-data", where.path("borg")]),
    }


def tree(work: Path, rounds: int) -> None:
    """A source tree, captured, captured again, and in many versions."""
    with tempfile.TemporaryDirectory() as folder:  # not in this work tree, whose rules for capture would hold
        _tree(work, rounds, Path(folder) / "tree")


def _tree(work: Path, rounds: int, source: Path) -> None:
    found = workloads.source_tree(source, FILES)
    time.sleep(3)  # files younger than that are read again by all three
    label = f"source tree of {found:,} files"
    where = Repositories(work, "tree-0")
    _times(f"{label}: captured", [where.keep(source, "capture")], "")
    _times(
        f"{label}: again, unchanged", [where.keep(source, "capture") for _ in range(rounds)], "at most 0.4 of restic"
    )
    where.ours("pack")
    before = where.sizes()
    _bytes(f"{label}: bytes", before, "at most 0.90 of both")
    print(f"| the same, `tar \\| zstd -3` | {_tarred(source) / 1e6:.2f} MB | | | | |")
    for number in range(SNAPSHOTS):
        workloads.edited(source, number, 5)
        where.keep(source, "capture")
    where.ours("pack")
    after = where.sizes()
    grown = {tool: after[tool] - before[tool] for tool in TOOLS}
    _bytes(f"{SNAPSHOTS} snapshots of it with 5 files changed: bytes more", grown, "at most 0.9 of the better")


def large(work: Path, _: int) -> None:
    """An array, the same with rows changed, the same with bytes inserted."""
    paths = [work / name / "array" for name in ("b", "c1", "c2")]
    workloads.doubles(paths[0], MEGABYTES)
    workloads.changed_rows(paths[0], paths[1])
    workloads.inserted(paths[0], paths[2])
    where = Repositories(work, "large")
    last = dict.fromkeys(TOOLS, 0)
    goals = ("", "at most 1.0 of both", "at most 1.0 of both")
    for path, what, goal in zip(
        paths, ("random doubles", "1 % of the rows changed", "1,000 bytes inserted"), goals, strict=True
    ):
        times = where.keep(path.parent, "put")
        packing = where.ours("pack")
        sizes = where.sizes()
        _times(f"{MEGABYTES} MiB, {what}: kept", [times], "")
        _bytes(f"{MEGABYTES} MiB, {what}: bytes more", {tool: sizes[tool] - last[tool] for tool in TOOLS}, goal)
        print(f"| the same: `store pack` | {_median([packing])} | | | | |")
        last = sizes
    _times(f"{3 * MEGABYTES} MiB: verified, packed", [_verified(where)], "")


def text(work: Path, _: int) -> None:
    """A table as text."""
    path = work / "table" / "table.csv"
    workloads.table(path, MEGABYTES)
    where = Repositories(work, "text")
    _times(f"table of {MEGABYTES} MiB: kept", [where.keep(path.parent, "put")], "")
    where.ours("pack")
    _bytes(f"table of {MEGABYTES} MiB: bytes", where.sizes(), "at most 0.97 of both")


def memory(work: Path, rounds: int) -> None:
    """An array kept from memory beside the least that can be done; and how soon the next process has it."""
    source, root = work / "b" / "array", work / "memory"
    root.mkdir()
    kept, written, used, raw = [], [], [], []
    for round_ in range(rounds):
        store, file = root / f"kept-{round_}", root / f"written-{round_}"
        seconds, digest = _asked("keep_memory", store, source)
        kept.append(float(seconds))
        written.append(float(_asked("write_memory", file, source)[0]))
        used.append([float(text) for text in _asked("use_kept", store, digest)])
        raw.append([float(text) for text in _asked("use_file", file)])
        shutil.rmtree(store)
        file.unlink()
    ours, least = statistics.median(kept), statistics.median(written)
    print(
        f"| {MEGABYTES} MiB kept from memory, durable | {ours:.2f} s | written and synced: {least:.2f} s "
        f"| | {ours / least:.2f} of it | at most 1.1 |"
    )
    first, whole, plain = (
        statistics.median(sample[place] for sample in samples) for samples, place in ((used, 0), (used, 1), (raw, 1))
    )
    print(f"| the next process has its first byte | {first:.1f} ms | | | | at most 50 ms |")
    print(
        f"| and has read all | {whole:.3f} s | the plain file: {plain:.3f} s | | {whole / plain:.2f} of it | at most 1.2 |"
    )


def _asked(verb: str, *words: str | Path) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.store_work", verb, *words]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()


def _used(root: Path, without: tuple[str, ...]) -> int:
    files = [path for path in root.rglob("*") if path.is_file() and path.relative_to(root).parts[0] not in without]
    return sum(path.stat().st_size for path in files)


def _tarred(source: Path) -> int:
    with subprocess.Popen(["tar", "-cf", "-", "--sort=name", "."], cwd=source, stdout=subprocess.PIPE) as tar:
        done = subprocess.run(["zstd", "-3", "-c"], stdin=tar.stdout, capture_output=True, check=True)
    return len(done.stdout)


def _times(what: str, samples: list[dict[str, Times]], goal: str) -> None:
    shown = [_median([sample[tool] for sample in samples]) for tool in TOOLS]
    wall, cpu = ([statistics.median(sample[tool][kind] for sample in samples) for tool in TOOLS] for kind in (0, 1))
    ratios = f"{wall[0] / wall[1]:.2f}, {wall[0] / wall[2]:.2f} (CPU {cpu[0] / cpu[1]:.2f}, {cpu[0] / cpu[2]:.2f})"
    print(f"| {what} | {' | '.join(shown)} | {ratios} | {goal} |", flush=True)


def _median(samples: list[Times]) -> str:
    wall, cpu = (statistics.median(sample[kind] for sample in samples) for kind in (0, 1))
    return f"{wall:.2f} s (CPU {cpu:.2f})"


def _bytes(what: str, sizes: Mapping[str, int], goal: str) -> None:
    ours, restic, borg = (sizes[tool] for tool in TOOLS)
    shown = " | ".join(f"{sizes[tool] / 1e6:.2f} MB" for tool in TOOLS)
    print(f"| {what} | {shown} | {ours / restic:.2f}, {ours / borg:.2f} | {goal} |", flush=True)
