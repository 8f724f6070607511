"""One work of ``store_work`` on copies of a place, traced, stopped or refused at chosen calls; and what must hold then."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.conftest import Commands
from tests.engine import store_work
from tests.engine.test_bundle_import import FLOW

from stillrun_engine.remote_check import check_remote
from stillrun_engine.soundness import Problem, check_store, opened_to_check
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import ObjectCorrupt
from stillrun_snapshot.store import Store

CHANGES = (
    "openat,write,writev,pwrite64,rename,renameat,renameat2,unlink,unlinkat,rmdir,fsync,fdatasync,ftruncate,"
    "mkdir,mkdirat,chmod,fchmod,fchmodat,link,linkat"
)
_CALL = re.compile(r"^(\d+)\s+(\w+)\(")
_NAMED = re.compile(rb"sha256:[0-9a-f]{64}")
DAMAGED = 2
"""Objects that are damaged before they are mended."""
Point = tuple[str, int]
"""A call of the main thread: its name, and which of that name it is."""


def strace_works() -> bool:
    """Whether calls can be met here."""
    strace = shutil.which("strace")
    return (
        strace is not None and subprocess.run([strace, "-o", os.devnull, "true"], capture_output=True).returncode == 0
    )


def prepared(place: Path) -> Path:
    """Make a place with a store that has runs, garbage and things needed, and all that the works need beside it."""
    work = place / "work"
    work.mkdir(parents=True)
    made = Commands(work, place / "made")
    made.write("tiny.py", FLOW)
    for number, bundle in enumerate((store_work.KEPT, store_work.GOING, store_work.COMING)):
        run = made.run("tiny.py", "--size", str(number + 1), "--keep-packages", "none")
        assert made("export", run, "-o", place / bundle, "--without", "packages").code == 0
        if bundle == store_work.GOING:
            (place / "going").write_text(run)
    shutil.rmtree(made.store)
    shutil.rmtree(work)
    store_work.prepared(place / "store")
    store_work.with_runs(place)
    return place


class Bench:
    """One work on copies of one place."""

    def __init__(self, base: Path, folder: Path, work: str) -> None:
        self.base, self.folder, self.work = base, folder, work
        self.with_runs = (base / "going").exists()
        self.going = (base / "going").read_text() if self.with_runs else "none"
        with Store.open(base / "store") as store:
            refs = dict(store.refs.names())
            self.refs = {name: to for name, to in refs.items() if self.going not in name and name != "remotes/ours"}
            self.needed = reached(store, self.refs.values())

    def copy(self) -> Path:
        """The place anew."""
        place = self.folder / "place"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.base, place)
        if self.work == "repair":
            damage(place / "store")
        return place

    def traced(self, place: Path, *options: str) -> subprocess.CompletedProcess[str]:
        """Do the work below strace."""
        words = ["strace", "-f", "-y", "-o", str(self.folder / "trace"), *options]
        command = [sys.executable, "-m", "tests.engine.store_work", str(place), self.work]
        variables = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [*words, *command], cwd=Path(__file__).parents[2], env=variables, capture_output=True, text=True
        )

    def points(self, *, opens: bool = False) -> list[Point]:
        """Each call of the main thread that changes a file of the place. opens: those that only open one as well."""
        place = self.copy()
        done = self.traced(place, "-e", f"trace={CHANGES}")
        assert done.returncode == 0, done.stdout + done.stderr
        found: list[Point] = []
        counts: dict[str, int] = {}
        first = None
        for line in (self.folder / "trace").read_text(errors="replace").splitlines():
            call = _CALL.match(line)
            if call is None or call[1] != (first := first or call[1]):
                continue
            counts[call[2]] = counts.get(call[2], 0) + 1
            changes = call[2] != "openat" or "O_CREAT" in line or "O_TRUNC" in line or opens
            if str(place) in line and changes:
                found.append((call[2], counts[call[2]]))
        return found

    def whole(self, place: Path, said: Sequence[str] = (), *, strict: bool = True) -> None:
        """Nothing that is needed or was said to be kept is lost, and nothing is damaged.

        A writer may have left half an entry. Without ``strict`` there may be damage that is told and that nothing needs.
        """
        mended = self.work != "repair" or "repair is done" in said
        with opened_to_check(place / "store") as (store, before):
            problems = check_store(store, before, full=True).problems
            bad = [one for one in problems if not harmless(one) and (strict or not tolerable(one))]
            assert bad == [] or not mended
            assert self.refs.items() <= dict(store.refs.names()).items()
            damaged = [digest for digest in self.needed if not is_sound(store, digest)]
            assert len(damaged) <= (0 if mended else DAMAGED), damaged
            if self.work != "begin":
                holds(store, said)
            if f"{self.work} is done" in said:
                self.finished(store, place)
        if self.work == "begin" and said:
            with Store.open(place / store_work.NEW, create=False) as store:
                holds(store, said)

    def finished(self, store: Store, place: Path) -> None:
        """What the work was to do is done."""
        if not self.with_runs:
            return
        heads = {name.split("/", 1)[1] for name, _ in store.refs.names("runs/")}
        assert (self.going in heads) == (self.work != "forget")
        assert len(heads) == 2 + (self.work in ("import", "pull")) - (self.work == "forget")
        if self.work == "push":
            checked = check_remote(store_work.remote_at(store, place, "ours"), whole=True)
            assert (checked.problems, checked.runs) == ((), 2)

    def again(self, place: Path, *, strict: bool = True) -> None:
        """The same work succeeds now, and leaves a sound store; so does cleaning up."""
        assert store_work.main(str(place), self.work) == 0
        assert store_work.main(str(place), "gc") == 0
        self.whole(place, [f"{self.work} is done"], strict=strict)


def is_sound(store: Store, digest: Digest) -> bool:
    """Whether the object can be read."""
    try:
        store.verify(digest)
    except ObjectCorrupt:
        return False
    return True


def holds(store: Store, said: Iterable[str]) -> None:
    """The refs of tests are what was said, and all that they lead to is whole."""
    refs = dict(store.refs.names("tests/"))
    for line in said:
        if line.startswith("tests/"):
            name, digest = line.split()
            assert refs[name] == digest
    for name, record in refs.items():
        if name != "tests/needed":
            for digest in store.get_record(record, "test")["objects"]:
                store.verify(digest)


def harmless(problem: Problem) -> bool:
    """Half an entry at the end of a pack."""
    return problem.finding.kind == "stray" and problem.finding.place.startswith("packs/")


def tolerable(problem: Problem) -> bool:
    """Damage that is told, that no run needs, and that is no damage to the log."""
    return problem.finding.kind in ("damaged", "index", "cache", "stray") and not problem.needed_by


def reached(store: Store, digests: Iterable[Digest]) -> dict[Digest, bytes]:
    """All that is held of what these name, and what that names."""
    found: dict[Digest, bytes] = {}
    waiting = list(digests)
    while waiting:
        digest = waiting.pop()
        if digest in found or store.absent([digest]):
            continue
        found[digest] = data = store.get(digest)
        if data.startswith(b'{"'):
            waiting += [Digest(name.decode()) for name in _NAMED.findall(data)]
    return found


def damage(root: Path) -> None:
    """Change a byte in the file of an artifact, and one in the pack of the runs' records: their bundles have them whole."""
    known = {b"n" * store_work.LARGE, b"g" * store_work.LARGE}
    files = [path for path in (root / "objects").glob("*/*") if path.stat().st_size < 2 * store_work.LARGE]
    artifact = next(path for path in sorted(files) if path.read_bytes() not in known)
    pack = max((root / "packs").iterdir(), key=lambda path: path.stat().st_size)
    for path in (artifact, pack):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.chmod(0o600)
        path.write_bytes(data)
        path.chmod(0o444)
