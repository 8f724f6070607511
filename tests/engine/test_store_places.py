"""Stores of another user, on media that are full, or of which a part is: what can be done is, the rest is told in a sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.engine import store_work
from tests.engine.store_bench import Bench

from stillrun_snapshot.errors import StillrunError, StoreReadOnly
from stillrun_snapshot.store import Store

NOBODY = 65534
WORK = ("put", "gc", "pack", "pack and gc", "reindex", "begin")
"""What needs no runs."""


@pytest.fixture
def place() -> Iterator[Path]:
    """A store that others can read, in a folder that they can reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    store_work.prepared(folder / "store")
    yield folder
    shutil.rmtree(folder)


def as_nobody(work: Callable[[], object]) -> None:
    """Do it in a process of another user."""
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def refused(work: Callable[[], object], kind: type[StillrunError] = StillrunError) -> None:
    with pytest.raises(kind) as caught:
        work()
    print(caught.value)
    assert str(caught.value).endswith(".") and "cannot be written" in str(caught.value)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@needs_root
def test_a_store_of_another_user_is_read_and_not_written(place: Path) -> None:
    bench = Bench(place, place, "put")

    def work() -> None:
        with Store.open(place / "store") as store:
            assert {digest: store.get(digest) for digest in bench.needed} == bench.needed
            assert dict(store.refs.names()) == bench.refs
            refused(lambda: store.put(b"new"), StoreReadOnly)
        for name in ("put", "gc", "pack", "reindex"):
            refused(lambda name=name: store_work.WORK[name](place), StoreReadOnly)  # type: ignore[misc]  # a default

    as_nobody(work)
    bench.whole(place)


@needs_root
@pytest.mark.parametrize("given", ["", "packs", "objects", "tmp", "locks"])
def test_a_store_of_which_only_a_part_is_writable_says_what_is_not(place: Path, given: str) -> None:
    """As one is left by somebody who ran a command as another user, or mended permissions of some folders only."""
    (place / "store").chmod(0o777)
    for path in place.glob(f"store/{given}") if given else ():
        path.chmod(0o777)
    bench = Bench(place, place, "put")

    def work() -> None:
        with Store.open(place / "store") as store:
            assert {digest: store.get(digest) for digest in bench.needed} == bench.needed
        for name in ("put", "gc", "pack", "reindex"):
            with suppress(StillrunError):
                store_work.WORK[name](place)

    as_nobody(work)
    bench.whole(place)
    bench.again(place)


FULL = """
import sys
from pathlib import Path
from tests.engine import store_work
print(store_work.main(sys.argv[1], sys.argv[2]))
"""
IN_TMPFS = 'mount -t tmpfs -o size="$1" none "$2" && {before} && "$3" -c "$4" "$5" "$6" && {after}'


def _may_mount() -> bool:
    return (
        shutil.which("unshare") is not None
        and subprocess.run(
            ["unshare", "-m", "mount", "-t", "tmpfs", "none", tempfile.gettempdir()], capture_output=True
        ).returncode
        == 0
    )


needs_mount = pytest.mark.skipif(not _may_mount(), reason="this user may not mount a small file system")


def in_tmpfs(size: str, mounted: Path, place: Path, work: str, before: str, after: str = "true") -> list[str]:
    script = IN_TMPFS.format(before=before, after=after)
    words = ["unshare", "-m", "sh", "-c", script, "sh", size, mounted, sys.executable, FULL, place, work]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


@needs_mount
@pytest.mark.parametrize("work", ["put", *(pytest.param(name, marks=pytest.mark.slow) for name in WORK[1:])])
@pytest.mark.parametrize("size", ["48k", "68k"])
def test_where_only_the_index_has_no_room_all_work_is_done(place: Path, work: str, size: str) -> None:
    """The index is a cache: what it cannot keep is found anew by the next one."""
    bench = Bench(place, place, work)
    small = place / "small"
    small.mkdir()
    for path in (place / "store").glob("catalog.sqlite*"):
        path.unlink()
    (place / "store" / "catalog.sqlite").symlink_to(small / "catalog.sqlite")
    assert in_tmpfs(size, small, place, work, "true")[-1] == "0"
    (place / "store" / "catalog.sqlite").unlink()
    bench.whole(place, [f"{work} is done"])


@needs_mount
@pytest.mark.slow
@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("room", range(0, 500, 72))
def test_on_a_disk_that_is_full_it_says_so_and_keeps_what_it_had(place: Path, work: str, room: int) -> None:
    """room: KiB beyond what the store takes."""
    bench = Bench(place, place, work)
    disk = place / "disk"
    disk.mkdir()
    used = sum(-(-path.stat().st_size // 4096) * 4 + 4 for path in (place / "store").rglob("*"))
    copied = f'cp -a "{place}/store" "{disk}/store"'
    kept = f'rm -r "{place}/store" && cp -a "{disk}/store" "{place}/store"'
    told = in_tmpfs(f"{used + 64 + room}k", disk, disk, work, copied, kept)
    assert told[-1] == "0" or (told[-1] == "2" and "no room left" in told[-2]), told
    bench.whole(place, [line for line in told if line.startswith("tests/") and work != "begin"])
    bench.again(place)
