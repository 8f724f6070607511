"""Environments beside what uv, rattler and the system do with the same packages; each figure a median of rounds A B A B.

Everything of ours is called in a process that has it imported, as the engine does; a tool is a whole process.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["environments"]

REQUEST = ("numpy", "pandas", "scikit-learn", "matplotlib", "requests")
OVERLAPPING = {
    "numpy": ("2.0.2", "2.1.3", "2.2.6"),
    "pandas": ("2.2.2", "2.2.3", "2.3.3"),
    "scikit-learn": ("1.5.2", "1.6.1", "1.7.2"),
}
_SECONDS = "s"
Act = Callable[[], object]


@dataclass(frozen=True)
class _Bench:
    """A store with the lock of the request, its packages as files beside it, and a scratch folder."""

    store: Store
    lock: Digest
    wheels: Path
    names: Path
    work: Path
    rounds: int


def environments(work: Path, rounds: int) -> None:
    """Print the comparisons as lines of a table."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with Store.open(work / "store") as store:
        bench = _prepared(store, work, rounds)
        for part in (_ready, _locked, _rebuilt, _linked, _verified, _conda, _overlapping):
            part(bench)


def _prepared(store: Store, work: Path, rounds: int) -> _Bench:
    from stillrun_envs._wheels import as_files
    from stillrun_envs.lock import read_lock
    from stillrun_envs.prefix import prefix_for
    from stillrun_envs.request import EnvRequest
    from stillrun_envs.resolver import lock_for

    lock = lock_for(EnvRequest(pypi=REQUEST), store, base_python=Path(sys.executable))
    store.sync()
    packages = read_lock(store, lock).of("pypi")
    as_files(packages, store, work / "wheels")
    names = work / "names.txt"
    names.write_text("".join(f"{one.name}=={one.version}\n" for one in packages))
    prefix_for(lock, store)
    return _Bench(store, lock, work / "wheels", names, work, rounds)


def _ready(bench: _Bench) -> None:
    from stillrun_envs.prefix import expected_prefix, prefix_for

    store, lock = bench.store, bench.lock
    env = bench.work / "warm"
    found = _alternate(
        {
            "ours": lambda: prefix_for(lock, store),
            "soon": lambda: expected_prefix(lock, store),
            "uv": lambda: _uv_environment(env, bench, ["--offline", "--find-links", bench.wheels, "--no-index"]),
        },
        bench.rounds,
    )
    _row(
        "environment is there: `prefix_for` / `uv venv` + `uv pip sync`, cache warm", found["ours"], found["uv"], "50x"
    )
    _row("the same, files looked at while the host starts: `expected_prefix`", found["soon"], found["uv"], "50x")


def _locked(bench: _Bench) -> None:
    from stillrun_envs.request import EnvRequest
    from stillrun_envs.resolver import lock_for

    asked = bench.work / "asked.in"
    asked.write_text("\n".join(REQUEST))
    request = EnvRequest(pypi=REQUEST)
    found = _alternate(
        {
            "ours": lambda: lock_for(request, bench.store, base_python=Path(sys.executable)),
            "uv": lambda: _run([_uv(), "pip", "compile", "--quiet", "--generate-hashes", asked]),
        },
        bench.rounds,
    )
    _row("request unchanged: `lock_for` / `uv pip compile`, cache warm", found["ours"], found["uv"], "50x")


def _rebuilt(bench: _Bench) -> None:
    from stillrun_envs.prefix import drop_prefix, prefix_for

    store, lock = bench.store, bench.lock
    env, cache = bench.work / "cold", bench.work / "cold-cache"
    offline = ["--offline", "--no-index", "--find-links", bench.wheels, "--cache-dir", cache]
    found = _alternate(
        {
            "ours": lambda: prefix_for(lock, store),
            "uv": lambda: _uv_environment(env, bench, offline, fresh=False),
        },
        bench.rounds,
        before={
            "ours": lambda: drop_prefix(lock, store),
            "uv": lambda: _gone(env, cache),
        },
    )
    _row(
        "built offline from kept packages / `uv venv` + `uv pip sync --find-links`, empty cache",
        found["ours"],
        found["uv"],
        "at most 1.2 of uv",
    )


def _linked(bench: _Bench) -> None:
    """What a shared cache of unpacked packages would save, and what it gives up."""
    from stillrun_envs.prefix import drop_prefix, prefix_for

    store, lock = bench.store, bench.lock
    env, copy = bench.work / "hard", bench.work / "copy"
    source = prefix_for(lock, store).path
    shutil.copytree(source, copy, symlinks=True)
    found = _alternate(
        {
            "ours": lambda: prefix_for(lock, store),
            "link": lambda: shutil.copytree(copy, env, symlinks=True, copy_function=os.link),
        },
        bench.rounds,
        before={
            "ours": lambda: drop_prefix(lock, store),
            "link": lambda: _gone(env),
        },
    )
    _row(
        "built offline / `os.link` of the same files (shared inodes: we do not)",
        found["ours"],
        found["link"],
        "2x of links: not sought",
    )


