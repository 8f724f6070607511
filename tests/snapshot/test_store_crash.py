"""What is left of a store when a writer is killed, the disk is full, or nothing may be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stillrun_snapshot.digest import digest_of
from stillrun_snapshot.errors import StoreFull
from stillrun_snapshot.garbage import find_garbage
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import LOOSE_MIN, Store

RunPython = Callable[..., "subprocess.Popen[str]"]

WRITER = """
import sys
from pathlib import Path
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store
name, size = sys.argv[2], int(sys.argv[3])
with Store.open(Path(sys.argv[1])) as store:
    for index in range(int(sys.argv[4])):
        small = store.put(b"%s %d" % (name.encode(), index))
        large = store.put((b"%d" % index).ljust(size, b"x"))
        record = store.put_record({"schema": "stillrun/test/1", "objects": [small, large]})
        store.refs.set([RefChange(f"{name}/{index}", record)])
        print(index, record, flush=True)
"""


def assert_whole(root: Path, finished: dict[str, str]) -> None:
    with Store.open(root) as store:
        refs = dict(store.refs.names())
        assert finished.items() <= refs.items()
        for record in refs.values():
            for digest in store.get_record(record, "test")["objects"]:
                store.verify(digest)
        for digest in store.digests():
            store.verify(digest)
        assert store.refs.check() == len(refs)


@pytest.mark.parametrize("size", [100, 300_000])
@pytest.mark.parametrize("after", [1, 7, 40])
def test_a_killed_writer_leaves_all_it_had_finished(tmp_path: Path, python: RunPython, size: int, after: int) -> None:
    root = tmp_path / "s"
    process = python(WRITER, root, "w", size, 100_000)
    assert process.stdout is not None
    finished = {}
    for _ in range(after):
        index, record = process.stdout.readline().split()
        finished[f"w/{index}"] = record
    process.kill()
    process.wait()
    assert_whole(root, finished)
    left = [path.name for path in (root / "packs").glob("*.open")]
    assert len(left) == 1
    with Store.open(root) as store:
        store.put(b"the next writer")
        assert (root / "packs" / left[0].removesuffix(".open")).exists()
    assert list((root / "packs").glob("*.open")) == []
    assert_whole(root, finished)


@pytest.mark.parametrize("lost", [slice(-20, None), slice(-25, -20), slice(-110, -90), slice(0, None)])
def test_what_lost_its_bytes_with_the_power_is_not_taken_for_held(tmp_path: Path, lost: slice) -> None:
    """As file systems leave it: the length of an open pack is on the disk, and the bytes of what was not synced are not."""
    root, data = tmp_path / "s", [b"object %d" % number * 3 for number in range(3)]
    child = os.fork()
    if not child:
        store = Store.open(root)
        for each in data:
            store.put(each)
        os._exit(0)
    os.waitpid(child, 0)
    (pack,) = (root / "packs").iterdir()
    changed = bytearray(pack.read_bytes())
    changed[lost] = bytes(len(changed[lost]))
    pack.chmod(0o600)
    pack.write_bytes(changed)
    with Store.open(root) as store:
        for each in data:
            store.refs.set([RefChange(f"r/{digest_of(each)[-5:]}", store.put(each))])
    with Store.open(root) as store:
        assert {store.get(digest) for _, digest in store.refs.names()} == set(data)
        assert len(list(store.digests())) == 3
        assert not find_garbage(store, grace_s=-1).dead_packs


@pytest.mark.parametrize("left", [b"", bytes(LOOSE_MIN)])
def test_a_file_that_lost_its_bytes_with_the_power_is_absent_and_put_anew(tmp_path: Path, left: bytes) -> None:
    """As file systems leave one that was renamed and not synced; what the index says of it must not come first."""
    data = b"x" * LOOSE_MIN
    with Store.open(tmp_path / "s") as store:
        digest = store.put(data)
        path = store.locate(digest).path
    assert path is not None
    with Store.open(tmp_path / "s") as store:
        assert store.catalog.seen(digest) is None, "it was never synced"
        path.chmod(0o600)
        path.write_bytes(left)
        assert not store.has(digest)
        assert store.absent([digest]) == {digest}
        store.refs.set([RefChange("a", store.put(data))])
        assert not store.absent([digest])
    with Store.open(tmp_path / "s") as store:
        assert store.get(digest) == data
        assert store.catalog.seen(digest) is not None


def test_two_writers_at_once_lose_nothing(tmp_path: Path, python: RunPython) -> None:
    root = tmp_path / "s"
    processes = [python(WRITER, root, name, 70_000, 40) for name in ("one", "two", "two-more")]
    finished = {}
    for process, name in zip(processes, ("one", "two", "two-more"), strict=True):
        output, complaint = process.communicate()
        assert process.returncode == 0, complaint
        for line in output.splitlines():
            index, record = line.split()
            finished[f"{name}/{index}"] = record
    assert len(finished) == 120
    assert_whole(root, finished)


def test_a_torn_entry_at_the_end_of_a_pack_is_not_there(tmp_path: Path, python: RunPython) -> None:
    root = tmp_path / "s"
    process = python(WRITER, root, "w", 100, 100_000)
    assert process.stdout is not None
    line = process.stdout.readline().split()
    process.kill()
    process.wait()
    (pack,) = (root / "packs").iterdir()
    pack.chmod(0o644)
    for cut in range(1, 70, 7):
        os.truncate(pack, pack.stat().st_size - cut)
        with Store.open(root) as store:
            for digest in store.digests():
                store.verify(digest)
    assert line


FILLER = """
import os, resource, sys
from pathlib import Path
from stillrun_snapshot.errors import StoreFull
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store
store = Store.open(Path(sys.argv[1]))
first = store.put(b"first")
store.refs.set([RefChange("first", first)])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
kept, told = [], []
def attempt(work):
    try:
        kept.append(work())
    except StoreFull as error:
        told.append(str(error))
