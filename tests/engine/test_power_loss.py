"""Whatever a loss of power leaves of a store, what was said to be kept is whole, and the next work goes on."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine import power, store_bench, store_work
from tests.engine.store_bench import Bench

SEEDS = int(os.environ.get("POWER_SEEDS", "1"))
"""Disks by chance for each step, besides the plain ones."""

needs_strace = pytest.mark.skipif(
    not store_bench.strace_works(), reason="strace is not there, or may not trace, so that nothing can be recorded"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_bench.prepared(tmp_path_factory.mktemp("base"))


def recorded(bench: Bench) -> power.Recording:
    place = bench.copy()
    recording = power.Recording(place)
    done = bench.traced(place, "-xx", "-s", "99999999", "-e", f"trace={power.CALLS}")
    assert done.returncode == 0, done.stdout + done.stderr
    with open(bench.folder / "trace") as trace:
        recording.read(trace)
    assert dict(recording.end().files()) == files_of(place)
    return recording


def files_of(place: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(place).as_posix(): path.read_bytes() if path.is_file() else None
        for path in place.rglob("*")
        if not path.name.endswith("-shm")
    }


def lose_power_everywhere(bench: Bench, step: int, seeds: range) -> None:
    recording = recorded(bench)
    place, seen, made = bench.folder / "place", set[tuple[str, tuple[str, ...]]](), 0
    points = recording.points(step)
    for point in points:
        said = recording.said(point)
        for name, disk in recording.states(point, seeds):
            key = (disk.digest(), tuple(said))
            if key in seen:
                continue
            seen.add(key)
            shutil.rmtree(place, ignore_errors=True)
            disk.make(place)
            made += 1
            try:
                bench.whole(place, said, strict=False)
                bench.again(place, strict=False)
            except BaseException as error:
                error.add_note(f"{bench.work}: the power went before step {point}, and left {name}")
                raise
    print(f"{bench.work}: {len(recording.steps)} steps, {made} different disks at {len(points)} points")
    assert made > len(points) // 2


@pytest.fixture
def fast(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: what is asked here is what files hold, not how long a disk takes."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="stillrun-power-", dir=memory))
    yield folder
    shutil.rmtree(folder)


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize("work", [name for name in store_work.WORK if name not in ("forget", "repair")])
def test_after_a_loss_of_power_at_any_step_all_that_was_kept_is_whole(base: Path, fast: Path, work: str) -> None:
    """POWER_SEEDS says how many disks by chance are made for each step."""
    lose_power_everywhere(Bench(base, fast, work), 1, range(SEEDS))


@needs_strace
def test_after_a_loss_of_power_here_and_there_all_that_was_kept_is_whole(fast: Path) -> None:
    store_work.prepared(fast / "base" / "store")
    lose_power_everywhere(Bench(fast / "base", fast, "put"), 24, range(1))
