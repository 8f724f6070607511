"""``store pack`` killed before any call that changes something, refused by the disk, and beside writers and readers."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.packing import pack_store
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

RunPython = Callable[..., "subprocess.Popen[str]"]

PACK = """
import sys, time
from pathlib import Path
from stillrun_snapshot import _block_writer
from stillrun_snapshot.errors import StillrunError
from stillrun_snapshot.packing import pack_store
_block_writer.PACK_TARGET = 60_000  # several packs
try:
    done = pack_store(Path(sys.argv[1]), older_than_ns=time.time_ns() + 10**9)
    print("packed", done.removed)
except StillrunError as error:
    print("told", error)
"""
CALLS = (
    "write,writev,pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,ftruncate,mkdir,openat,flock,"
    "fchmod,chmod,fallocate"
)
strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace counts and stops the calls")


def fill(root: Path) -> dict[Digest, bytes]:
    source = random.Random(3)
    rows = b"".join(b"%d,%d\n" % (i, i % 11) for i in range(30_000))
    model = {}
    for part in range(2):
        with Store.open(root) as store:
            for number in range(40):
                data = b"object %d of %d " % (number, part) * 20
                model[store.put(data)] = data
            data = source.randbytes(80_000)
            model[store.put(data)] = data
            data = rows + b"%d" % part
            model[store.put(data)] = data
            store.refs.set([RefChange(f"runs/a/{part}", digest_of(data))])
    return model


def assert_holds(root: Path, model: dict[Digest, bytes]) -> None:
    with Store.open(root) as store:
        assert set(store.digests()) == model.keys()
        assert {digest: store.get(digest) for digest in model} == model
        assert store.refs.check() == 2
        assert {store.refs.get("runs/a/0"), store.refs.get("runs/a/1")} <= model.keys()


def traced(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["strace", "-f", "-qq", "-o", str(root) + ".trace", *options, sys.executable, "-c", PACK, str(root)]
    return subprocess.run(command, capture_output=True, text=True)


def changing_calls(first: Path, root: Path) -> list[tuple[str, int]]:
    """The calls that change something in a copy of the store: name, and which of that name in the main thread it is."""
    shutil.copytree(first, root)
    done = traced(root, "-y", "-e", "trace=" + CALLS)
    assert done.stdout.startswith("packed "), done.stderr
    found, counts, main = [], Counter[str](), None
    for line in Path(str(root) + ".trace").read_text().splitlines():
        thread, _, rest = line.partition(" ")
        call = rest.strip().partition("(")[0]
        main = main or thread
        if thread != main or not call.isalnum():
            continue
        counts[call] += 1
        if str(root) in rest and (call != "openat" or "O_CREAT" in rest):
            found.append((call, counts[call]))
    shutil.rmtree(root)
    return found


@strace
@pytest.mark.slow
def test_killed_before_any_call_nothing_is_lost_and_the_next_call_packs(tmp_path: Path) -> None:
    model = fill(tmp_path / "first")
    root, reached = tmp_path / "killed", Counter[str]()
    calls = changing_calls(tmp_path / "first", root)
    for call, number in calls:
        shutil.copytree(tmp_path / "first", root)
        done = traced(root, "-e", f"inject={call}:signal=SIGKILL:when={number}")
        if done.returncode != 0:
            assert done.returncode in (-9, 137), done.stderr
            reached[call] += 1
        assert_holds(root, model)
        again = pack_store(root, older_than_ns=time.time_ns() + 10**9)
        assert not again.damaged and not list((root / "tmp").iterdir())
        assert_holds(root, model)
        assert not list((root / "objects").glob("*/*"))
        shutil.rmtree(root)
    print(f"killed at {reached.total()} of {len(calls)} calls: {dict(reached)}")
    assert reached.total() > len(calls) * 0.95  # SQLite does not write in the same steps each time


@strace
@pytest.mark.slow
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_refused_by_the_disk_at_any_call_nothing_is_lost_and_it_is_told(tmp_path: Path, error: str) -> None:
    model = fill(tmp_path / "first")
    root, told = tmp_path / "refused", 0
    calls = changing_calls(tmp_path / "first", root)
    for call, number in calls:
        if call in ("flock", "unlinkat"):
            continue  # which no full or broken disk refuses
        shutil.copytree(tmp_path / "first", root)
        done = traced(root, "-e", f"inject={call}:error={error}:when={number}")
        assert "Traceback" not in done.stderr, (call, number, done.stderr)
        told += done.stdout.startswith("told ")
        assert_holds(root, model)
        pack_store(root, older_than_ns=time.time_ns() + 10**9)
        assert_holds(root, model)
        shutil.rmtree(root)
    print(f"{error} at {len(calls)} calls, told {told} times")
    assert told > 20  # what the index cannot write it has in memory, and is not told of


FULL = """
import resource, sys, time
from pathlib import Path
from stillrun_snapshot.errors import StoreFull
from stillrun_snapshot.packing import pack_store
root = Path(sys.argv[1])
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
try:
    pack_store(root, older_than_ns=time.time_ns() + 10**9)