source = Path(sys.argv[2])
attempt(lambda: store.put(bytes(300_000)))
attempt(lambda: store.put(bytes(5_000_000)))
attempt(lambda: store.put_file(source))
for index in range(100):
    attempt(lambda: store.put((b"%d" % index) * 2000))
for index in range(2000):
    attempt(lambda: store.refs.set([RefChange("r/%d" % index, first)]))
assert len(told) > 3 and all("no room left" in text and "try again" in text for text in told), told
assert os.listdir(store.root / "tmp") == []
refs = len(dict(store.refs.names()))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
again = store.put(bytes(300_000))
store.refs.set([RefChange("again", again)])
store.close()
print(refs + 1)
for digest in kept:
    if digest:
        print(digest)
"""


def test_a_full_disk_is_told_and_the_store_is_whole(tmp_path: Path, python: RunPython) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(250_000))
    process = python(FILLER, tmp_path / "s", source)
    output, complaint = process.communicate()
    assert process.returncode == 0, complaint
    refs, *kept = output.split()
    with Store.open(tmp_path / "s") as store:
        assert len(kept) > 10
        assert {*kept, digest_of(b"first"), digest_of(bytes(300_000))} == set(store.digests())
        for digest in store.digests():
            store.verify(digest)
        assert len(dict(store.refs.names())) == int(refs) == store.refs.check()


READER = """
import sys
from pathlib import Path
from stillrun_snapshot.errors import StoreReadOnly
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store
with Store.open(Path(sys.argv[1]), create=False) as store:
    refs = dict(store.refs.names())
    assert list(refs) == ["a"], refs
    assert len(store.get(refs["a"])) == 5 and len(list(store.digests())) == 2
    for digest in store.digests():
        store.checked(digest)
    for attempt in (
        lambda: store.put(b"new"),
        lambda: store.put(bytes(100_000)),
        lambda: store.put(bytes(5_000_000)),
        lambda: store.put_file(Path(sys.executable)),
        lambda: store.refs.set([RefChange("b", refs["a"])]),
        lambda: store.scratch("x"),
        lambda: store.cache_dir("trees"),
    ):
        try:
            attempt()
        except StoreReadOnly as error:
            assert "cannot be written" in str(error) and "writable" in str(error), error
        else:
            raise AssertionError("written to a read-only store")
    assert store.put(b"small") == refs["a"]
print("read")
"""


@pytest.mark.parametrize("catalog", [True, False])
def test_a_store_on_read_only_media_is_read(tmp_path: Path, catalog: bool) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("this user may not make a mount namespace, so nothing can be mounted read-only")
    root = tmp_path / "s"
    with Store.open(root) as store:
        store.refs.set([RefChange("a", store.put(b"small"))])
        store.put(b"x" * 100_000)
    if not catalog:
        (root / "catalog.sqlite").unlink()
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", str(root), sys.executable, READER]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "read\n", done.stderr


def test_a_full_disk_leaves_no_half_made_store(tmp_path: Path, python: RunPython) -> None:
    script = """
import resource, sys
from pathlib import Path
from stillrun_snapshot.errors import StoreFull
from stillrun_snapshot.store import Store
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    Store.open(Path(sys.argv[1]))
except StoreFull as error:
    print("full")
"""
    output, complaint = python(script, tmp_path / "s").communicate()
    assert output == "full\n", complaint
    assert StoreFull.exit_code == 2
    with Store.open(tmp_path / "s") as store:
        assert store.get(store.put(b"x")) == b"x"
