"""A store that is killed before any change of its files, or whose disk refuses any of them, loses nothing that is needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine import store_bench, store_work
from tests.engine.store_bench import Bench

WRITES = frozenset({"write", "writev", "pwrite64", "fsync", "fdatasync"})
OTHERS = frozenset({"openat", "rename", "link", "linkat", "mkdir", "ftruncate"})
"""Calls that a full or failing disk may refuse as well."""

needs_strace = pytest.mark.skipif(
    not store_bench.strace_works(), reason="strace is not there, or may not trace, so that no call can be met"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_bench.prepared(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without runs: made in a moment."""
    place = tmp_path_factory.mktemp("small")
    store_work.prepared(place / "store")
    return place


def kill_everywhere(bench: Bench, step: int) -> None:
    points = bench.points()
    killed = 0
    for name, number in points[::step]:
        place = bench.copy()
        done = bench.traced(place, "-e", f"inject={name}:error=EINTR:signal=SIGKILL:when={number}")
        assert done.returncode == -9, (name, number, done.stdout, done.stderr)
        killed += 1
        bench.whole(place, done.stdout.splitlines())
        bench.again(place)
    print(f"{bench.work}: killed before {killed} of {len(points)} calls")
    assert killed == len(points[::step]) > 3


def refuse_everywhere(bench: Bench, step: int, errors: tuple[str, ...], calls: frozenset[str] = WRITES) -> None:
    points = [point for point in bench.points() if point[0] in calls]
    told = 0
    for place_, (name, number) in enumerate(points[::step]):
        error = errors[place_ % len(errors)]
        place = bench.copy()
        done = bench.traced(place, "-e", f"inject={name}:error={error}:when={number}")
        assert done.returncode in (0, 2), (name, number, error, done.stdout, done.stderr)
        assert done.stderr == "", (name, number, error, done.stderr)
        told += done.returncode == 2
        bench.whole(place, done.stdout.splitlines())
        bench.again(place)
    print(f"{bench.work}: {'/'.join(errors)} at {len(points[::step])} of {len(points)} calls, {told} of them told")
    assert len(points) > 2 or calls != WRITES


WORK = sorted(store_work.WORK)


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize("work", WORK)
def test_killed_before_every_change_it_loses_nothing(base: Path, tmp_path: Path, work: str) -> None:
    kill_everywhere(Bench(base, tmp_path, work), 1)


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize("errors", [("ENOSPC", "EDQUOT"), ("EIO",)], ids=["full", "broken"])
@pytest.mark.parametrize("work", WORK)
def test_refused_any_write_it_says_so_and_loses_nothing(
    base: Path, tmp_path: Path, work: str, errors: tuple[str, ...]
) -> None:
    refuse_everywhere(Bench(base, tmp_path, work), 1, errors)


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize("work", WORK)
def test_refused_any_new_name_it_says_so_and_loses_nothing(base: Path, tmp_path: Path, work: str) -> None:
    refuse_everywhere(Bench(base, tmp_path, work), 1, ("ENOSPC", "EIO", "EDQUOT", "EACCES", "EROFS"), OTHERS)


@needs_strace
def test_killed_and_refused_here_and_there_it_loses_nothing(small_base: Path, tmp_path: Path) -> None:
    kill_everywhere(Bench(small_base, tmp_path, "gc"), 24)
    refuse_everywhere(Bench(small_base, tmp_path, "gc"), 24, ("ENOSPC", "EIO"))