except StoreFull as error:
    print(error)
else:
    raise SystemExit("it had room")
assert list((root / "tmp").iterdir()) == []
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
assert pack_store(root, older_than_ns=time.time_ns() + 10**9).removed
"""


def test_a_full_disk_is_told_and_the_next_call_packs(tmp_path: Path, python: RunPython) -> None:
    model = fill(tmp_path / "s")
    process = python(FULL, tmp_path / "s")
    said, complaint = process.communicate()
    assert process.returncode == 0, complaint
    assert "has no room left" in said and "try again" in said
    assert_holds(tmp_path / "s", model)


WRITER = """
import sys
from pathlib import Path
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store
name = sys.argv[2]
for round_ in range(int(sys.argv[3])):
    with Store.open(Path(sys.argv[1])) as store:
        for index in range(20):
            each = round_ * 20 + index
            small = store.put(b"%s %d" % (name.encode(), each))
            shared = store.put(b"all have %d " % (each % 7) * 30_000)
            large = store.put((b"%s %d " % (name.encode(), each)) * 20_000)
            record = store.put_record({"schema": "stillrun/test/1", "objects": [small, shared, large]})
            store.refs.set([RefChange(f"{name}/{each}", record)])
    print("round", flush=True)
"""

READER = """
import sys
from pathlib import Path
from stillrun_snapshot.store import Store
with Store.open(Path(sys.argv[1])) as store:
    print("open", flush=True)
    count = 0
    while count < 3 or not Path(sys.argv[1] + ".stop").exists():
        for record in dict(store.refs.names()).values():
            for digest in store.get_record(record, "test")["objects"]:
                data = store.get(digest)
                assert store.size(digest) == len(data)
                with store.open_object(digest) as stream:
                    assert stream.read() == data
        count += 1
"""


def soak(root: Path, python: RunPython, writers: int, readers: int, rounds: int) -> Iterator[int]:
    Store.open(root).close()
    started = [python(WRITER, root, f"w{number}", rounds) for number in range(writers)]
    reading = [python(READER, root) for _ in range(readers)]
    while any(process.poll() is None for process in started):
        yield pack_store(root, older_than_ns=time.time_ns() + 10**9).removed
    Path(str(root) + ".stop").touch()
    for process in [*started, *reading]:
        _, complaint = process.communicate()
        assert process.returncode == 0, complaint
    yield pack_store(root, older_than_ns=time.time_ns() + 10**9).removed
    with Store.open(root) as store:
        names = dict(store.refs.names())
        assert len(names) == writers * rounds * 20
        for record in names.values():
            for digest in store.get_record(record, "test")["objects"]:
                store.verify(digest)


@pytest.mark.parametrize(("writers", "readers", "rounds"), [(2, 1, 3), pytest.param(8, 4, 12, marks=pytest.mark.slow)])
def test_beside_writers_and_readers_nothing_is_missing(
    tmp_path: Path, python: RunPython, writers: int, readers: int, rounds: int
) -> None:
    removed = list(soak(tmp_path / "s", python, writers, readers, rounds))
    print(f"packed {len(removed)} times, {sum(removed)} files replaced")
    assert sum(removed) > 0