def _verified(bench: _Bench) -> None:
    from stillrun_envs.prefix import prefix_for, verify_prefix

    prefix = prefix_for(bench.lock, bench.store)
    files = sorted(str(path) for path in prefix.path.rglob("*") if path.is_file() and not path.is_symlink())
    listed = bench.work / "files"
    listed.write_text("\0".join(files))
    found = _alternate(
        {
            "ours": lambda: verify_prefix(prefix, bench.store),
            "sums": lambda: _run(["xargs", "-0", "-a", listed, "sha256sum"]),
            "stat": lambda: verify_prefix(prefix, bench.store, full=False),
        },
        bench.rounds,
    )
    _row("every file read and hashed / `sha256sum` of them", found["ours"], found["sums"], "at most 2 of sha256sum")
    print(
        f"| every file looked at ({len(files):,} files) | {found['stat'] * 1e6 / len(files):.2f} µs a file | | | 10 µs |",
        flush=True,
    )


def _conda(bench: _Bench) -> None:
    """The conda half, of a channel made of this very Python."""
    from benchmarks.channel import archives, conda_lock, raw_install
    from stillrun_envs.prefix import drop_prefix, prefix_for

    files = archives(bench.work / "channel")
    lock = conda_lock(bench.store, files)
    env, cache = bench.work / "raw", bench.work / "raw-cache"
    found = _alternate(
        {
            "ours": lambda: prefix_for(lock, bench.store),
            "raw": lambda: raw_install(files, env, cache),
        },
        bench.rounds,
        before={
            "ours": lambda: drop_prefix(lock, bench.store),
            "raw": lambda: _gone(env, cache),
        },
    )
    _row(
        "conda packages built offline / py-rattler `install`, empty cache",
        found["ours"],
        found["raw"],
        "at most 1.2 of rattler",
    )


def _overlapping(bench: _Bench) -> None:
    from stillrun_envs.lock import read_lock
    from stillrun_envs.request import EnvRequest
    from stillrun_envs.resolver import lock_for

    with Store.open(bench.work / "twenty") as store:
        archives: dict[str, int] = {}
        asked = 0
        for flow in range(20):
            chosen = (
                f"{name}=={versions[flow // 3**place % 3]}"
                for place, (name, versions) in enumerate(OVERLAPPING.items())
            )
            lock = read_lock(store, lock_for(EnvRequest(pypi=tuple(chosen)), store, base_python=Path(sys.executable)))
            sizes = {str(one.digest): one.size for one in lock.packages} | {str(lock.python.digest): lock.python.size}
            archives |= sizes
            asked += sum(sizes.values())
        store.sync()
        kept = sum(path.stat().st_size for path in (store.root / "objects").rglob("*") if path.is_file())
        kept += sum(path.stat().st_size for path in (store.root / "packs").rglob("*"))
    distinct = sum(archives.values())
    print(
        f"| 20 flows, overlapping environments: bytes kept / distinct archives | {kept / 1e6:.1f} MB | {distinct / 1e6:.1f} MB "
        f"| {kept / distinct:.3f} of it; each flow its own: {asked / 1e6:.0f} MB | 1.0 |",
        flush=True,
    )


def _uv_environment(env: Path, bench: _Bench, options: list[str | Path], *, fresh: bool = True) -> None:
    """What a person does with uv: an environment, then its packages."""
    if fresh:
        _gone(env)
    _run([_uv(), "venv", "--quiet", "--python", sys.executable, env])
    _run([_uv(), "pip", "sync", "--quiet", "--python", env / "bin" / "python", *options, bench.names])


def _alternate(acts: Mapping[str, Act], rounds: int, before: Mapping[str, Act] | None = None) -> dict[str, float]:
    """The median seconds of each, taken in turn after one round untimed."""
    samples: dict[str, list[float]] = {name: [] for name in acts}
    for turn in range(rounds + 1):
        for name, act in acts.items():
            (before or {}).get(name, lambda: None)()
            begun = time.perf_counter()
            act()
            if turn:
                samples[name].append(time.perf_counter() - begun)
    return {name: statistics.median(taken) for name, taken in samples.items()}


def _run(words: list[str | Path]) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    ended = subprocess.run([str(word) for word in words], env=kept, capture_output=True, text=True)
    if ended.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, words))[:300]} failed:\n{ended.stderr[-2000:]}")


def _uv() -> str:
    from uv import find_uv_bin

    return os.fsdecode(find_uv_bin())


def _gone(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _row(what: str, ours: float, theirs: float, goal: str) -> None:
    unit, scale = ("ms", 1000.0) if ours < 0.1 else (_SECONDS, 1.0)
    ratio = f"{theirs / ours:.1f}x" if theirs > 2 * ours else f"{ours / theirs:.2f} of it"
    print(f"| {what} | {ours * scale:.3g} {unit} | {theirs:.3g} s | {ratio} | {goal} |", flush=True)
