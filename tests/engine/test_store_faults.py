"""A store that is killed before any change of its files, or whose disk refuses any of them, loses nothing that is needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import Commands
from tests.engine import store_work
from tests.engine.test_bundle_import import FLOW

from stillrun_engine.soundness import check_store, opened_to_check
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

CHANGES = (
    "openat,write,writev,pwrite64,rename,renameat,renameat2,unlink,unlinkat,rmdir,fsync,fdatasync,ftruncate,"
    "mkdir,mkdirat,chmod,fchmod,fchmodat"
)
WRITES = frozenset({"write", "writev", "pwrite64", "fsync", "fdatasync"})
_CALL = re.compile(r"^(\d+)\s+(\w+)\(")
Point = tuple[str, int]


def _strace_works() -> bool:
    strace = shutil.which("strace")
    return (
        strace is not None and subprocess.run([strace, "-o", os.devnull, "true"], capture_output=True).returncode == 0
    )


needs_strace = pytest.mark.skipif(
    not _strace_works(), reason="strace is not there, or may not trace, so that no call can be met"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    made = Commands(folder, folder / "store")
    made.write("tiny.py", FLOW)
    run = made.run("tiny.py")
    assert made("export", run, "-o", "tiny.bundle", "--without", "packages").code == 0
    return folder / "tiny.bundle"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("base") / "store"
    store_work.prepared(root)
    return root


class Bench:
    """One work on copies of one store."""

    def __init__(self, base: Path, bundle: Path, folder: Path, work: str) -> None:
        self.base, self.folder, self.work = base, folder, work
        self.bundle = str(bundle) if work == "import" else ""
        with Store.open(base) as store:
            self.refs = dict(store.refs.names())
            record = self.refs["tests/needed"]
            names = [record, *map(Digest, store.get_record(record, "test")["objects"])]
            self.needed = {digest: store.get(digest) for digest in names}

    def copy(self) -> Path:
        root = self.folder / "store"
        shutil.rmtree(root, ignore_errors=True)
        return Path(shutil.copytree(self.base, root))

    def traced(self, root: Path, *options: str) -> subprocess.CompletedProcess[str]:
        words = ["strace", "-f", "-y", "-o", str(self.folder / "trace"), *options]
        command = [sys.executable, "-m", "tests.engine.store_work", str(root), self.work, self.bundle]
        variables = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [*words, *command], cwd=Path(__file__).parents[2], env=variables, capture_output=True, text=True
        )

    def points(self) -> list[Point]:
        """Each call of the main thread that changes a file of the store: its name, and how many of that name came before."""
        root = self.copy()
        done = self.traced(root, "-e", f"trace={CHANGES}")
        assert done.returncode == 0, done.stdout + done.stderr
        found: list[Point] = []
        counts: dict[str, int] = {}
        first = None
        for line in (self.folder / "trace").read_text(errors="replace").splitlines():
            call = _CALL.match(line)
            if call is None or call[1] != (first := first or call[1]):
                continue
            counts[call[2]] = counts.get(call[2], 0) + 1
            if str(root) in line and (call[2] != "openat" or "O_CREAT" in line or "O_TRUNC" in line):
                found.append((call[2], counts[call[2]]))
        return found

    def whole(self, root: Path) -> None:
        """Nothing that is needed is lost, and nothing is damaged; a writer may have left half an entry."""
        with opened_to_check(root) as (store, before):
            problems = [one.finding for one in check_store(store, before, full=True).problems]
            assert [one for one in problems if not (one.kind == "stray" and one.place.startswith("packs/"))] == []
            assert self.refs.items() <= dict(store.refs.names()).items()
            assert {digest: store.get(digest) for digest in self.needed} == self.needed

    def again(self, root: Path) -> None:
        """The same work succeeds now, and leaves a sound store."""
        assert store_work.main(str(root), self.work, self.bundle) == 0
        self.whole(root)


def kill_everywhere(bench: Bench, step: int) -> None:
    points = bench.points()
    killed = 0
    for name, number in points[::step]:
        root = bench.copy()
        done = bench.traced(root, "-e", f"inject={name}:error=EINTR:signal=SIGKILL:when={number}")
        assert done.returncode == -9, (name, number, done.stdout, done.stderr)
        killed += 1
        bench.whole(root)
        bench.again(root)
    print(f"{bench.work}: killed before {killed} of {len(points)} calls")
    assert killed == len(points[::step]) > 3


def refuse_everywhere(bench: Bench, step: int, errors: tuple[str, ...]) -> None:
    points = [point for point in bench.points() if point[0] in WRITES]
    told = 0
    for place, (name, number) in enumerate(points[::step]):
        error = errors[place % len(errors)]
        root = bench.copy()
        done = bench.traced(root, "-e", f"inject={name}:error={error}:when={number}")
        assert done.returncode in (0, 2), (name, number, error, done.stdout, done.stderr)
        told += done.returncode == 2
        bench.whole(root)
        bench.again(root)
    print(f"{bench.work}: refused {len(points[::step])} of {len(points)} writes, {told} of them told")
    assert len(points) > 2


WORK = sorted(store_work.WORK)


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize("work", WORK)
def test_killed_before_every_change_it_loses_nothing(base: Path, bundle: Path, tmp_path: Path, work: str) -> None:
    kill_everywhere(Bench(base, bundle, tmp_path, work), 1)


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("work", WORK)
def test_refused_any_write_it_says_so_and_loses_nothing(
    base: Path, bundle: Path, tmp_path: Path, work: str, error: str
) -> None:
    refuse_everywhere(Bench(base, bundle, tmp_path, work), 1, (error,))


@needs_strace
def test_killed_and_refused_here_and_there_it_loses_nothing(base: Path, tmp_path: Path) -> None:
    kill_everywhere(Bench(base, Path(), tmp_path, "gc"), 16)
    refuse_everywhere(Bench(base, Path(), tmp_path, "gc"), 16, ("ENOSPC", "EIO"))
