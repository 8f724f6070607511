"""Upkeep of large stores: `store gc` of a million objects, half of them garbage; `store fsck --full` of 1 GiB."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from benchmarks.measure import Command, alternate, median
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

OBJECTS, NAMED, PACKS = 1_000_000, 100, 100
GIB = 1 << 30


def upkeep(work: Path, rounds: int) -> None:
    """Print both comparisons."""
    work.mkdir(parents=True, exist_ok=True)
    _collection(work / "many")
    _full_look(work / "large", rounds)


def _collection(root: Path) -> None:
    _many(root)
    dry = _stillrun(root, "store", "gc", "--grace", "0s").run()
    done = _stillrun(root, "store", "gc", "--grace", "0s", "--delete").run()
    print(f"| gc of {OBJECTS:,} objects, half of them garbage, in every pack | {done.wall:.1f} s | | | 60 s |")
    print(f"| peak memory of it | {done.peak_kib / 1024:.0f} MiB | | | 512 MiB |")
    print(f"| the same, only told | {dry.wall:.1f} s | | | |", flush=True)
    shutil.rmtree(root)


def _many(root: Path) -> None:
    """Small objects, every other one named by a record, so that each pack is half garbage."""
    for pack in range(PACKS):
        with Store.open(root) as store:
            names: list[str] = []
            for number in range(OBJECTS // PACKS):
                digest = store.put(f"{pack} {number} ".encode() * 10, new=True)
                if number % 2:
                    names.append(digest)
            records = [
                store.put_record({"schema": "stillrun/test/1", "objects": names[start : start + NAMED]})
                for start in range(0, len(names), NAMED)
            ]
            head = store.put_record({"schema": "stillrun/test/1", "records": records})
            store.refs.set([RefChange(f"tests/{pack}", head)])


def _full_look(root: Path, rounds: int) -> None:
    block = os.urandom(GIB // 64)
    with Store.open(root) as store:
        for number in range(64):
            store.put(number.to_bytes(8, "big") + block[8:])
    files = sorted((root / "objects").rglob("*/*"))
    found = alternate(
        {
            "fsck": _stillrun(root, "store", "fsck", "--full"),
            "one": Command(["sha256sum", "--", *files], root, dict(os.environ)),
            "start": _stillrun(root, "store", "fsck"),
        },
        rounds,
    )
    ours, one, start = (median(found[name], "wall") for name in ("fsck", "one", "start"))
    print(
        f"| fsck --full of 1 GiB, wall; beside sha256sum | {ours:.2f} s | {one:.2f} s | {one / ours:.2f}x | 0.7x of one core |"
    )
    print(
        f"| the same, less a quick look | {ours - start:.2f} s | {one:.2f} s | {one / (ours - start):.2f}x | |",
        flush=True,
    )
    shutil.rmtree(root)


def _stillrun(root: Path, *words: str) -> Command:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("STILLRUN_", "PYTHONDONT"))}
    return Command([sys.executable, "-m", "stillrun_cli", *words, "--store", str(root)], root.parent, kept)
